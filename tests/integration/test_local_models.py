"""The main job on the real server with the real models of configs/local.yaml, on real speech."""

import base64
import shutil
import subprocess

import httpx
import numpy as np
import pytest

from deployments.audio import codec
from tests.support import clips
from tests.support.words import word_error_rate
from tests.support.worker import Worker

pytestmark = pytest.mark.timeout(300)
FRAGMENTS = 50
SHORT_MS = 3000


@pytest.fixture(scope="module")
def server(serve):
    return serve("local")


@pytest.fixture(scope="module")
def timeout_ms(server):
    """What a fragment may take: 8 s, or more where two of `SHORT_MS`, one behind the other, leave no room in that."""
    measured = httpx.get(f"{server.url}/ready", trust_env=False).json()["measured"]
    return round(min(max(8000.0, 2 * (measured["asr_ms"] + measured["tts_ms"])), 30_000.0))


def audio_of(result):
    return base64.b64decode(result["dubbed_audio"]["data_base64"])


def rms(samples):
    return float(np.sqrt(np.mean(np.square(samples))))


async def test_a_worker_as_they_exist_dubs_50_fragments_without_a_failure(server, timeout_ms):
    """ADTS labelled m4a, 48 kHz stereo, voice default, no acks, hard cuts of real speech, 2 in flight."""
    fragments = clips.adts_fragments(SHORT_MS)
    async with Worker(server.url) as worker:
        await worker.init("existing-worker", {"chunk_duration_ms": SHORT_MS}, timeout_ms=timeout_ms)
        for number in range(FRAGMENTS):
            await worker.wait(lambda number=number: number - len(worker.results) < 2)
            await worker.send(number, fragments[number % len(fragments)], audio__duration_ms=SHORT_MS)
        results = await worker.wait_results(FRAGMENTS)
        await worker.emit("stream:end", {"stream_id": "existing-worker"})
        complete = (await worker.wait(lambda: worker.of("stream:complete")))[0]
    assert [r["sequence_number"] for r in results] == list(range(FRAGMENTS))
    assert [r["status"] for r in results] == ["success"] * FRAGMENTS
    assert all(r["processing_time_ms"] < timeout_ms for r in results)
    for result in results:
        assert result["metadata"]["duration_variance_percent"] <= 10
        assert audio_of(result)[4:8] == b"ftyp"
        dub = result["dubbed_audio"]
        assert (dub["format"], dub["sample_rate_hz"], dub["channels"]) == ("m4a", 48_000, 2)
    assert complete["total_fragments"] == complete["success_count"] == FRAGMENTS
    assert complete["failed_count"] == 0
    assert worker.errors == []


async def test_clear_speech_is_heard_with_a_word_error_rate_within_ten_percent(server):
    names = sorted(clips.transcripts())
    heard = {}
    async with Worker(server.url) as worker:
        await worker.init("wer", {"format": "wav"}, timeout_ms=30_000)
        number = 0
        for name in names:
            samples = clips.clip(name)
            texts = []
            for piece in at_pauses(samples):
                fragment = await worker.send(number, clips.encoded(piece, "wav"), audio__format="wav")
                await worker.wait(lambda f=fragment: worker.result(f))
                result = worker.result(fragment)
                assert result["status"] == "success", result.get("error")
                texts.append(result["transcript"])
                number += 1
            heard[name] = " ".join(texts)
    references = [clips.transcripts()[name] for name in names]
    assert word_error_rate(references, [heard[name] for name in names]) <= 0.10, heard


