"""One live transcription session's rules: voice, utterances, what is committed, finals. PURE.

Audio time is in milliseconds from the session's start and stands still while nothing is sent; `now` is in seconds of
any monotonic clock. Samples are not known here: the shell cuts bytes where it is told to.
"""

from serve_app.transcription.effects import Cancel, Effect, Listen, Recognise, Tell
from serve_app.transcription.events import (
    AudioFailed,
    Completed,
    Event,
    Final,
    Interim,
    Overdue,
    SpeechEnded,
    SpeechStarted,
    Statistics,
    UtteranceEnd,
)
from serve_app.transcription.session import TranscriptionSession
from serve_app.transcription.settings import TranscriptionLimits, TranscriptionSettings

__all__ = [
    "AudioFailed",
    "Cancel",
    "Completed",
    "Effect",
    "Event",
    "Final",
    "Interim",
    "Listen",
    "Overdue",
    "Recognise",
    "SpeechEnded",
    "SpeechStarted",
    "Statistics",
    "Tell",
    "TranscriptionLimits",
    "TranscriptionSession",
    "TranscriptionSettings",
    "UtteranceEnd",
]
