"""Whole files: heard as sessions that hear as fast as the models have time, and give way to live ones."""

import asyncio
from collections.abc import AsyncIterator
from typing import BinaryIO

from deployments.errors import FragmentTooLarge, Stage
from serve_app.access import Principal
from serve_app.transcription import AudioFailed, Completed, Event, Final, TranscriptionSettings
from serve_app.transport.transcriber import Transcribers


async def hear(
    sessions: Transcribers,
    door: str,
    session_id: str,
    principal: Principal,
    settings: TranscriptionSettings,
    file: BinaryIO,
) -> AsyncIterator[Final]:
    """What is said in a file, in order, without a gap. Whoever stops listening stops the work.

    Args:
        sessions: of this ingress replica, which were asked whether one more may be open.
        door: by which it came.
        session_id: names it; never used before.
        principal: whose it is.
        settings: without interims.
        file: with a descriptor; it is read from its beginning, as fast as it is heard.

    Raises:
        InvalidAudio: it can't be decoded, or not to its end.
        FragmentTooLarge: it lasts longer than a file may.
        StageError: a stretch of it could not be recognised in its time, and why.
    """
    told: asyncio.Queue[Event] = asyncio.Queue()
    limit_s = sessions.limits.max_recording_s
    sessions.open(door, session_id, principal, settings, file, told.put_nowait)
    try:
        while not isinstance(event := await told.get(), Completed):
            if isinstance(event, AudioFailed):
                raise event.failure
            if isinstance(event, Final):
                if event.failure is not None:
                    raise event.failure
                if event.end_ms > limit_s * 1000:
                    raise FragmentTooLarge(Stage.ASR, f"the audio lasts longer than {limit_s:g} s")
                yield event
    finally:
        sessions.close(session_id)
