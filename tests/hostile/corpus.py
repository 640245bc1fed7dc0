"""Hostile media, each with what the protocol says to it. The same every time: all chance has a seed."""

import io
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import av
import numpy as np

from tests.support import clips

SEED = 4
OK = "ok"
INVALID, LARGE = "INVALID_AUDIO", "FRAGMENT_TOO_LARGE"
CONTAINERS = ("m4a", "aac", "wav", "mp3", "ogg", "flac", "webm", "mp4")
ANY = frozenset({OK, INVALID, LARGE})
"""Damaged audio: what can be decoded is kept, so all depends on where the damage is."""


@dataclass(frozen=True, slots=True)
class Media:
    """Bytes sent as the audio of a fragment, and the outcomes that the protocol allows, all of them for good."""

    name: str
    data: bytes
    label: str
    expected: frozenset[str]
    rate_hz: int = 48_000
    channels: int = 1


@cache
def media() -> tuple[Media, ...]:
    """All media cases."""
    families = (_cut, _flipped, _bombs, _junk, _mislabelled, _raw, _lies, _tags, _pictures)
    cases = [case for family in families for case in family(random.Random(f"{SEED} {family.__name__}"))]  # noqa: S311
    assert len({case.name for case in cases}) == len(cases)
    return tuple(cases)


@cache
def _clip(container: str, duration_ms: int = 600) -> bytes:
    t = np.arange(duration_ms * 48, dtype=np.float32) / 48_000
    samples = (0.3 * np.sin(2 * np.pi * 300 * t) * np.sin(2 * np.pi * 3 * t)).astype(np.float32)[:, None]
    return clips.encoded(samples, container, channels=1)


def _cut(rng: random.Random) -> Iterator[Media]:
    for container in CONTAINERS:
        data = _clip(container)
        for at in sorted({0, 1, 3, 4, 7, 8, 12, 16, 44, *(rng.randrange(len(data)) for _ in range(9))}):
            expected = ANY if at > 12 else frozenset({INVALID})
            yield Media(f"cut {container} {at}", data[:at], container, expected)


def _flipped(rng: random.Random) -> Iterator[Media]:
    for container in CONTAINERS:
        for share in (0.0005, 0.005, 0.05, 0.5):
            for n in range(6):
                data = bytearray(_clip(container))
                for _ in range(max(1, int(len(data) * share))):
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                yield Media(f"flipped {container} {share} {n}", bytes(data), container, ANY)
        for n in range(4):  # headers alone
            data = bytearray(_clip(container))
            for _ in range(4):
                data[rng.randrange(min(200, len(data)))] = rng.randrange(256)
            yield Media(f"header {container} {n}", bytes(data), container, ANY)


def _bombs(_: random.Random) -> Iterator[Media]:
    for container in CONTAINERS:
        for minutes in (2, 6):
            rate_hz = 48_000 if container in {"ogg", "webm"} else 8_000
            if container == "wav" and minutes > 2:
                continue
            silence = clips.encoded(np.zeros((minutes * 60 * rate_hz, 1), np.float32), container, rate_hz, 1)
            yield Media(f"bomb {container} {minutes} min", silence, container, frozenset({LARGE}))
    for container, width in (("pcm_s16le", 2), ("pcm_f32le", 4)):
        data = bytes(61 * 8_000 * width)
        yield Media(f"bomb {container}", data, container, frozenset({LARGE}), rate_hz=8_000)


def _junk(rng: random.Random) -> Iterator[Media]:
    texts = {
        "m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "m3u8 http": b"#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:8000/health\n",
        "m3u8 nested": b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nconcat:file:///etc/passwd|subfile,,start,0,end,9,,:x\n",
        "concat": b"ffconcat version 1.0\nfile '/etc/passwd'\nduration 5\n",
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
        "dash": b'<?xml version="1.0"?><MPD><BaseURL>file:///etc/passwd</BaseURL></MPD>',
        "xml bomb": b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><MPD>&b;</MPD>',
        "srt": b"1\n00:00:00,000 --> 00:00:09,000\nHello\n\n",
        "vtt": b"WEBVTT\n\n00:00.000 --> 00:09.000\nHello\n",
        "ass": b"[Script Info]\nScriptType: v4.00+\n[Events]\nDialogue: 0,0:00:00.00,0:00:01.00,,,0,0,0,,x\n",
        "html": b"<html><script>alert(1)</script></html>",
        "json": b'{"a": [' * 200,
        "elf": b"\x7fELF\x02\x01\x01" + bytes(500),
        "pe": b"MZ\x90\x00" + bytes(500),
        "zip": b"PK\x03\x04" + bytes(500),
        "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
        "gif": b"GIF89a\x01\x00\x01\x00\x00\x00\x00;",
        "midi": b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x00\x60MTrk" + bytes(20),
        "zeros": bytes(5_000),
        "ones": b"\xff" * 5_000,
        "shell": b"#!/bin/sh\nrm -rf /\n",
    }
    for name, text in texts.items():
        for label in ("m4a", "mp3", "ogg"):
            yield Media(f"junk {name} as {label}", text, label, frozenset({INVALID}))
    for n in range(20):
        expected = ANY  # chance may make a frame of MP3
        yield Media(f"noise {n}", rng.randbytes(rng.randrange(1, 20_000)), rng.choice(CONTAINERS), expected)
    for magic in (b"fLaC", b"OggS", b"RIFF", b"RF64", b"\x1a\x45\xdf\xa3", b"\0\0\0\x18ftyp", b"\xff\xf1", b"ID3"):
        for n in range(4):
            yield Media(f"magic {magic!r} {n}", magic + rng.randbytes(3_000), "m4a", ANY)


