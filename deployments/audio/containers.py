"""What a stranger's bytes are, told before FFmpeg reads them. PURE: bytes in, a name or a refusal out.

FFmpeg guesses among hundreds of demuxers, some of which open other files; here a few magic numbers decide. And it
believes an MP4's claim to hold two thousand million samples before it looks for one of them: such claims are counted
here first.
"""

import struct

from deployments.errors import InvalidAudio, Stage

_MAGIC = ((b"fLaC", "flac"), (b"OggS", "ogg"), (b"RIFF", "wav"), (b"RF64", "wav"), (b"\x1a\x45\xdf\xa3", "matroska"))
_MP4_FIRST_BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"sidx", b"uuid"}
_FRAGMENT_BOXES = (b"moof", b"mvex", b"sidx", b"mfra")

_MAX_MP4_SAMPLES = 200_000
"""A minute of AAC at 192 kHz has 11 250. Uncompressed audio in MOV, one entry a sample, is what this rules out."""
_BOX_HEADER_BYTES = 8


_MATROSKA_PARTS = (b"\x1f\x43\xb6\x75", b"\xa3", b"\xa0")
"""A cluster, and blocks in one."""
_OGG_FLAGS, _OGG_BEGINS = 5, 0x02


def check_beginning(data: bytes) -> None:
    """Refuse what FFmpeg takes for something else, and pieces of files as recorders give them out: InvalidAudio."""
    if data.startswith(b"RIFX"):
        raise InvalidAudio(Stage.ASR, "WAV of big-endian samples (RIFX) is not accepted: send little-endian ones")
    if _lacks_header(data):
        raise InvalidAudio(
            Stage.ASR, "the audio can't be read: its header is missing, and a fragment has to be a whole file"
        )


def _lacks_header(data: bytes) -> bool:
    if data.startswith(b"OggS"):
        return len(data) > _OGG_FLAGS and not data[_OGG_FLAGS] & _OGG_BEGINS
    if data[4:8] in _MP4_FIRST_BOXES:
        return b"moov" not in data
    return data.startswith(_MATROSKA_PARTS)


def demuxer_of(data: bytes) -> str:
    """FFmpeg's name of the demuxer for data; empty where only raw AAC and MP3 are left to be told apart."""
    for magic, demuxer in _MAGIC:
        if data.startswith(magic):
            return demuxer
    if data[4:8] in _MP4_FIRST_BOXES:
        return "mov"
    second = data[1] if data[:1] == b"\xff" and len(data) > 1 else 0
    if second & 0xF6 == 0xF0:  # noqa: PLR2004 - the rest of the sync word, and layer 0
        return "aac"
    return ""


def check_mp4(data: bytes) -> None:
    """Refuse an MP4 whose few bytes would make a demuxer fill the memory: InvalidAudio."""
    described = _without_media(data)
    if b"cmov" in described:
        raise InvalidAudio(Stage.ASR, "compressed MP4 headers are not accepted")
    claimed = _claimed(described, b"stsz", 8) + _claimed(described, b"trun", 4)
    if claimed > _MAX_MP4_SAMPLES:
        raise InvalidAudio(Stage.ASR, f"the MP4 claims {claimed} samples, at most {_MAX_MP4_SAMPLES} are accepted")


def _claimed(described: bytes, box: bytes, count_offset: int) -> int:
    """The sum of the sample counts in all boxes of a type, wherever they stand.

    Looked for by name and not by walking the tree: a damaged tree must not hide a box that FFmpeg would find.
    """
    total, at = 0, described.find(box)
    while at >= 0:
        count = described[at + len(box) + count_offset :][:4]
        total += struct.unpack(">I", count)[0] if len(count) == 4 else 0  # noqa: PLR2004 - bytes of a count
        at = described.find(box, at + 1)
    return total


def _without_media(data: bytes) -> bytes:
    """An MP4 without its mdat boxes, in whose bytes any name may stand by chance.

    A fragmented file stays whole: its index may point FFmpeg into an mdat.
    """
    parts: list[bytes] = []
    at = 0
    while at + _BOX_HEADER_BYTES <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if size == 1 and at + 2 * _BOX_HEADER_BYTES <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + _BOX_HEADER_BYTES)
        if size < _BOX_HEADER_BYTES:
            break
        if name != b"mdat":
            parts.append(data[at : at + size])
        at += size
    parts.append(data[at:])
    described = b"".join(parts)
    return data if any(box in described for box in _FRAGMENT_BOXES) else described
