"""`livedub transcribe`: options, messages and exit codes. Where sound comes from stands in sound_sources."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError

from deployments.contracts.values import CONTAINER, RAW_BYTES
from deployments.media.reader import Damage
from deployments.media.targets import OutputRefused
from deployments.media.tracks import MediaInfo, MediaUnreadable, probe
from livedub.display import Display, say
from livedub.errors import DubError
from livedub.languages import UnknownLanguage, tag_of
from livedub.options import ServerUrl, Token
from livedub.sound_sources import Sound, SoundUnavailable, of_file, of_microphone, of_stdin
from livedub.transcribe_client import TranscribeClient
from livedub.transcript_outputs import TranscriptFormat, TranscriptOutput, format_of
from serve_app.protocol import TranscriptFinal, TranscriptionConfig

SOME_FAILED = 1
REFUSED = 2
INTERRUPTED = 130
STDIN, MICROPHONE = "-", "mic"


RawFormat = StrEnum("RawFormat", list(RAW_BYTES))  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be heard."""

    name: str
    """`-`, `mic`, or a file's."""
    info: MediaInfo | None
    """Of a file."""
    damage: Damage
    device: str | None
    realtime: bool

    async def sound(self, config: TranscriptionConfig) -> Sound:
        """It, opened."""
        if self.info is not None:
            return of_file(self.info, self.damage, realtime=self.realtime)
        if self.name == MICROPHONE:
            return await of_microphone(self.device)
        return of_stdin(config.format, config.sample_rate_hz, config.channels, config.frame_bytes)


