"""What is asked of DeepL: languages, context, and which texts share a request. PURE."""

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from deployments.contracts.values import TranslateRequest

MAX_TEXTS = 50
"""In one request, as DeepL documents it."""
MAX_REQUEST_BYTES = 128 * 1024
"""Of one request's body, as DeepL documents it."""
_OTHER_BYTES = 1024
"""Of a body, for all that is neither text nor context."""

_DEEPL_CODES = {"no": "NB"}
"""Base languages that DeepL calls by another name."""

SOURCES = frozenset(
    "AR BG CS DA DE EL EN ES ET FI FR HU ID IT JA KO LT LV NB NL PL PT RO RU SK SL SV TR UK ZH".split()  # noqa: SIM905
)
"""What DeepL hears, as its documentation lists it; more came since. For when DeepL itself can't be asked at the start.

https://developers.deepl.com/docs/getting-started/supported-languages
"""
TARGETS = SOURCES
"""What DeepL speaks, likewise, without the variants."""


def pairs(sources: Iterable[str], targets: Iterable[str]) -> frozenset[tuple[str, str]]:
    """(source, target) base languages, from DeepL's codes of either kind."""
    spoken, wanted = _bases(sources), _bases(targets)
    return frozenset((source, target) for source in spoken for target in wanted if source != target)


def _bases(codes: Iterable[str]) -> set[str]:
    bases = {code.partition("-")[0].lower() for code in codes}
    return bases | {base for base, code in _DEEPL_CODES.items() if code.lower() in bases}


def source_code(language: str) -> str:
    """DeepL's code of a base language that is spoken."""
    return _DEEPL_CODES.get(language, language.upper())


def target_code(language: str, variants: Mapping[str, str]) -> str:
    """DeepL's code of a base language to translate into: the configured variant where there is one."""
    return variants.get(language, source_code(language))


def context_of(request: TranslateRequest, max_characters: int) -> str:
    """The domain hints and the end of what the stream said before, cut at a word; empty when there is neither.

    The hints go first and are never cut off by what was said: DeepL reads the whole and translates none of it.
    """
    hints = ", ".join(request.hints)[:max_characters]
    room = max_characters - len(hints) - len(". ")
    said = request.context.strip()
    if len(said) > room:
        said = said[-room:].partition(" ")[2] if room > 0 else ""
    return ". ".join(part for part in (hints, said) if part)


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts that go to DeepL in one request."""

    requests: tuple[TranslateRequest, ...]
    """Of one pair, never empty."""
    indices: tuple[int, ...]
    """Where they stood in what was asked for."""
    context: str

    @property
    def pair(self) -> tuple[str, str]:
        """(source, target) base languages."""
        return self.requests[0].source_language, self.requests[0].target_language

    @property
    def budget_ms(self) -> int:
        """The shortest of its texts; none has twice as much."""
        return min(request.budget_ms for request in self.requests)

    def halves(self) -> "tuple[Batch, Batch]":
        """The same as two; it must hold two texts or more."""
        middle = len(self.requests) // 2
        return (
            Batch(self.requests[:middle], self.indices[:middle], self.context),
            Batch(self.requests[middle:], self.indices[middle:], self.context),
        )


def key_of(request: TranslateRequest, max_context_characters: int) -> Hashable:
    """Equal for requests that may share a batch.

    Those with much time left don't go with those that have little: a batch has to end when its first text must.
    """
    context = context_of(request, max_context_characters)
    return request.source_language, request.target_language, context, request.budget_ms.bit_length()


def batches(requests: Sequence[TranslateRequest], max_context_characters: int) -> tuple[list[Batch], list[int]]:
    """The requests to make, and the indices of texts that are too long for any."""
    together: dict[Hashable, list[tuple[int, TranslateRequest]]] = {}
    for index, request in enumerate(requests):
        together.setdefault(key_of(request, max_context_characters), []).append((index, request))
    made: list[Batch] = []
    too_long: list[int] = []
    for group in together.values():
        context = context_of(group[0][1], max_context_characters)
        room = MAX_REQUEST_BYTES - _OTHER_BYTES - _json_bytes(context)
        parts: list[list[tuple[int, TranslateRequest]]] = []
        left = 0
        for index, request in group:
            n_bytes = _json_bytes(request.text)
            if n_bytes > room:
                too_long.append(index)
                continue
            if not parts or n_bytes > left or len(parts[-1]) == MAX_TEXTS:
                parts.append([])
                left = room
            parts[-1].append((index, request))
            left -= n_bytes
        made += [Batch(tuple(r for _, r in part), tuple(i for i, _ in part), context) for part in parts]
    return made, too_long


def _json_bytes(text: str) -> int:
    """What a text takes in a body: the client escapes all that isn't ASCII. With the comma behind it."""
    return len(json.dumps(text)) + len(", ")
