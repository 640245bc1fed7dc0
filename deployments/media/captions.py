"""Where subtitles begin, end and break, as people who make them do it. PURE.

At most two lines of 42 characters (half as many where they are twice as wide), broken at clauses and never behind a
word that leans on the next; shown for as long as they take to read, where the speech leaves the time.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

LINE_WIDTH = 42
LINES = 2
READING_SPEED, FASTEST_READING_SPEED = 17.0, 20.0
"""Characters a second: what a cue is shown for where there is room, and what readers still follow."""
LEAST_MS, MOST_MS = 800, 7000
"""Few words that are said slowly may stay for twice as long."""
GAP_MS = 80
"""Two pictures between cues, so that the eye sees that another one has come."""
_LONG_PAUSE_MS, _PAUSE_MS = 1500, 500
_SENTENCE_ENDS = tuple(".!?…。！？")
_CLAUSE_ENDS = tuple(",;:—–、，；：")
_CLOSING = "\"'”’»)]』」"
_LEANS_ON_THE_NEXT = frozenset(" ".join((  # noqa: FLY002 - a list of words, one language a line
    "a an the of to in on at by for from with and or but nor as if that than my your his her its our their this these",
    "el la los las un una unos unas de del al en con por para sin sobre y o u e pero que si como mi tu su mis tus sus",
    "le les une des du au aux dans avec pour par sans sur et ou mais qui ce cette mon ton son mes tes ses nos vos leur",
    "der die das den dem des ein eine einen einem einer in im am an auf aus bei mit nach von vom zu zum zur und oder",
    "aber il lo gli i uno di da con su per tra fra ed ma che se mio tuo suo nel nella dei delle os um uma uns umas do",
    "dos no na nos nas em com por sem mas ou meu seu sua",
)).split())  # fmt: skip
"""Articles, prepositions, conjunctions and possessives of the languages that are dubbed most."""
_WIDE = frozenset("WF")


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word and when it is said, in ms on the file's timeline."""

    text: str
    start_ms: int
    end_ms: int
    last: bool = False
    """Something that was said in one go ends with it."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A text and when it is shown, in ms on the file's timeline."""

    start_ms: int
    end_ms: int
    text: str
    """Lines, with a line feed between."""


def timed(text: str, spans: Sequence[tuple[int, int]]) -> list[TimedWord]:
    """The words of a text over the times at which it is said, each for as long as its share of the letters.

    Args:
        text: of a fragment.
        spans: when somebody speaks, (start_ms, end_ms), in order.
    """
    words = _words(text)
    if not words or not spans:
        return []
    spoken_ms = sum(end - start for start, end in spans)
    letters = sum(map(width, words))
    timed_words: list[TimedWord] = []
    said = 0
    for word in words:
        start_ms = _at(spoken_ms * said / letters, spans)
        said += width(word)
        timed_words.append(TimedWord(word, start_ms, max(start_ms, _at(spoken_ms * said / letters, spans))))
    return [*timed_words[:-1], replace(timed_words[-1], last=True)]


def layout(words: Sequence[TimedWord]) -> list[Cue]:
    """Words, in order, as cues: none overlaps another, and every word is shown."""
    groups = list(_grouped(words))
    cues: list[Cue] = []
    for number, group in enumerate(groups):
        starts_ms = max(group[0].start_ms, cues[-1].end_ms if cues else 0)
        next_ms = groups[number + 1][0].start_ms if number + 1 < len(groups) else None
        text = "\n".join(_lines([word.text for word in group]))
        cues.append(Cue(starts_ms, _end_ms(text, starts_ms, group[-1].end_ms, next_ms), text))
    return cues


def width(text: str) -> int:
    """How wide a text is, in characters: those of Chinese, Japanese and Korean count twice."""
    return sum(2 if unicodedata.east_asian_width(one) in _WIDE else not unicodedata.combining(one) for one in text)


def reading_speed(cue: Cue) -> float:
    """Characters a second."""
    return width(cue.text.replace("\n", " ")) * 1000 / max(1, cue.end_ms - cue.start_ms)


def _words(text: str) -> list[str]:
    """Between spaces; of languages that have none, each character with the marks behind it."""
    words: list[str] = []
    for token in text.split():
        if not any(unicodedata.east_asian_width(one) in _WIDE for one in token):
            words += _cut(token)
            continue
        for one in token:
            if words and words[-1] and (unicodedata.category(one)[0] in "MP") and _is_wide(words[-1]):
                words[-1] += one
            else:
                words.append(one)
    return words


def _cut(token: str) -> Iterator[str]:
    """A token in pieces that fit into a line."""
    for at in range(0, len(token), LINE_WIDTH):
        yield token[at : at + LINE_WIDTH]


def _is_wide(word: str) -> bool:
    return unicodedata.east_asian_width(word[0]) in _WIDE


def _joined(words: Sequence[str]) -> str:
    """With spaces between, but for wide characters."""
    text = ""
    for word in words:
        apart = text and not (_is_wide(word) and unicodedata.east_asian_width(text[-1]) in _WIDE)
        text += f" {word}" if apart else word
    return text


