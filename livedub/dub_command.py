"""`livedub dub`: options, messages and exit codes. What it does stands in dub_file."""

import asyncio
import json
from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from deployments.media.planning import check_target
from deployments.media.subtitles import CAPTION_FORMATS
from deployments.media.targets import TARGETS, OutputRefused
from deployments.media.tracks import MediaInfo, MediaUnreadable, probe
from livedub.checkpoint import Checkpoint, Track
from livedub.display import Display, clock, say, show_summary
from livedub.dub_client import DubClient
from livedub.dub_file import DubJob, Run, dub_track, open_tracks, write_outputs, write_partial
from livedub.errors import DubError
from livedub.languages import UnknownLanguage, tag_of
from livedub.options import ServerUrl, Token
from livedub.outputs import Outputs, check_room, default_target
from livedub.report import Summary
from serve_app.protocol import StreamConfig

SOME_FAILED = 1
REFUSED = 2
INTERRUPTED = 130
LIVE_TIMEOUT_MS = 8000
FILE_TIMEOUT_MS = 30_000
"""Nobody waits for a fragment of a file: a slow machine gets the time it needs."""


class Filling(StrEnum):
    """What is heard where a fragment couldn't be dubbed."""

    original = "original"
    silence = "silence"


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
    source_language: Annotated[str, typer.Option("--from", help="Language spoken in INPUT: a tag or a name.")] = "en",
    target_language: Annotated[str, typer.Option("--to", help="Language to dub into: a tag or a name.")] = "es",
    tracks: Annotated[
        str | None,
        typer.Option(
            metavar="LANGUAGES",
            help="Several languages to dub into, as es,pt: a track for each in one file. In place of --to.",
        ),
    ] = None,
    audio_track: Annotated[
        str | None,
        typer.Option(
            metavar="TRACK",
            help="Which sound of INPUT to dub, by its number from 1 or its language.",
            show_default="the one that is marked as default, else the first",
        ),
    ] = None,
    keep_original: Annotated[
        bool, typer.Option("--keep-original", help="Keep the original sound as a track after the dub.")
    ] = False,
    subtitles: Annotated[
        str,
        typer.Option(metavar="FORMATS", help=f"Subtitle files to write, of {', '.join(CAPTION_FORMATS)}; empty: none."),
    ] = "srt,vtt",
    embed_subtitles: Annotated[
        bool, typer.Option("--embed-subtitles", help="Put the dub's subtitles into OUT as tracks, too.")
    ] = False,
    voice: Annotated[
        str, typer.Option(help="Voice profile of the server; 'default' is the language's own.")
    ] = "default",
    hint: Annotated[
        list[str] | None, typer.Option(help="A name, term or topic to expect. May be given several times.")
    ] = None,
    server: ServerUrl = "http://127.0.0.1:8000",
    token: Token = None,
    stream_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Name of the stream, as tokens and logs have it.", show_default="one that is made up"
        ),
    ] = None,
    realtime: Annotated[
        bool,
        typer.Option(
            "--realtime",
            help="Send in real time, as a live stream would; default: as fast as the server takes it.",
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
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite outputs that exist, and start anew what was interrupted.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with what was interrupted, if anything was, and try again what failed."),
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Write the numbers of the table as JSON, too.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress and no table; warnings are shown.")] = False,
) -> None:
    """Dub a file: INPUT goes to the server fragment by fragment, out come the dub and subtitles.

    Written are OUT (sound, or the video with its sound replaced, all else of it as it was) and, next to it, subtitles
    of all languages. What is interrupted leaves what is done as OUT with .partial in its name; --resume goes on.
    Exit code: 0 all dubbed, 1 some fragments failed (the files are written), 2 nothing could be done, or not all.
    """
    wanted = tracks.split(",") if tracks is not None else [target_language]
    source_language, *languages = _tags([source_language, *wanted])
    formats = [kind for kind in subtitles.split(",") if kind]
    _check_names(languages, formats)
    try:
        info = probe(source, audio_track)
        if out is None:
            plan = default_target(info, languages, keep_original=keep_original)
        else:
            plan = check_target(out, info, keep_original=keep_original)
        outputs = Outputs.beside(plan.path, source_language, languages, formats)
        others = [report] if report is not None else []
        check_room(outputs, info, len(languages), others)
        checkpoint = Checkpoint(
            plan.path, _settings(info, chunk_ms=chunk_ms, fill=fill, source=source_language, voice=voice, hints=hint)
        )
        kept: list[Path] = []
        if not (force or (resume and checkpoint.exists)):
            outputs, kept = outputs.sparing_what_exists(others)
        job = DubJob(plan, outputs, source_language, tuple(languages), chunk_ms, realtime, fill.value, embed_subtitles)

        def client_for(language: str) -> DubClient:
            config = StreamConfig(
                source_language=source_language,
                target_language=language,
                voice_profile=voice,
                chunk_duration_ms=chunk_ms,
                sample_rate_hz=info.sample_rate_hz,
                channels=info.channels,
                format="pcm_s16le",
                domain_hints=hint or None,
            )
            return DubClient(
                server.split(","),
                config=config,
                max_inflight=max_inflight,
                timeout_ms=timeout_ms or (LIVE_TIMEOUT_MS if realtime else FILE_TIMEOUT_MS),
                binary=binary,
                token=token,
                stream_id=stream_id,
            )

        client_for(languages[0])  # what is wrong with an option is found here
        told = (info.sound_told(), *plan.notes, *(f"{path} exists and stays as it is" for path in kept))
        for line in filter(None, told):
            say(line)
        checkpoint.begin(resume=resume, anew=force)
    except ValidationError as error:
        _refuse(_first_of(error))
    except (DubError, MediaUnreadable, OutputRefused) as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(_cant_write(error))
    summary = _dub(job, checkpoint, client_for, report, quiet=quiet)
    if not quiet:
        show_summary(summary)
    if summary.failed:
        raise typer.Exit(SOME_FAILED)


def _dub(
    job: DubJob, checkpoint: Checkpoint, client_for: Callable[[str], DubClient], report: Path | None, *, quiet: bool
) -> Summary:
    """Do the work; whatever ends it, what is done stays."""
    run = Run()
    with ExitStack() as stack:
        stack.callback(checkpoint.close)
        tracks = open_tracks(job, checkpoint, stack)
        try:
            asyncio.run(_dub_all(job, client_for, tracks, run, quiet=quiet))
            if str(run.damage):
                say(f"{job.info.path} is damaged: {run.damage}; what could be read is dubbed")
            summary = write_outputs(job, tracks, run)
            if report is not None:
                report.write_text(json.dumps(summary.as_dict(), indent=2) + "\n", encoding="utf-8")
        except KeyboardInterrupt:
            _leave(job, checkpoint, tracks, "Interrupted", INTERRUPTED)
        except (DubError, MediaUnreadable, OutputRefused) as error:
            _leave(job, checkpoint, tracks, str(error), REFUSED)
        except OSError as error:
            _leave(job, checkpoint, tracks, _cant_write(error), REFUSED)
        tried_again = sum(done.may_be_tried_again for track in tracks.values() for done in track.done())
    for path in job.outputs.partial().paths():
        path.unlink(missing_ok=True)
    if tried_again:
        say(f"{tried_again} of the fragments that failed may succeed later: --resume tries them again")
    else:
        checkpoint.remove()
    return summary


async def _dub_all(
    job: DubJob, client_for: Callable[[str], DubClient], tracks: dict[str, Track], run: Run, *, quiet: bool
) -> None:
    """One language after the other; that the server dubs into all of them is found out before."""
    for language in job.languages[1:]:
        async with client_for(language):
            pass
    for language in job.languages:
        client = client_for(language)
        name = language if len(job.languages) > 1 else ""
        with Display(job.info.duration_s, partial(_status, client), quiet=quiet, language=name) as display:
            async with client:
                await dub_track(client, job, tracks[language], run, display.result)


def _status(client: DubClient) -> str:
    return client.status


def _leave(job: DubJob, checkpoint: Checkpoint, tracks: dict[str, Track], why: str, code: int) -> NoReturn:
    """Leave what is done, marked as a part, and say how to go on."""
    done_s = max(track.sound.duration_s for track in tracks.values())
    if not done_s:
        checkpoint.remove()
        _refuse(f"{why}; nothing was written" if code == INTERRUPTED else why, code)
    whole = clock(job.info.duration_s) if job.info.duration_s is not None else "all"
    message = f"{why}. {clock(done_s)} of {whole} are done and kept: --resume goes on from there"
    try:
        if write_partial(job, tracks):
            message += f"; so far: {job.outputs.partial().media}"
    except (OutputRefused, OSError, KeyboardInterrupt):
        message += "; that part alone could not be written"
    _refuse(message, code)


def _settings(info: MediaInfo, **options: Any) -> dict[str, Any]:
    """All that a piece's result depends on."""
    of_file = info.path.stat()
    return {
        "input": str(info.path.absolute()),
        "size": of_file.st_size,
        "modified": of_file.st_mtime_ns,
        "audio track": info.sound.index,
        **options,
    }


def _tags(given: list[str]) -> list[str]:
    try:
        return [tag_of(language) for language in given]
    except UnknownLanguage as error:
        _refuse(str(error))


def _check_names(languages: list[str], formats: list[str]) -> None:
    """Refuse what would make no file name."""
    for kind in formats:
        if kind not in CAPTION_FORMATS:
            _refuse(f"--subtitles {kind}: one or more of {', '.join(CAPTION_FORMATS)}, with commas between")
    if len(set(languages)) < len(languages):
        _refuse(f"--tracks {','.join(languages)}: each language once")


def _cant_write(error: OSError) -> str:
    return f"Can't write {error.filename or 'the output'}: {error.strerror or error}"


def _first_of(error: ValidationError) -> str:
    """The first wrong value: which, what was given, what is allowed."""
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {first['msg']}; got {first['input']!r}"


def _refuse(message: str, code: int = REFUSED) -> NoReturn:
    say(message)
    raise typer.Exit(code)
