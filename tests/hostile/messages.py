"""Hostile messages, each with the codes that the protocol allows for it; none of them is retryable."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

AUDIO: dict[str, Any] = {
    "format": "pcm_s16le", "sample_rate_hz": 8_000, "channels": 1, "duration_ms": 100, "data_base64": "A" * 2_136,
}  # fmt: skip
REFUSED = frozenset({"MALFORMED_DATA", "INVALID_FRAGMENT", "INVALID_SEQUENCE", "STREAM_NOT_FOUND"})
CONFIG_REFUSED = frozenset({"INVALID_CONFIG", "UNSUPPORTED_LANGUAGE_PAIR", "INVALID_VOICE_PROFILE", "MALFORMED_DATA"})
ODD_IDS = ("", " " * 300, "x" * 10_000, "\u202e" * 300, "\ud800", "a\udfff", 7, True, None, [], {}, b"id")
ODD_NUMBERS = (True, "1", -1, 1.5, 1e308, 2**63, 10**80, None, [], {}, b"1")


@dataclass(frozen=True, slots=True)
class Message:
    """An event with a payload that is refused."""

    name: str
    event: str
    payload: Any
    expected: frozenset[str]


def messages(stream_id: str) -> list[Message]:
    """All cases, for a stream that is open."""
    return [*_fragments(stream_id), *_inits(), *_others()]


def fragment(stream_id: str, /, **changes: Any) -> dict[str, Any]:
    """A correct `fragment:data` but for `changes`; those called `audio__x` are made in its audio."""
    audio = AUDIO | {key.removeprefix("audio__"): value for key, value in changes.items() if key.startswith("audio__")}
    plain = {key: value for key, value in changes.items() if not key.startswith("audio__")}
    base = {"fragment_id": "hostile", "stream_id": stream_id, "sequence_number": 1, "timestamp": 1, "audio": audio}
    return base | plain


def _deep(levels: int) -> Any:
    nested: Any = []
    for _ in range(levels):
        nested = [nested]
    return nested


def _fragments(stream_id: str) -> Iterator[Message]:  # noqa: C901 - a list of loops
    def case(name: str, **changes: Any) -> Message:
        return Message(f"fragment {name}", "fragment:data", fragment(stream_id, **changes), REFUSED)

    for field in ("fragment_id", "stream_id"):
        for value in ODD_IDS:
            yield case(f"{field} {value!r:.20}", **{field: value})
    for field in ("sequence_number", "timestamp", "audio__sample_rate_hz", "audio__channels", "audio__duration_ms"):
        for value in ODD_NUMBERS:
            yield case(f"{field} {value!r:.20}", **{field: value})
    for value in (None, 5, "text", [], {}, b"bytes", _deep(100)):
        yield case(f"audio {value!r:.20}", audio=value)
    for value in ("", "exe", "../../etc/passwd", "m4a\0", 5, None):
        yield case(f"format {value!r}", audio__format=value)
    for value in ("not base64!", "====", "A", "\u202eAAAA", 7, b"AAAA", []):
        yield case(f"base64 {value!r:.20}", audio__data_base64=value)
    yield case("both payloads", audio__data=b"\0\0")
    yield case("text for binary", audio__data_base64=None, audio__data=5)
    for missing in ("fragment_id", "stream_id", "sequence_number", "timestamp", "audio"):
        payload = {key: value for key, value in fragment(stream_id).items() if key != missing}
        yield Message(f"fragment without {missing}", "fragment:data", payload, REFUSED)
    for value in ("../../etc/passwd", "/dev/zero", "nobody\0", "\u202enobody", "👻"):
        yield case(f"foreign stream {value!r}", stream_id=value)


def _inits() -> Iterator[Message]:
    good = {"stream_id": "never", "worker_id": "w", "config": {"target_language": "es"}}
    for value in (0, 11, 99, -1, "text", 1.5, 1e308, 2**63, 10**80, [], {}, b"1"):
        yield Message(f"init inflight {value!r:.20}", "stream:init", good | {"max_inflight": value}, CONFIG_REFUSED)
    for value in (None, 5, [], {}, b"", "es", _deep(100)):
        yield Message(f"init config {value!r:.20}", "stream:init", good | {"config": value}, CONFIG_REFUSED)
    for value in ("", "x" * 10_000, "../../es", "es\0", "\u202ees", 5, None):
        config = {"target_language": value}
        yield Message(f"init language {value!r:.20}", "stream:init", good | {"config": config}, CONFIG_REFUSED)


def _others() -> Iterator[Message]:
    for event in ("stream:pause", "stream:resume", "stream:end", "fragment:ack"):
        for value in (None, 5, "text", [], {}, b"bytes", _deep(100), {"stream_id": "nobody"}):
            yield Message(f"{event} {value!r:.20}", event, value, REFUSED)
    for name in (
        "",
        "fragment:date",
        "__proto__",
        "x" * 200,
        "fragment:data\0",
        "\u202edata",
        "\ud800",
        "connect",
        "disconnect",
    ):
        yield Message(f"event {name!r:.20}", name, {"a": 1}, REFUSED)