def _at(spoken_ms: float, spans: Sequence[tuple[int, int]]) -> int:
    """When so much of the speech has been said."""
    for start, end in spans:
        if spoken_ms <= end - start:
            return round(start + spoken_ms)
        spoken_ms -= end - start
    return spans[-1][1]


def _grouped(words: Sequence[TimedWord]) -> Iterator[Sequence[TimedWord]]:
    """The words of each cue: the cheapest way to part them, a cue at a time from the end."""
    least = [0.0] * (len(words) + 1)
    ends = [0] * len(words)
    for first in range(len(words) - 1, -1, -1):
        least[first] = float("inf")
        for end in _possible_ends(words, first):
            cost = _cost(words, first, end) + least[end]
            if cost < least[first]:
                least[first], ends[first] = cost, end
    at = 0
    while at < len(words):
        yield words[at : ends[at]]
        at = ends[at]


def _possible_ends(words: Sequence[TimedWord], first: int) -> Iterator[int]:
    yield first + 1
    for end in range(first + 2, len(words) + 1):
        last = words[end - 1]
        texts = [word.text for word in words[first:end]]
        in_one_go = not any(word.last for word in words[first : end - 1])
        most_ms = 2 * MOST_MS if in_one_go and width(_joined(texts)) <= LINE_WIDTH // 2 else MOST_MS
        if last.start_ms - words[end - 2].end_ms > _LONG_PAUSE_MS or last.end_ms - words[first].start_ms > most_ms:
            return
        if not _fits(texts):
            return
        yield end


def _fits(words: Sequence[str]) -> bool:
    if width(_joined(words)) > LINES * LINE_WIDTH:
        return False
    return all(width(line) <= LINE_WIDTH for line in _lines(words))


def _cost(words: Sequence[TimedWord], first: int, end: int) -> float:
    """What speaks against a cue of these words."""
    group = words[first:end]
    cost = 15.0 + _break_cost(words, end)
    cost += sum(
        12.0
        for one, following in pairwise(group)
        if one.last or one.text.rstrip(_CLOSING).endswith(_SENTENCE_ENDS) or following.start_ms - one.end_ms > _PAUSE_MS
    )
    until_ms = words[end].start_ms - GAP_MS if end < len(words) else group[-1].end_ms + MOST_MS
    room_ms = max(1, until_ms - group[0].start_ms)
    cost += max(0, LEAST_MS - room_ms) / 8
    speed = width(_joined([word.text for word in group])) * 1000 / room_ms
    return cost + min(100.0, 6 * max(0.0, speed - FASTEST_READING_SPEED)) + (20.0 if len(group) == 1 else 0.0)


def _break_cost(words: Sequence[TimedWord], end: int) -> float:
    """What speaks against a break before this word."""
    if end == len(words):
        return 0.0
    if words[end].start_ms - words[end - 1].end_ms > _PAUSE_MS:
        return 0.0
    rank = _rank(words[end - 1].text)
    return 15.0 if words[end - 1].last and rank else (0.0, 15.0, 50.0, 110.0)[rank]


def _rank(word: str) -> int:
    """How bad a break behind a word is: 0 a sentence ends, 1 a clause does, 2 neither, 3 it leans on the next."""
    bare = word.rstrip(_CLOSING)
    if bare.endswith(_SENTENCE_ENDS):
        return 0
    if bare.endswith(_CLAUSE_ENDS):
        return 1
    return 3 if bare.lower() in _LEANS_ON_THE_NEXT else 2


def _lines(words: Sequence[str]) -> list[str]:
    """One line, or two that are about as long, broken where it disturbs least."""
    whole = _joined(words)
    if width(whole) <= LINE_WIDTH:
        return [whole]
    ways = []
    for at in range(1, len(words)):
        first, second = _joined(words[:at]), _joined(words[at:])
        over = max(0, width(first) - LINE_WIDTH) + max(0, width(second) - LINE_WIDTH)
        unequal = abs(width(first) - width(second)) + (3 if width(first) > width(second) else 0)
        ways.append((over, unequal + (0, 0, 9, 24)[_rank(words[at - 1])], [first, second]))
    return min(ways)[2] if ways else [whole]


def _end_ms(text: str, start_ms: int, spoken_until_ms: int, next_ms: int | None) -> int:
    """As long as it takes to read, at least as long as it is said, and not into the next one."""
    wanted_ms = max(LEAST_MS, round(width(text) * 1000 / READING_SPEED))
    end_ms = max(spoken_until_ms, min(start_ms + wanted_ms, spoken_until_ms + MOST_MS))
    if next_ms is not None:
        end_ms = min(end_ms, max(next_ms - GAP_MS, start_ms + 1))
    return max(end_ms, start_ms + 1)


def in_order(words: Iterable[TimedWord]) -> list[TimedWord]:
    """The words by time, none beginning before the one before."""
    by_time = sorted(words, key=lambda word: word.start_ms)
    return [replace(word, end_ms=max(word.start_ms, word.end_ms)) for word in by_time]
