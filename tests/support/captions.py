"""A client of `/v1/listen` that sends audio as fast as it is spoken and notes when each message comes."""

import asyncio
import io
import json
import time
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
import websockets
from numpy.typing import NDArray

from deployments.audio import pcm

RATE_HZ = 16_000
CHUNK_MS = 100


def loud(duration_ms: int) -> bytes:
    """What fakes take for speech: 16 kHz, 16 bit, mono, as all here."""
    noise = np.random.default_rng(1).normal(0, 0.1, RATE_HZ * duration_ms // 1000).astype(np.float32)
    return pcm.to_bytes(noise, "pcm_s16le")


def quiet(duration_ms: int) -> bytes:
    """Digital silence."""
    return bytes(RATE_HZ * duration_ms // 1000 * 2)


def contained(samples: NDArray[np.int16], rate_hz: int, container: str, codec: str) -> bytes:
    """Sound, mono, as a file.

    Args:
        samples: of it.
        rate_hz: of these.
        container: FFmpeg's name of it.
        codec: FFmpeg's name of it.
    """
    written = io.BytesIO()
    with av.open(written, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate_hz, layout="mono")
        stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            output.mux(packet)
    return written.getvalue()


@dataclass
class Captions:
    """What one session was told."""

    began_s: float = 0.0
    """When its first audio was sent, on the monotonic clock."""
    told: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    """Each message and when it came, in seconds since then."""
    close_code: int | None = None

    @property
    def results(self) -> list[tuple[float, dict[str, Any]]]:
        return [(at_s, message) for at_s, message in self.told if message["type"] == "Results"]

    @property
    def finals(self) -> list[tuple[float, dict[str, Any]]]:
        return [(at_s, message) for at_s, message in self.results if message["is_final"]]

    @property
    def said(self) -> list[str]:
        """The texts of the finals that have one."""
        texts = [text_of(message) for _, message in self.finals]
        return [text for text in texts if text]


def text_of(message: dict[str, Any]) -> str:
    return str(message["channel"]["alternatives"][0]["transcript"])


async def captioned(url: str, audio: bytes, *, pace: float = 1.0, key: str = "", **query: object) -> Captions:
    """Send audio, close the stream, and return what came.

    Args:
        url: of the server, http://…
        audio: 16 kHz, 16 bit, mono.
        pace: how many times as fast as it is spoken it is sent.
        key: where the server asks for one.
        query: parameters, besides encoding and rate.
    """
    asked = {"encoding": "linear16", "sample_rate": RATE_HZ, **query}
    where = f"{url.replace('http', 'ws', 1)}/v1/listen?" + "&".join(f"{name}={value}" for name, value in asked.items())
    captions = Captions()
    headers = {"Authorization": f"Token {key}"} if key else {}
    async with websockets.connect(where, additional_headers=headers) as socket:
        captions.began_s = time.monotonic()

        async def read() -> None:
            async for message in socket:
                captions.told.append((time.monotonic() - captions.began_s, json.loads(message)))

        reading = asyncio.create_task(read())
        chunk_bytes = RATE_HZ * CHUNK_MS // 1000 * 2
        for at in range(0, len(audio), chunk_bytes):
            chunk = audio[at : at + chunk_bytes]
            due_s = captions.began_s + (at + len(chunk)) / 2 / RATE_HZ / pace
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            await socket.send(chunk)
        await socket.send(json.dumps({"type": "CloseStream"}))
        await reading
        captions.close_code = socket.close_code
    return captions
