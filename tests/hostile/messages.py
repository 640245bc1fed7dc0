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


def captions() -> list[Message]:
    """All cases for a connection on which a transcription of raw 16 bit stereo is open."""
    return [*_chunks(), *_starts(), *_signs()]


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


def _chunks() -> Iterator[Message]:
    refused = REFUSED | {"FRAGMENT_TOO_LARGE"}
    for value in (None, 5, "text", [], {}, b"bytes", _deep(100), {"data": b"1234", "data_base64": "AAAA"}):
        yield Message(f"chunk {value!r:.20}", "audio:chunk", value, refused)
    for data in (b"1", b"123", bytes(1024 * 1024 + 4), bytes(5 * 1024 * 1024)):
        yield Message(f"chunk of {len(data)} bytes", "audio:chunk", {"data": data}, refused)
    for data in (5, True, None, "text", [], {}, [1, 2], {"a": b"12"}):
        yield Message(f"chunk data {data!r:.20}", "audio:chunk", {"data": data}, refused)
    for text in ("not base64!", "====", "A", "AAAAA", "\u202eAAAA", 7, b"AAAA", [], "A" * 3_000_000):
        yield Message(f"chunk base64 {text!r:.20}", "audio:chunk", {"data_base64": text}, refused)


def _starts() -> Iterator[Message]:
    """Also what is well-formed is refused: the connection has a session."""
    for value in (None, 5, "text", [], {}, b"bytes", _deep(100)):
        yield Message(f"start {value!r:.20}", "audio:start", value, CONFIG_REFUSED)
    for field in ("stream_id", "mode", "config"):
        for value in ODD_IDS:
            yield Message(f"start {field} {value!r:.20}", "audio:start", {field: value}, CONFIG_REFUSED)
    for field in ("sample_rate_hz", "channels", "endpointing_ms"):
        for value in ODD_NUMBERS:
            yield Message(f"start {field} {value!r:.20}", "audio:start", {"config": {field: value}}, CONFIG_REFUSED)
    for field in ("source_language", "translate_to", "format", "domain_hints", "interims"):
        for value in (*ODD_IDS, ["es"] * 1000, ["\ud800"], [["es"]], "../../es", "es\0"):
            yield Message(f"start {field} {value!r:.20}", "audio:start", {"config": {field: value}}, CONFIG_REFUSED)
    for value in ODD_NUMBERS:
        yield Message(f"start reconnections {value!r:.20}", "audio:start", {"reconnections": value}, CONFIG_REFUSED)


def _signs() -> Iterator[Message]:
    for event in ("audio:pause", "audio:resume", "audio:keepalive", "audio:end"):
        for value in (None, 5, "text", [], b"bytes", _deep(100)):
            yield Message(f"{event} {value!r:.20}", event, value, REFUSED)
    for event in ("audio:pause", "audio:end"):
        for reason in (5, [], {}, "x" * 2000, b"r"):
            yield Message(f"{event} reason {reason!r:.20}", event, {"reason": reason}, REFUSED)
