"""Hostile packets: WebSocket, Engine.IO and Socket.IO frames that end their connection, each with the close codes."""

from collections.abc import Iterator
from dataclasses import dataclass, field

PROTOCOL = frozenset({1002})
TEXT = frozenset({1002, 1007})
"""What is no UTF-8 ends at the WebSocket server already."""


@dataclass(frozen=True, slots=True)
class Packets:
    """Frames that a client sends one after the other; text as `str`, binary as `bytes`."""

    name: str
    frames: list[str | bytes]
    expected: frozenset[int] = field(default=PROTOCOL)
    joined: bool = True
    """Whether the client has connected to the main namespace before."""
    as_text: bool = False
    """Whether bytes go out as a text frame."""


def packets() -> list[Packets]:
    """All cases."""
    return [*_engine(), *_socket(), *_attachments(), *_early(), *_text()]


def _engine() -> Iterator[Packets]:
    for frame in ("", "abc", "0", "2", "2probe", "5", "6", "9", "b4AAE", "4", "4abc", "47", "4[1]", "\0", "👻"):
        yield Packets(f"engine {frame!r}", [frame])
    yield Packets("engine payload", ['42["a"]\x1e42["b"]'])


def _socket() -> Iterator[Packets]:
    frames = (
        '["stream:init"', '{"a":1}', "[]", "", '[["stream:init"]]', "[null", '["stream:init",NaN', '["a",}]', "\ud7ff",
        "9" * 200 + '["stream:init"]', "9" * 20, '["a"]x', '/nowhere,["stream:init"]', "[" * 100_000, '["a",1e',
        '["a",' + '{"a":' * 50_000, f'["a",1{"0" * 300}]', f'["a",-1{"0" * 300}]',
        f'["a",{{"sequence_number":1{"0" * 5000}}}]',
    )  # fmt: skip
    for frame in frames:
        yield Packets(f"socket event {frame[:16]!r} {len(frame)}", [f"42{frame}"])
    for frame in ("40", "44{}", '44{"message":"no"}', "43", "43abc", '421-["a"]'):
        yield Packets(f"socket {frame!r}", [frame])


def _attachments() -> Iterator[Packets]:
    place = '{"_placeholder":true,"num":0}'
    for head in ("45", "450-", "4517-", "459999999999-", "4599999999999-", "45-1-"):
        yield Packets(f"attachment head {head}", [f'{head}["fragment:data",{place}]'])
    yield Packets("attachment alone", [b"nobody announced this"])
    yield Packets("attachment interrupted", [f'451-["fragment:data",{place}]', '42["stream:end",{}]'])
    for number in ("7", "-9", '"0"', "null", "[]", "1e3"):
        wrong = f'451-["fragment:data",{{"_placeholder":true,"num":{number}}}]'
        yield Packets(f"attachment placeholder {number}", [wrong, b"x"])


def _early() -> Iterator[Packets]:
    for frame in ('42["stream:init",{}]', '451-["stream:init",{}]', "431[]", "41", "44{}", "40{", '40["'):
        yield Packets(f"early {frame!r}", [frame], joined=False)
    yield Packets("early attachment", [b"\0" * 1000], joined=False)


def _text() -> Iterator[Packets]:
    for frame in (b"\xff\xfe", b'42["a\xc3"]', b'42["\xed\xa0\x80"]', b"\xf8\x88\x80\x80\x80"):
        yield Packets(f"text {frame!r}", [frame], TEXT, as_text=True)
