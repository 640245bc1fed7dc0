"""Live streams and whole files through the real child process: every container that clients send, and what breaks."""

import asyncio
import io
import os
import tempfile
from contextlib import contextmanager
from itertools import pairwise

import av
import numpy as np
import pytest

from deployments.contracts.engines import ASR_RATE_HZ
from deployments.contracts.values import CONTAINER, OPUS_PACKETS
from deployments.errors import InvalidAudio
from deployments.media import stream_decoder
from deployments.media.stream_decoder import SOUND, StreamDecoder
from tests.support.captions import contained

RATE_HZ = 48_000
SECONDS = 2.0
CODECS = {
    "webm": "libopus", "ogg": "libopus", "mp3": "libmp3lame", "adts": "aac", "flac": "flac", "wav": "pcm_s16le",
    "asf": "wmav2", "avi": "libmp3lame", "mpegts": "aac", "matroska": "flac",
}  # fmt: skip
"""What is sent live and stored, by FFmpeg's name of the container."""
STORED = {**CODECS, "mp4": "aac"}


def tone() -> np.ndarray:
    times = np.arange(round(RATE_HZ * SECONDS)) / RATE_HZ
    return (8000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16)


@contextmanager
def stored(data: bytes):
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        yield file


async def sound_of(decoder: StreamDecoder, *pieces: bytes) -> np.ndarray:
    async def feed() -> None:
        for piece in pieces:
            await decoder.feed(piece)
        decoder.end()

    async with asyncio.timeout(60), decoder:
        feeding = asyncio.create_task(feed())
        heard = await rest_of(decoder)
        await feeding
    return np.frombuffer(heard, "<i2")


async def rest_of(decoder: StreamDecoder) -> bytes:
    heard = b""
    while sound := await decoder.read():
        heard += sound
    return heard


def check_tone(heard: np.ndarray) -> None:
    assert len(heard) / SOUND.sample_rate_hz == pytest.approx(SECONDS, abs=0.15)
    middle = heard[8000:24_000].astype(float)
    assert np.argmax(np.abs(np.fft.rfft(middle))) == pytest.approx(440, abs=2)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(8000 / np.sqrt(2), rel=0.1)


def test_what_comes_out_is_what_recognition_hears():
    assert SOUND.sample_rate_hz == ASR_RATE_HZ


