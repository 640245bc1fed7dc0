"""Files of the commonest kinds go through whole: no picture is lost, and the sound stays where it was."""

from pathlib import Path

import av
import numpy as np
import pytest

from deployments.media.reader import read
from deployments.media.tracks import probe
from tests.support.media_matrix import (
    B_FRAMES,
    H264,
    KINDS,
    PICTURE,
    QUIET,
    SOUND,
    Kind,
    dub_with_itself,
    ffmpeg,
    offset_ms,
    picture_hashes,
    picture_times_s,
    row,
)

FILES = Path(__file__).parents[4] / "docs" / "files.md"


def named(kind: Kind) -> str:
    return f"{kind.name} to {kind.out}" if kind.out else kind.name


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_a_file_comes_out_whole_as_the_table_says(tmp_path: Path, kind: Kind) -> None:
    source = kind.make(tmp_path)
    line, info, plan = row(kind, source)
    assert line in FILES.read_text(encoding="utf-8").splitlines()
    if plan is None:
        return

    dub_with_itself(source, plan.path)

    out = probe(plan.path)
    before, after = (np.concatenate(list(read(one))) for one in (info, out))
    assert abs(offset_ms(before, after, info.sample_rate_hz)) <= 20
    if info.picture is None or not plan.target.video:
        return
    if info.picture.index in plan.converted:
        assert len(picture_hashes(plan.path)) == len(picture_hashes(source))
    else:
        assert picture_hashes(plan.path) == picture_hashes(source)
    times, before_s = picture_times_s(plan.path), picture_times_s(source)
    assert times == sorted(times)
    if before_s and info.picture.index not in plan.converted:
        assert times[0] - out.start_s == pytest.approx(before_s[0] - info.start_s, abs=0.021)


ODD = {
    "pictures at changing rates": ("-vf", "setpts='N*(1+mod(N\\,3))/(25*TB)'", "-fps_mode", "vfr", *B_FRAMES),
    "a start long after zero": ("-output_ts_offset", "3600", *B_FRAMES),
    "pictures that start late": ("-vf", "setpts=PTS+0.7/TB", *B_FRAMES),
    "one group of pictures": ("-g", "999", *B_FRAMES),
    "open groups": (*H264, "-bf", "2", "-x264-params", "open-gop=1:keyint=10"),
    "key frames alone": ("-g", "1", *H264),
    "interlaced": (*H264, "-flags", "+ildct+ilme", "-x264-params", "tff=1"),
    "turned": ("-display_rotation", "90", *H264),
    "ten bits": ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", *QUIET, "-preset", "ultrafast"),
}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mov"])
@pytest.mark.parametrize("kind", ODD)
def test_odd_pictures_are_copied_as_ffmpeg_copies_them(tmp_path: Path, kind: str, suffix: str) -> None:
    options = ODD[kind]
    before = ("-display_rotation", "90") if kind == "turned" else ()
    source = tmp_path / f"in{suffix}"
    rest = options[2:] if before else options
    ffmpeg(*before, "-f", "lavfi", "-i", PICTURE, "-f", "lavfi", "-i", SOUND, *rest, "-c:a", "aac", str(source))
    theirs, ours = tmp_path / "theirs.mkv", tmp_path / "ours.mkv"
    ffmpeg("-i", str(source), "-c", "copy", str(theirs))

    dub_with_itself(source, ours)

    assert picture_hashes(ours) == picture_hashes(theirs) == picture_hashes(source)
    starts_s = [picture_times_s(path)[0] - probe(path).start_s for path in (ours, theirs)]
    assert starts_s[0] == pytest.approx(starts_s[1], abs=0.022)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_damaged_pictures_lose_no_packet(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"in{suffix}"
    codec = H264 if suffix != ".avi" else ("-c:v", "mpeg4")
    ffmpeg("-f", "lavfi", "-i", PICTURE, "-f", "lavfi", "-i", SOUND, *codec, "-c:a", "libmp3lame", str(source))
    data = bytearray(source.read_bytes())
    with av.open(source) as container:
        for packet in list(container.demux(video=0))[7:90:20]:
            data[packet.pos + packet.size // 2 : packet.pos + packet.size // 2 + 20] = b"\xff" * 20
    source.write_bytes(data)

    dub_with_itself(source, tmp_path / "out.mkv")

    with av.open(source) as before, av.open(tmp_path / "out.mkv") as after:
        counts = [sum(packet.size > 0 for packet in one.demux(video=0)) for one in (before, after)]
    assert counts[1] == counts[0]


@pytest.mark.parametrize("suffix", [".mp3", ".m4a", ".flac", ".mp4", ".mkv"])
def test_a_cover_stays(tmp_path: Path, suffix: str) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64:d=1", "-frames:v", "1", str(tmp_path / "cover.jpg"))
    source = tmp_path / f"in{suffix}"
    cover = ("-map", "1:v", "-c:v", "copy", "-disposition:v", "attached_pic")
    if suffix == ".mkv":
        cover = ("-attach", str(tmp_path / "cover.jpg"), "-metadata:s:t", "mimetype=image/jpeg")
    ffmpeg("-f", "lavfi", "-i", SOUND, "-i", str(tmp_path / "cover.jpg"), "-map", "0:a", *cover, str(source))

    _, plan, _ = dub_with_itself(source, tmp_path / f"out{suffix}")

    assert plan.notes == ()
    assert [track.kind for track in probe(plan.path).tracks if track.cover or track.kind == "attachment"] != []