def transcribe(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="Audio or video file, anything FFmpeg can read; - for standard input; mic."
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="OUT", help="Where to write; default: standard output."),
    ] = None,
    kind: Annotated[
        TranscriptFormat | None,
        typer.Option("--format", help="How to write it.", show_default="by the extension of OUT, else text"),
    ] = None,
    language: Annotated[
        str, typer.Option("--language", "--from", help="Language spoken in INPUT: a tag or a name.")
    ] = "en",
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="LANGUAGES", help="Translated, too, as es,pt; subtitles get a file for each."),
    ] = None,
    server: ServerUrl = "http://127.0.0.1:8000",
    token: Token = None,
    realtime: Annotated[
        bool,
        typer.Option(
            "--realtime", help="Send a file in real time, as it is spoken; default: as fast as the server takes it."
        ),
    ] = False,
    hint: Annotated[list[str] | None, typer.Option(help="A name or term to expect; may be repeated.")] = None,
    raw: Annotated[
        RawFormat | None,
        typer.Option(help="What standard input is.", show_default="a file, told by its bytes"),
    ] = None,
    rate: Annotated[int, typer.Option(help="Samples a second of --raw.")] = 16_000,
    channels: Annotated[int, typer.Option(help="Channels of --raw.")] = 1,
    device: Annotated[
        str | None,
        typer.Option(metavar="KIND:NAME", help="FFmpeg's name of the microphone, as pulse:default, alsa:hw:1."),
    ] = None,
    audio_track: Annotated[
        str | None,
        typer.Option(metavar="TRACK", help="Which sound of a file, by its number from 1 or its language."),
    ] = None,
    stream_id: Annotated[
        str | None,
        typer.Option("--stream-id", help="The session's name, where a token names streams; default: made up."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite outputs that exist.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress; warnings are shown.")] = False,
) -> None:
    """Caption a file, standard input or the microphone: INPUT goes to the server, out comes what is said.

    Text and JSON are written as words come, SRT and VTT at the end. Ctrl-C ends what is heard from a microphone; of a
    file, what was heard so far is written. Exit code: 0 all heard, 1 some of it failed, 2 nothing could be done, or
    not all, 130 interrupted.
    """
    try:
        languages = [tag_of(name) for name in (to or "").split(",") if name]
        asked = {"source_language": tag_of(language), "translate_to": languages, "domain_hints": hint or None}
        config = TranscriptionConfig.model_validate({**asked, **_layout(source, raw, rate, channels)})
        info = None if source in {STDIN, MICROPHONE} else probe(Path(source), audio_track)
        output = TranscriptOutput(format_of(kind, out), out, config.source_language, languages, force=force)
        client = TranscribeClient(server.split(","), config=config, token=token, stream_id=stream_id)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        _refuse(f"{'.'.join(map(str, first['loc']))}: {first['msg']}; got {first['input']!r}")
    except (DubError, MediaUnreadable, OutputRefused, UnknownLanguage) as error:
        _refuse(str(error))
    told = _Told(Source(source, info, Damage(), device, realtime), output)
    try:
        with output:
            asyncio.run(told.run(client, config, quiet=quiet))
    except (DubError, SoundUnavailable, MediaUnreadable) as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"Can't write {error.filename or 'the output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        _refuse("Interrupted", INTERRUPTED)
    if str(told.source.damage):
        say(f"{source} is damaged: {told.source.damage}; what could be read is transcribed")
    if told.interrupted and source != MICROPHONE:
        _refuse("Interrupted; what was heard so far is written", INTERRUPTED)
    if told.failures:
        say(f"{told.failures} stretches or translations failed, the last with {told.last_failure}")
        raise typer.Exit(SOME_FAILED)


def _layout(source: str, raw: RawFormat | None, rate_hz: int, channels: int) -> dict[str, object]:
    """Of the audio that is sent; a file is decoded here."""
    if source != STDIN:
        return {}
    if raw is None:
        return {"format": CONTAINER}
    return {"format": raw.value, "sample_rate_hz": rate_hz, "channels": channels}


class _Told:
    """One run."""

    def __init__(self, source: Source, output: TranscriptOutput) -> None:
        self.source = source
        self.failures = 0
        self.last_failure = ""
        self.interrupted = False
        self._output = output
        self._stop = asyncio.Event()

    async def run(self, client: TranscribeClient, config: TranscriptionConfig, *, quiet: bool) -> None:
        """To the end of the source, or until Ctrl-C."""
        sound = await self.source.sound(config)
        with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt)
        shown = quiet or (sys.stdout.isatty() and sys.stderr.isatty() and not self._output.paths)
        with Display(sound.total_s, lambda: "", quiet=shown) as display:
            async with client:
                reading = asyncio.create_task(self._read(client, display))
                try:
                    await self._send(client, sound.chunks, reading)
                    if reading.done():
                        await reading
                    summary = await client.end()
                    await reading
                finally:
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
        self._output.complete(summary)

    def _interrupt(self) -> None:
        self.interrupted = True
        self._stop.set()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)  # a second one ends it at once

    async def _send(
        self, client: TranscribeClient, chunks: AsyncGenerator[bytes, None], reading: asyncio.Task[None]
    ) -> None:
        """Until there is no more, it is enough, or what is heard can't be written."""
        stopped = asyncio.create_task(self._stop.wait())
        try:
            while not (stopped.done() or reading.done()):
                coming = asyncio.ensure_future(anext(chunks, None))
                await asyncio.wait([coming, stopped, reading], return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    with suppress(asyncio.CancelledError):
                        await coming
                elif (chunk := coming.result()) is not None:
                    await client.send(chunk)
                else:
                    return
        finally:
            stopped.cancel()
            await chunks.aclose()

    async def _read(self, client: TranscribeClient, display: Display) -> None:
        async for event in client.events():
            if isinstance(event, TranscriptFinal):
                self._output.final(event)
                display.heard(event.end_ms / 1000, event.text, final=True)
                for failure in (event.error, *(event.translation_errors or {}).values()):
                    if failure is not None:
                        self.failures += 1
                        self.last_failure = f"{failure.code}: {failure.message}"
            else:
                display.heard(event.end_ms / 1000, event.committed + event.tentative, final=False)


def _refuse(message: str, code: int = REFUSED) -> NoReturn:
    say(message)
    raise typer.Exit(code)
