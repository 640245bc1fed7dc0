"""Apertium, rule-based translation on a CPU: 1–2 ms a sentence once its processes run.

Each pair of languages has its own chain of processes, started when it is first asked for, replaced when one of them
dies or hangs. Apertium knows neither hints nor context.
"""

import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from deployments.contracts.engines import TranslationEngine
from deployments.contracts.values import TranslateRequest
from deployments.errors import DeadlineExceeded, ModelFailed, Stage, StageError, UnsupportedLanguage
from deployments.options import EngineOptions
from deployments.text.written import localised
from deployments.translation import modes
from deployments.translation.filters import ChainDied, ChainHung, FilterChain

_SPECIAL = re.compile(r"([\\\[\]{}^$/@<>])")
_ESCAPED = re.compile(r"\\(.)")
_UNSPEAKABLE = re.compile(r"[\s\x00-\x1f\x7f]+")
_TEXT_END = b"[][\n]"
"""What Apertium's own deformatter puts behind a text. Without it the taggers keep the last words back."""


def _pair(text: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}-[a-z]{2,3}", text):
        raise ValueError(f"{text!r} is not a pair of base languages such as en-es")
    return text


class ApertiumOptions(EngineOptions):
    """Options of Apertium."""

    engine: Literal["apertium"]
    pairs: tuple[Annotated[str, AfterValidator(_pair)], ...] | None = None
    """Only these, source-target, such as en-es; all must be installed. None: all that are installed."""
    modes_dir: Path | None = None
    """Directory of .mode files; None: the installed Apertium's."""

    def build(self) -> TranslationEngine:
        """The engine, not loaded yet."""
        return Apertium(self)


class Apertium:
    """Apertium's processes."""

    model = "apertium"

    def __init__(self, options: ApertiumOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._options = options
        self._clock = clock
        self._translators: dict[tuple[str, str], _Translator] = {}

    @property
    def pairs(self) -> frozenset[tuple[str, str]] | None:
        """(source, target) base languages; empty before it is loaded."""
        return frozenset(self._translators)

    def load(self) -> None:
        """Find the installed pairs.

        Raises:
            FileNotFoundError: Apertium, or a pair that is asked for, is not installed.
        """
        directory = self._options.modes_dir or modes.default_directory()
        found = modes.installed(directory)
        if self._options.pairs is not None:
            wanted = {(source, target) for source, _, target in (pair.partition("-") for pair in self._options.pairs)}
            if missing := wanted - found.keys():
                names = ", ".join("-".join(pair) for pair in sorted(missing))
                raise FileNotFoundError(f"Apertium has no {names} in {directory}")
            found = {pair: found[pair] for pair in sorted(wanted)}
        if not found:
            raise FileNotFoundError(f"Apertium has no language pair in {directory}")
        self._translators = {
            pair: _Translator(modes.commands(path.read_text(encoding="utf-8")), self._clock)
            for pair, path in found.items()
        }

    def translate(self, requests: Sequence[TranslateRequest]) -> list[str | StageError]:
        """Translate one after the other, each within its own budget."""
        return [self._translate(request) for request in requests]

    def _translate(self, request: TranslateRequest) -> str | StageError:
        translator = self._translators.get((request.source_language, request.target_language))
        if translator is None:
            pair = f"{request.source_language}-{request.target_language}"
            return UnsupportedLanguage(Stage.TRANSLATION, f"Apertium has no {pair} installed")
        try:
            answer = translator.translate(request.text, request.budget_ms)
            # Apertium lets numbers and the like through as they are.
            return localised(answer, request.source_language, request.target_language)
        except StageError as error:
            return error

    def pids(self) -> tuple[int, ...]:
        """All of its processes that run, for those who watch them."""
        return tuple(pid for translator in self._translators.values() for pid in translator.pids)

    def close(self) -> None:
        """End all processes."""
        for translator in self._translators.values():
            translator.close()


class _Translator:
    """One pair of languages: a chain of processes and the lock that keeps its answers apart."""

    def __init__(self, commands: list[list[str]], clock: Callable[[], float]) -> None:
        self._commands = commands
        self._clock = clock
        self._lock = threading.Lock()
        self._chain: FilterChain | None = None

    @property
    def pids(self) -> tuple[int, ...]:
        return self._chain.pids if self._chain else ()

    def translate(self, text: str, budget_ms: int) -> str:
        give_up_at_s = self._clock() + budget_ms / 1000
        if not self._lock.acquire(timeout=max(0.0, budget_ms / 1000)):
            raise DeadlineExceeded(Stage.TRANSLATION, "the time ran out while Apertium translated other texts")
        try:
            return self._exchange(text, give_up_at_s)
        finally:
            self._lock.release()

    def _exchange(self, text: str, give_up_at_s: float) -> str:
        spoken = _UNSPEAKABLE.sub(" ", text).strip()
        request = _SPECIAL.sub(r"\\\1", spoken).encode() + _TEXT_END
        try:
            try:
                answer = self._ask(request, give_up_at_s)
            except ChainDied:
                # It may have died long ago, with nothing wrong with this text. A second death is an answer.
                self._drop()
                answer = self._ask(request, give_up_at_s)
        except ChainDied as error:
            self._drop()
            raise ModelFailed(Stage.TRANSLATION, f"Apertium died twice: {error}"[:500]) from error
        except ChainHung as error:
            self._drop()
            raise DeadlineExceeded(Stage.TRANSLATION, f"Apertium gave {error}") from error
        return _tidy(answer.decode(errors="replace"), spoken)

    def _ask(self, request: bytes, give_up_at_s: float) -> bytes:
        if self._chain is None:
            self._chain = FilterChain(self._commands, self._clock)
        answer = self._chain.exchange(request, give_up_at_s - self._clock())
        if not answer.endswith(_TEXT_END):  # what lies behind a process that dies still flushes the beginning
            raise ChainDied("an answer broke off")
        return answer.removesuffix(_TEXT_END)

    def _drop(self) -> None:
        if self._chain is not None:
            self._chain.close()
            self._chain = None

    def close(self) -> None:
        with self._lock:
            self._drop()


def _tidy(answer: str, original: str) -> str:
    """The text of an answer: unescaped, on one line, with a capital where the original begins with one."""
    text = " ".join(_ESCAPED.sub(r"\1", answer).split())
    return text[:1].upper() + text[1:] if original[:1].isupper() else text
