"""Values and a scripted pipeline that the tests of the shell share."""

import asyncio

from deployments.contracts.values import (
    AsrCapabilities,
    AudioFormat,
    EncodedAudio,
    Outcome,
    Recognition,
    Segment,
    Speech,
    Transcript,
    Translation,
    TranslationCapabilities,
    TtsCapabilities,
)
from deployments.errors import Stage
from serve_app.stream.attempt_context import AttemptContext
from serve_app.stream.negotiation import ModelCapabilities
from serve_app.stream.values import Effect, Fragment, StreamLimits, StreamSettings, Submit

M4A = AudioFormat("m4a", 48_000, 1)
ABILITIES = ModelCapabilities(
    AsrCapabilities("ears", frozenset({"en"})),
    TranslationCapabilities("tongue", frozenset({("en", "es")})),
    TtsCapabilities("mouth", {"maria": "es"}, {"es": "maria"}),
)
SETTINGS = StreamSettings(
    stream_id="radio",
    session_id="session",
    worker_id="worker",
    source_language="en",
    target_language="es",
    voice="maria",
    hints=("weather",),
    output=M4A,
    chunk_duration_ms=6000,
    max_inflight=3,
    timeout_ms=8000,
    first_sequence_number=0,
)
TRANSLATION = Translation("hola", "en", "es", "tongue", 30)
SPEECH = Speech(EncodedAudio(b"the dub", M4A), 6000, 0.0, 1.0, "mouth", 50)
FRAGMENT = Fragment("f-0", 0, EncodedAudio(b"the original", M4A), 6000, b"digest")


def transcript(text: str = "hello") -> Transcript:
    segments = (Segment(text, 0, 1000, 0.9),) if text else ()
    return Transcript(Recognition(segments, "en"), 6000, M4A, "ears", 40)


OUTCOME = Outcome(transcript(), TRANSLATION, SPEECH)


class ScriptedDub:
    """A pipeline that answers when the test says so: by itself, or, for held streams, through `finish`."""

    def __init__(self) -> None:
        self.hold: set[str] = set()
        self.bugs: set[str] = set()
        self.started: asyncio.Queue[str] = asyncio.Queue()
        self.cancelled: asyncio.Queue[str] = asyncio.Queue()
        self.settings: list[StreamSettings] = []
        self._results: dict[str, asyncio.Future[Outcome]] = {}

    async def __call__(self, settings: StreamSettings, submit: Submit, context: AttemptContext) -> Outcome:
        fragment_id = submit.fragment.fragment_id
        self.settings.append(settings)
        context.start(Stage.TRANSLATION, Outcome(OUTCOME.transcript))
        self.started.put_nowait(fragment_id)
        if fragment_id in self.bugs:
            raise ZeroDivisionError("a bug")
        if settings.stream_id not in self.hold:
            return OUTCOME
        result = self._results.setdefault(fragment_id, asyncio.get_running_loop().create_future())
        try:
            return await asyncio.shield(result)
        except asyncio.CancelledError:
            self.cancelled.put_nowait(fragment_id)
            raise

    def finish(self, fragment_id: str, outcome: Outcome = OUTCOME) -> None:
        self._results[fragment_id].set_result(outcome)


class Counts:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.effects: list[Effect] = []
        self.streams = 0
        self.in_flight = 0
        self.limit = 0.0
        self.refusals: list[str] = []

    def observe(self, effect: Effect) -> None:
        self.effects.append(effect)

    def load(self, streams: int, in_flight: int, limit: float) -> None:
        self.streams, self.in_flight, self.limit = streams, in_flight, limit

    def refused(self, reason: str) -> None:
        self.refusals.append(reason)


def quick_limits(**changes: int) -> StreamLimits:
    """Limits with which a connection is closed at once after `stream:complete`."""
    return StreamLimits(**{"close_delay_ms": 1, "start_wait_ms": 20} | changes)
