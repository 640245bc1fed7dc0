"""Speech as a file that grows, by the real program: whole, in time, and without a trace left."""

import asyncio
import io

import av
import numpy as np
import pytest

from deployments.contracts.values import SAID_RATE_HZ
from deployments.errors import InternalFault
from deployments.media import stream_encoder
from deployments.media.ffmpeg import FFmpegFailed
from deployments.media.stream_encoder import FORMATS, StreamEncoder

TONE = (8000 * np.sin(np.arange(2 * SAID_RATE_HZ) * 2 * np.pi * 440 / SAID_RATE_HZ)).astype("<i2").tobytes()


async def rest_of(encoder: StreamEncoder) -> bytes:
    made = b""
    while data := await encoder.read():
        made += data
    return made


@pytest.mark.parametrize("container", FORMATS)
async def test_pieces_become_one_file_that_is_whole(container):
    async with asyncio.timeout(60), StreamEncoder(container) as encoder:
        for at in range(0, len(TONE), 10_000):
            await encoder.feed(TONE[at : at + 10_000])
        encoder.end()
        made = await rest_of(encoder)
    with av.open(io.BytesIO(made)) as file:
        [stream] = file.streams.audio
        heard = [frame.to_ndarray() for frame in file.decode(stream)]
        rate_hz = stream.codec_context.sample_rate
    n_samples = sum(block.shape[-1] for block in heard)
    assert n_samples / rate_hz == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize("container", ["mp3", "aac", "opus"])
async def test_the_file_begins_before_the_speech_has_ended(container):
    async with asyncio.timeout(60), StreamEncoder(container) as encoder:
        await encoder.feed(TONE * 2)
        assert await encoder.read()


async def test_a_program_that_fails_is_told(monkeypatch):
    monkeypatch.setitem(stream_encoder.FORMATS, "mp3", ("-f", "mp3", "-c:a", "no_such_codec"))
    async with asyncio.timeout(60), StreamEncoder("mp3") as encoder:
        await encoder.feed(TONE)
        encoder.end()
        with pytest.raises(InternalFault, match="the encoder failed"):
            await rest_of(encoder)


async def test_a_machine_without_the_program_says_so(monkeypatch):
    def missing() -> str:
        raise FFmpegFailed("there is no FFmpeg here")

    monkeypatch.setattr(stream_encoder, "program", missing)
    with pytest.raises(InternalFault, match="no FFmpeg"):
        await StreamEncoder("mp3").start()