@pytest.mark.parametrize(CONTAINER, CODECS)
async def test_a_live_container_is_decoded_in_pieces_of_any_size(container):
    data = contained(tone(), RATE_HZ, container, CODECS[container])
    cuts = [0, *np.cumsum(np.random.default_rng(1).integers(1, 3000, size=len(data) // 1000)).tolist(), len(data)]
    pieces = [data[start:end] for start, end in pairwise(cuts) if data[start:end]]
    check_tone(await sound_of(StreamDecoder(CONTAINER), *pieces))


@pytest.mark.parametrize(CONTAINER, STORED)
async def test_a_file_is_decoded_from_its_beginning(container):
    with stored(contained(tone(), RATE_HZ, container, STORED[container])) as file:
        check_tone(await sound_of(StreamDecoder(file)))


async def test_sound_comes_while_the_stream_goes_on():
    """With all of two seconds fed and no end, all but the codec's own delay is there."""
    async with asyncio.timeout(60), StreamDecoder(CONTAINER) as decoder:
        await decoder.feed(contained(tone(), RATE_HZ, "webm", "libopus"))
        heard_bytes = 0
        while heard_bytes < 2 * SOUND.sample_rate_hz * (SECONDS - 0.3):
            heard_bytes += len(await decoder.read())


def packets() -> list[bytes]:
    with av.open(io.BytesIO(contained(tone(), RATE_HZ, "ogg", "libopus"))) as container:
        return [bytes(packet) for packet in container.demux() if packet.size]


async def test_bare_packets_of_opus_are_decoded_and_one_that_is_none_is_passed_over():
    check_tone(await sound_of(StreamDecoder(OPUS_PACKETS), *packets()))
    check_tone(
        await sound_of(StreamDecoder(OPUS_PACKETS), *packets()[:50], b"\xff" * 10, bytes(70_000), *packets()[50:])
    )


BROKEN = {
    "nothing": (b"", "is empty"),
    "noise": (np.random.default_rng(1).bytes(30_000), "can't be read: invalid data"),
    "the middle of one": (contained(tone(), RATE_HZ, "ogg", "libopus")[2000:], "can't be read"),
    "big-endian samples": (b"RIFX" + bytes(100), "big-endian"),
    "text": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n" * 20, "can't be read"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(500), "can't be read"),
}


@pytest.mark.parametrize("live", [True, False], ids=["live", "stored"])
@pytest.mark.parametrize("what", BROKEN)
async def test_what_is_no_audio_is_refused_saying_why(what, live):
    data, reason = BROKEN[what]
    with stored(data) as file, pytest.raises(InvalidAudio, match=f"(?i){reason}"):
        await sound_of(StreamDecoder(CONTAINER if live else file), *([data] if live else []))


async def test_packets_that_are_no_opus_end_the_stream_saying_so():
    with pytest.raises(InvalidAudio, match="no Opus"):
        await sound_of(StreamDecoder(OPUS_PACKETS), *[b"\xff" * 10] * 100)


async def test_a_stream_cut_off_on_its_way_gives_what_came():
    heard = await sound_of(StreamDecoder(CONTAINER), contained(tone(), RATE_HZ, "webm", "libopus")[: 8 * 1024])
    assert 0.3 < len(heard) / SOUND.sample_rate_hz < SECONDS


async def test_a_hole_in_a_file_stays_a_hole():
    """A file whose sound begins late is silent until then, so that words stand where they are said."""
    written = io.BytesIO()
    with av.open(written, "w", format="matroska") as output:
        stream = output.add_stream("flac", rate=RATE_HZ, layout="mono")
        for start in (0, 3 * RATE_HZ):
            for number, block in enumerate(np.split(tone(), 20)):
                frame = av.AudioFrame.from_ndarray(block[None], format="s16", layout="mono")
                frame.sample_rate, frame.pts = RATE_HZ, start + number * len(block)
                output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with stored(written.getvalue()) as file:
        heard = await sound_of(StreamDecoder(file))
    assert len(heard) / SOUND.sample_rate_hz == pytest.approx(5.0, abs=0.1)
    assert not heard[33_500:47_000].any()


async def test_a_decoder_that_dies_costs_its_own_source_only():
    async with asyncio.timeout(60), StreamDecoder(CONTAINER) as dying, StreamDecoder(CONTAINER) as other:
        data = contained(tone(), RATE_HZ, "webm", "libopus")
        await dying.feed(data[:4000])
        await other.feed(data)
        other.end()
        dying._process.kill()
        with pytest.raises(InvalidAudio, match="ends the decoder"):
            await rest_of(dying)
        await dying.feed(data[4000:])
        check_tone(np.frombuffer(await rest_of(other), "<i2"))


async def test_what_was_ended_before_it_started_ends():
    decoder = StreamDecoder(CONTAINER)
    decoder.end()
    with pytest.raises(InvalidAudio, match="is empty"):
        await sound_of(decoder)


async def test_the_child_is_confined_and_inherits_no_secret(monkeypatch):
    monkeypatch.setenv("LIVEDUB_AUTH__API_KEYS", '["secret"]')
    async with asyncio.timeout(60), StreamDecoder(CONTAINER) as decoder:
        await decoder.feed(contained(tone(), RATE_HZ, "webm", "libopus"))
        await decoder.read()
        about = f"/proc/{decoder._process.pid}"
        with open(f"{about}/limits", encoding="ascii") as file:  # noqa: ASYNC230, PTH123
            limits = file.read()
        with open(f"{about}/environ", encoding="ascii") as file:  # noqa: ASYNC230, PTH123
            assert "secret" not in file.read()
    assert "Max open files            0 " in limits
    assert "Max file size             0 " in limits


async def test_closing_leaves_no_process():
    async with StreamDecoder(CONTAINER) as decoder:
        pid = decoder._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await stream_decoder.StreamDecoder(CONTAINER).close()
