"""The command line `livedub`: options, messages and exit codes. What it does stands in dub_file."""

import asyncio
import json
from collections.abc import Coroutine
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from client.commands import CommandGroup
from client.display import Display, show_summary
from client.dub_client import DubClient
from client.dub_file import Job, Outputs, dub_file
from client.errors import DubError
from client.media import MediaInfo, MediaUnreadable, probe
from client.output import TARGETS, OutputRefused, check_target
from client.report import Summary
from serve_app.protocol import StreamConfig

SOME_FAILED = 1
REFUSED = 2
INTERRUPTED = 130
LIVE_TIMEOUT_MS = 8000
FILE_TIMEOUT_MS = 30_000
"""Nobody waits for a fragment of a file: a slow machine gets the time it needs."""

app = typer.Typer(cls=CommandGroup, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")


class Filling(StrEnum):
    """What is heard where a fragment couldn't be dubbed."""

    original = "original"
    silence = "silence"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"livedub {version('livedub')}")
        raise typer.Exit


@app.callback()
def livedub(
    *,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which livedub this is.")
    ] = False,
) -> None:
    """Dub live streams, and files, into another language."""


@app.command()
def dub(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="Audio or video file to dub: anything FFmpeg can read.")
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="Where to write; the extension picks the format "
            f"({', '.join(TARGETS)}). Default: next to INPUT, as talk.es.mp4 for talk.mp4.",
        ),
    ] = None,
    source_language: Annotated[str, typer.Option("--from", help="Language spoken in INPUT, as a BCP-47 tag.")] = "en",
    target_language: Annotated[str, typer.Option("--to", help="Language to dub into, as a BCP-47 tag.")] = "es",
    voice: Annotated[
        str, typer.Option(help="Voice profile of the server; 'default' is the language's own.")
    ] = "default",
    hint: Annotated[
        list[str] | None, typer.Option(help="A name, term or topic to expect. May be given several times.")
    ] = None,
    server: Annotated[
        str,
        typer.Option(
            envvar="LIVEDUB_SERVER", help="URL of the livedub server; several with commas between, tried in turn."
        ),
    ] = "http://127.0.0.1:8000",
    token: Annotated[
        str | None, typer.Option(envvar="LIVEDUB_TOKEN", help="API key or JWT, if the server wants one.")
    ] = None,
    realtime: Annotated[
        bool,
        typer.Option(
            "--realtime",
            help="Send at the speed of life, as a live stream would; default: as fast as the server takes it.",
        ),
    ] = False,
    chunk_ms: Annotated[
        int,
        typer.Option(
            min=1000,
            max=18_000,
            help="Wanted length of a fragment; cuts are made at pauses, between a third and five thirds of it.",
        ),
    ] = 6000,
    binary: Annotated[bool, typer.Option("--binary/--base64", help="How audio travels.")] = True,
    timeout_ms: Annotated[
        int | None,
        typer.Option(
            min=1000,
            max=30_000,
            help="Time the server has for a fragment.",
            show_default="8000 with --realtime, else 30000",
        ),
    ] = None,
    max_inflight: Annotated[int, typer.Option(min=1, max=10, help="Fragments sent and not answered at once.")] = 3,
    fill: Annotated[Filling, typer.Option(help="What is heard where a fragment failed.")] = Filling.original,
    force: Annotated[bool, typer.Option("--force", help="Overwrite outputs that exist.")] = False,
    report: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Write the numbers of the table as JSON, too.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress and no table; warnings are shown.")] = False,
) -> None:
    """Dub a file: INPUT goes to the server fragment by fragment, out come the dub and subtitles.

    Written are OUT (sound, or the video with its sound replaced) and, next to it, SRT and VTT subtitles of both
    languages. Exit code: 0 all dubbed, 1 some fragments failed (the files are written), 2 nothing could be done.
    """
    try:
        info = probe(source)
        media = out or _default_out(info, target_language)
        outputs = Outputs.beside(media, source_language, target_language)
        check_target(media, info)
        existing = [path for path in (*outputs.paths(), *([report] if report else [])) if path.exists()]
        if existing and not force:
            _refuse(f"{existing[0]} exists: name another output with -o, or overwrite with --force")
        config = StreamConfig(
            source_language=source_language,
            target_language=target_language,
            voice_profile=voice,
            chunk_duration_ms=chunk_ms,
            sample_rate_hz=info.sample_rate_hz,
            channels=info.channels,
            format="pcm_s16le",
            domain_hints=hint or None,
        )
        client = DubClient(
            server.split(","),
            config=config,
            max_inflight=max_inflight,
            timeout_ms=timeout_ms or (LIVE_TIMEOUT_MS if realtime else FILE_TIMEOUT_MS),
            binary=binary,
            token=token,
        )
        job = Job(info, outputs, chunk_ms, realtime, fill.value)
        summary = _run_to_end(_dub(client, job, quiet=quiet))
        if report is not None:
            report.write_text(json.dumps(summary.as_dict(), indent=2) + "\n", encoding="utf-8")
    except ValidationError as error:
        _refuse(_first_of(error))
    except (DubError, MediaUnreadable, OutputRefused) as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"Can't write {error.filename or 'the output'}: {error.strerror or error}")
    if not quiet:
        show_summary(summary)
    if summary.failed:
        raise typer.Exit(SOME_FAILED)


def main() -> None:
    """The entry point of `livedub`."""
    app()


async def _dub(client: DubClient, job: Job, *, quiet: bool) -> Summary:
    with Display(job.info.duration_s, lambda: client.status, quiet=quiet) as display:
        async with client:
            return await dub_file(client, job, display.result)


def _run_to_end(work: Coroutine[Any, Any, Summary]) -> Summary:
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        typer.echo("Interrupted: the stream was ended and nothing was written", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _default_out(info: MediaInfo, language: str) -> Path:
    """Next to the input, in its format where that can be written, else as .mkv or .wav."""
    suffix = info.path.suffix.lower()
    if suffix not in TARGETS:
        suffix = ".mkv" if info.video_codec is not None else ".wav"
    return info.path.with_name(f"{info.path.stem}.{language}{suffix}")


def _first_of(error: ValidationError) -> str:
    """The first wrong value: which, what was given, what is allowed."""
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {first['msg']}; got {first['input']!r}"


def _refuse(message: str) -> None:
    typer.echo(f"livedub: {message}", err=True)
    raise typer.Exit(REFUSED)
