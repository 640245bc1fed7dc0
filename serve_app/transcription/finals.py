"""Stretches of audio, each from its end until its final leaves: in order, and without a gap. PURE."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from deployments.contracts.values import Transcript
from serve_app.transcription.events import Final
from serve_app.transcription.tries import Tries
from serve_app.transcription.voice import Utterance


@dataclass(slots=True)
class Stretch:
    """A stretch of audio between its end and its final."""

    final: Final
    """With all but what was said, until it is settled."""
    from_ms: int
    """Where recognition begins: silence before it is left out."""
    voice_end_ms: int
    deadline: float
    tries: Tries
    settled: bool = False

    def settle(self, final: Final) -> None:
        """This is its final."""
        self.final, self.settled = final, True
        self.tries.again_at(None)

    def heard(self, transcript: Transcript) -> Final:
        """The final with what was heard, its times those of the session and within it."""
        recognition, final = transcript.recognition, self.final

        def placed(time_ms: int) -> int:
            return min(max(self.from_ms + time_ms, final.start_ms), final.end_ms)

        words = tuple(
            replace(word, start_ms=placed(word.start_ms), end_ms=placed(word.end_ms))
            for segment in recognition.segments
            for word in segment.words
        )
        confidences = [word.confidence for word in words] or [segment.confidence for segment in recognition.segments]
        confidence = sum(confidences) / len(confidences) if confidences else 0.0
        return replace(final, text=recognition.text, words=words, confidence=confidence, model=transcript.model)


class Finals:
    """The stretches of one session whose finals have not left."""

    def __init__(self) -> None:
        self.covered_ms = 0
        """Finals, also those on their way, reach up to here."""
        self._stretches: deque[Stretch] = deque()

    def __len__(self) -> int:
        return len(self._stretches)

    def __iter__(self) -> Iterator[Stretch]:
        return iter(self._stretches)

    @property
    def unsettled(self) -> list[Stretch]:
        """Those that wait for what was said in them."""
        return [one for one in self._stretches if not one.settled]

    def cover(self, final: Final, deadline: float, now: float, spoken: Utterance | None) -> None:
        """What comes next, up to the end of this final; without an utterance it says that nothing was said."""
        at_ms = final.end_ms
        from_ms, voice_end_ms = (spoken.start_ms, spoken.voice_end_ms) if spoken else (at_ms, at_ms)
        tries = Tries(now if spoken else None)
        self._stretches.append(Stretch(final, from_ms, voice_end_ms, deadline, tries, settled=spoken is None))
        self.covered_ms = at_ms

    def flush_last(self) -> bool:
        """The last one on its way is what a flush asked for; False: none is on its way."""
        if self._stretches:
            last = self._stretches[-1]
            last.final = replace(last.final, flushed=True)
        return bool(self._stretches)

    def asked_by(self, ticket: int) -> Stretch | None:
        """The one whose try this is."""
        return next((one for one in self._stretches if one.tries.ticket == ticket), None)

    def released(self) -> Iterator[Stretch]:
        """Those that may leave, which they do."""
        while self._stretches and self._stretches[0].settled:
            yield self._stretches.popleft()