def _mislabelled(_: random.Random) -> Iterator[Media]:
    for container in CONTAINERS:
        for label in CONTAINERS:
            if label != container:
                yield Media(f"{container} as {label}", _clip(container), label, frozenset({OK}))


def _raw(rng: random.Random) -> Iterator[Media]:
    invalid = frozenset({INVALID})
    good = np.zeros(9_600, "<f4")
    for name, value in (("nan", np.nan), ("inf", np.inf), ("-inf", -np.inf)):
        for at in (0, 4_800, 9_599):
            bad = good.copy()
            bad[at] = value
            yield Media(f"raw {name} at {at}", bad.tobytes(), "pcm_f32le", invalid)
    for value in (3.4e38, -3.4e38, 1e-45, 2.0):
        yield Media(f"raw {value}", np.full(9_600, value, "<f4").tobytes(), "pcm_f32le", frozenset({OK}))
    for container, width in (("pcm_s16le", 2), ("pcm_f32le", 4)):
        for channels in (1, 2):
            frame = width * channels
            yield Media(f"raw {container} {channels} empty", b"", container, invalid, channels=channels)
            for extra in range(1, frame):
                data = bytes(frame * 4_800 + extra)
                yield Media(f"raw {container} {channels} +{extra}", data, container, invalid, channels=channels)
    for n in range(5):
        yield Media(f"raw noise {n}", rng.randbytes(9_600), "pcm_s16le", frozenset({OK}))


def _lies(rng: random.Random) -> Iterator[Media]:
    wav = _clip("wav")
    for at, what in ((4, "riff"), (16, "fmt"), (24, "rate"), (28, "bytes"), (40, "data")):
        for value in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF):
            yield Media(f"wav {what} {value}", _with(wav, at, struct.pack("<I", value)), "wav", ANY)
    for at, what in ((20, "codec"), (22, "channels"), (32, "align"), (34, "bits")):
        for value in (0, 3, 9, 255, 65_535):
            yield Media(f"wav {what} {value}", _with(wav, at, struct.pack("<H", value)), "wav", ANY)
    mp4 = _clip("mp4")
    for box in (b"stts", b"stsz", b"stsc", b"stco", b"stsd", b"mdhd", b"mvhd", b"moov", b"trak", b"mdat", b"ftyp"):
        at = mp4.find(box)
        for value in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF):
            packed = struct.pack(">I", value)
            yield Media(f"mp4 size of {box!r} {value}", _with(mp4, at - 4, packed), "mp4", ANY)
            for offset in (8, 12, 16):
                yield Media(f"mp4 {box!r}+{offset} {value}", _with(mp4, at + offset, packed), "mp4", ANY)
    for n in range(12):
        data = _clip(rng.choice(("flac", "ogg", "webm")))
        yield Media(f"sizes {n}", _with(data, rng.randrange(4, 120), b"\xff\xff\xff\xff"), "ogg", ANY)


def _with(data: bytes, at: int, part: bytes) -> bytes:
    return data[:at] + part + data[at + len(part) :]


def _tags(_: random.Random) -> Iterator[Media]:
    for size in (10, 1_000, 1_000_000, 0x0FFFFFFF):
        told = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
        for body in (b"", bytes(min(size, 1_000_000))):
            tag = b"ID3\x04\x00\x00" + told + body
            yield Media(f"id3 of {size} with {len(body)}", tag, "mp3", frozenset({INVALID}))
            yield Media(f"id3 of {size} with {len(body)} before mp3", tag + _clip("mp3"), "mp3", ANY)


def _pictures(_: random.Random) -> Iterator[Media]:
    for muxer, codec, size in (("image2pipe", "png", 64), ("image2pipe", "mjpeg", 64), ("mp4", "mpeg4", 64)):
        buffer = io.BytesIO()
        with av.open(buffer, "w", format=muxer) as out:
            stream: Any = out.add_stream(codec, rate=25)
            stream.width = stream.height = size
            stream.pix_fmt = {"png": "rgb24", "mjpeg": "yuvj420p", "mpeg4": "yuv420p"}[codec]
            for _n in range(1 if muxer == "image2pipe" else 25):
                out.mux(stream.encode(av.VideoFrame(size, size, stream.pix_fmt)))
            out.mux(stream.encode(None))
        for label in ("m4a", "webm"):
            yield Media(f"{codec} as {label}", buffer.getvalue(), label, frozenset({INVALID}))