def at_pauses(samples, seconds=10, rate_hz=48_000):
    """Pieces of at most `seconds`, cut where it is quietest in the last third."""
    pieces = []
    while len(samples) > seconds * rate_hz:
        low, high = int(seconds * rate_hz * 2 / 3), seconds * rate_hz
        frame = rate_hz // 10
        energies = [rms(samples[i : i + frame]) for i in range(low, high - frame, frame // 2)]
        cut = low + int(np.argmin(energies)) * (frame // 2) + frame // 2
        pieces.append(samples[:cut])
        samples = samples[cut:]
    return [*pieces, samples]


async def test_edge_two_speakers_in_one_fragment_are_both_heard_and_spoken_by_the_one_voice(server):
    first, second = clips.clip("sense_and_sensibility-0880.wav"), clips.clip("two_cities.flac")[: 3 * 48_000]
    async with Worker(server.url) as worker:
        await worker.init("two-speakers", {"format": "wav"}, timeout_ms=30_000)
        audio = clips.encoded(np.concatenate([first, second]), "wav")
        await worker.send(0, audio, audio__format="wav")
        result = (await worker.wait_results(1))[0]
    assert result["status"] == "success", result.get("error")
    heard = result["transcript"].lower()
    assert "young man" in heard
    assert "best of times" in heard
    assert "joven" in result["translated_text"].lower()
    assert "tiempo" in result["translated_text"].lower()


async def test_us1_3_the_dub_is_speech_of_the_originals_length(server):
    async with Worker(server.url) as worker:
        await worker.init("speech")
        fragment = await worker.send(0, clips.adts_fragments()[0])
        await worker.wait_results(1)
    result = worker.result(fragment)
    assert result["status"] == "success"
    assert "tiempo" in result["translated_text"].lower()
    dub = clips.decoded(audio_of(result), "m4a")
    assert abs(dub.duration_ms - result["metadata"]["original_duration_ms"]) <= 1
    mono = dub.samples.mean(axis=1)
    levels = [rms(frame) for frame in np.array_split(mono, 60)]
    loud = [level > max(levels) / 10 for level in levels]  # it is as loud as its original, with its room behind it
    assert sum(loud) / len(loud) > 0.5
    spectrum = np.abs(np.fft.rfft(mono)) ** 2
    hertz = np.fft.rfftfreq(len(mono), 1 / 48_000)
    voice_band = spectrum[(hertz > 80) & (hertz < 4000)].sum() / spectrum.sum()
    assert voice_band > 0.8


@pytest.mark.parametrize("tool", ["ffprobe", "gst-launch-1.0"])
async def test_other_players_accept_the_dub_as_mp4(server, tool, tmp_path):
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    async with Worker(server.url) as worker:
        await worker.init("players")
        await worker.send(0, clips.adts_fragments(SHORT_MS)[0], audio__duration_ms=SHORT_MS)
        results = await worker.wait_results(1)
    file = tmp_path / "dub.m4a"
    file.write_bytes(audio_of(results[0]))
    if tool == "ffprobe":
        command = [tool, "-v", "error", "-show_entries", "stream=codec_name,sample_rate,channels", "-of", "csv", file]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        assert shown.stderr == ""
        assert shown.stdout.split() == ["stream,aac,48000,2"]
    else:
        pipeline = f"filesrc location={file} ! qtdemux ! aacparse ! fakesink"
        shown = subprocess.run([tool, *pipeline.split()], capture_output=True, text=True, check=False, timeout=30)
        assert shown.returncode == 0, shown.stderr
        assert "ERROR" not in shown.stdout + shown.stderr


async def test_segment_times_are_absolute_on_the_streams_timeline(server):
    """Without pts the sum of the durations before, with pts the worker's own time."""
    pcm = {"format": "pcm_s16le", "sample_rate_hz": 16_000, "channels": 1}
    piece = clips.clip("sense_and_sensibility-0880.wav", 16_000)
    audio = clips.encoded(piece, "pcm_s16le", 16_000, 1)
    length_ms = round(len(piece) / 16)
    fields = {f"audio__{name}": value for name, value in pcm.items()} | {"audio__duration_ms": length_ms}
    async with Worker(server.url) as worker:
        await worker.init("timeline", pcm)
        await worker.send(0, audio, **fields)
        await worker.send(1, audio, **fields)
        await worker.send(2, audio, **fields, metadata={"pts_ns": 60_000_000_000})
        results = await worker.wait_results(3)
    starts = [r["assets"]["transcript"]["segments"][0]["start_ms"] for r in results]
    assert 0 <= starts[0] < 1500
    assert starts[1] - starts[0] == length_ms
    assert starts[2] - starts[0] == 60_000
    for result in results:
        for segment in result["assets"]["transcript"]["segments"]:
            assert segment["start_ms"] < segment["end_ms"]
            assert all(segment["start_ms"] <= w["start_ms"] <= w["end_ms"] for w in segment["words"])


@pytest.mark.parametrize("sound", ["silence", "music"])
async def test_a_fragment_without_speech_succeeds_with_an_empty_transcript(server, sound):
    audio = clips.silence() if sound == "silence" else clips.music()
    async with Worker(server.url) as worker:
        await worker.init(f"no-speech-{sound}")
        await worker.send(0, audio, audio__duration_ms=SHORT_MS)
        result = (await worker.wait_results(1))[0]
    assert (result["status"], result["transcript"], result["translated_text"]) == ("success", "", "")
    assert result["stage_timings"]["translation_ms"] == 0
    dub = clips.decoded(audio_of(result), "m4a")
    assert abs(dub.duration_ms - result["metadata"]["original_duration_ms"]) <= 1
    assert rms(dub.samples) < 1e-3


@pytest.mark.parametrize(
    ("container", "rate_hz", "channels"),
    [("pcm_s16le", 16_000, 1), ("pcm_f32le", 44_100, 2), ("wav", 22_050, 1), ("mp3", 44_100, 2), ("flac", 48_000, 1)],
)
async def test_a_dub_comes_back_in_the_streams_own_format_rate_and_channels(server, container, rate_hz, channels):
    piece = clips.clip("sense_and_sensibility-0880.wav", rate_hz)
    config = {"format": container, "sample_rate_hz": rate_hz, "channels": channels}
    async with Worker(server.url) as worker:
        await worker.init(f"format-{container}", config)
        fields = {f"audio__{name}": value for name, value in config.items()}
        audio = clips.encoded(piece, container, rate_hz, channels)
        await worker.send(0, audio, **fields, audio__duration_ms=round(len(piece) / rate_hz * 1000))
        result = (await worker.wait_results(1))[0]
    assert result["status"] == "success", result.get("error")
    dub = result["dubbed_audio"]
    assert (dub["format"], dub["sample_rate_hz"], dub["channels"]) == (container, rate_hz, channels)
    found: codec.Decoded = clips.decoded(audio_of(result), container, rate_hz, channels)
    assert (found.sample_rate_hz, found.channels) == (rate_hz, channels)
    assert abs(found.duration_ms - dub["duration_ms"]) <= 1


async def test_results_name_their_models_and_their_lineage(server):
    async with Worker(server.url) as worker:
        await worker.init("lineage")
        fragment = await worker.send(0, clips.adts_fragments(SHORT_MS)[0], audio__duration_ms=SHORT_MS)
        result = (await worker.wait_results(1))[0]
    metadata, assets = result["metadata"], result["assets"]
    assert metadata["asr_model"] == "whisper-tiny.en"
    assert metadata["translation_model"].startswith("apertium")
    assert metadata["tts_model"].startswith("kokoro")
    assert assets["transcript"]["parent_asset_ids"] == [fragment]
    assert assets["translation"]["parent_asset_ids"] == [assets["transcript"]["asset_id"]]
    assert assets["audio"]["parent_asset_ids"] == [assets["translation"]["asset_id"]]
    timings = result["stage_timings"]
    assert min(timings["asr_ms"], timings["tts_ms"]) > 0
    assert result["processing_time_ms"] >= sum(timings.values())


async def test_pairs_that_are_not_installed_are_refused_when_the_stream_opens(server):
    async with Worker(server.url) as worker:
        config = {"target_language": "de"}
        await worker.emit("stream:init", {"stream_id": "pair", "worker_id": "w", "config": config})
        error = await worker.wait_error("UNSUPPORTED_LANGUAGE_PAIR")
        assert "en→de" in error["message"]
        assert "en→es" in error["message"]
        assert error["retryable"] is False
        ready = await worker.init("pair")
    assert ready["capabilities"]["asr_model"] == "whisper-tiny.en"
