import struct

import pytest

from deployments.audio import containers
from deployments.errors import InvalidAudio


def box(name: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(payload), name) + payload


def stsz(count: int, sample_bytes: int = 1) -> bytes:
    return box(b"stsz", struct.pack(">III", 0, sample_bytes, count))


def moov(*boxes: bytes) -> bytes:
    return box(b"ftyp", b"M4A ") + box(b"moov", box(b"trak", b"".join(boxes)))


@pytest.mark.parametrize(
    ("data", "demuxer"),
    [
        (b"fLaC\0\0\0\x22", "flac"),
        (b"OggS\0", "ogg"),
        (b"RIFF\0\0\0\0WAVE", "wav"),
        (b"\x1a\x45\xdf\xa3", "matroska"),
        (b"\0\0\0\x1cftypM4A ", "mov"),
        (b"\xff\xf1\x50\x80", "aac"),
        (b"\xff\xf9\x50\x80", "aac"),
        (b"\xff\xfb\x90\x00", ""),
        (b"ID3\x04", ""),
        (b"#EXTM3U\n", ""),
        (b"\xff", ""),
        (b"", ""),
    ],
)
def test_the_first_bytes_name_the_demuxer(data: bytes, demuxer: str) -> None:
    assert containers.demuxer_of(data) == demuxer


def test_an_honest_index_is_accepted() -> None:
    containers.check_mp4(moov(stsz(11_250)) + box(b"mdat", bytes(100)))


@pytest.mark.parametrize(
    "data",
    [
        moov(stsz(200_001)),
        moov(*[stsz(50_001)] * 4),
        moov(box(b"free", stsz(2**32 - 1))),
        moov() + box(b"moof", box(b"trun", struct.pack(">II", 0, 2**31))),
        moov() + struct.pack(">I4s", 0, b"moov") + stsz(300_000),
        moov() + struct.pack(">I4sQ", 1, b"wide", 36) + stsz(300_000),
        box(b"ftyp", b"M4A ") + box(b"sidx", b"") + box(b"mdat", stsz(300_000)),
    ],
    ids=["one", "sum", "hidden", "fragment", "endless-box", "long-box", "index-into-media"],
)
def test_claims_that_would_fill_the_memory_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidAudio, match="claims"):
        containers.check_mp4(data)


def test_compressed_headers_are_refused() -> None:
    with pytest.raises(InvalidAudio, match="compressed"):
        containers.check_mp4(moov(box(b"cmov", b"")))


def test_names_that_stand_in_the_media_by_chance_do_no_harm() -> None:
    media = stsz(2**31) + b"cmov"
    containers.check_mp4(moov(stsz(100)) + box(b"mdat", media))
    containers.check_mp4(moov(stsz(100)) + struct.pack(">I4sQ", 1, b"mdat", 16 + len(media)) + media)


def test_a_count_that_is_cut_off_counts_nothing() -> None:
    containers.check_mp4(moov(stsz(2**31))[:-2])
