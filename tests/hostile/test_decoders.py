"""A decoder that dies costs its own fragment; the replica around it, model included, goes on."""

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deployments.asr.deployment import Asr
from deployments.asr.fake import FakeAsrOptions
from deployments.audio import codec, decode_worker, decoders
from deployments.audio.decoders import Decoders
from deployments.contracts.values import AudioFormat, EncodedAudio, FragmentRef, TranscribeRequest
from deployments.errors import DeadlineExceeded, FragmentTooLarge, InternalFault, InvalidAudio, Stage
from tests.support import clips

DYING = "tests.hostile.dying_decoder"
M4A = AudioFormat("m4a", 48_000, 2)
TIME_MS = 30_000


@pytest.fixture(scope="module")
def good():
    return EncodedAudio(clips.adts_fragments(1000)[0], M4A)


@pytest.fixture
def dying():
    pool = Decoders(Stage.ASR, 1, DYING)
    pool.start()
    yield pool
    pool.close()


def bad(text: bytes) -> EncodedAudio:
    return EncodedAudio(text, M4A)


def pids(pool: Decoders) -> list[int]:
    return [held.process.pid for held in pool._free.queue if held is not None]


def test_what_comes_out_is_what_the_decoder_in_this_process_gives(good):
    pool = Decoders(Stage.ASR, 1)
    apart, here = pool.decode(good, TIME_MS), codec.decode(good)
    pool.close()
    assert np.array_equal(apart.samples, here.samples)
    assert (apart.sample_rate_hz, apart.channels, apart.container) == (here.sample_rate_hz, here.channels, "m4a")


@pytest.mark.parametrize("how", [b"segfault", b"exit"])
def test_what_kills_a_decoder_is_invalid_audio_and_the_decoder_is_replaced(dying, good, how):
    before = pids(dying)
    with pytest.raises(InvalidAudio, match="ends the decoder"):
        dying.decode(bad(how), TIME_MS)
    assert dying.decode(good, TIME_MS).duration_ms > 900
    assert pids(dying) != before


def test_a_death_that_the_input_did_not_cause_costs_nothing(dying, tmp_path):
    once = tmp_path / "once"
    once.mkdir()
    with pytest.raises(InvalidAudio, match="can't be read") as refused:
        dying.decode(bad(b"once " + os.fsencode(once)), TIME_MS)
    assert "ends the decoder" not in refused.value.message
    assert not once.exists()


def test_a_decoder_that_was_killed_while_idle_is_replaced(dying, good):
    [pid] = pids(dying)
    os.kill(pid, signal.SIGKILL)
    assert dying.decode(good, TIME_MS).duration_ms > 900


def test_endless_computing_is_ended_by_the_limit_of_cpu(dying, good):
    with pytest.raises(InvalidAudio, match="of CPU"):
        dying.decode(bad(b"spin"), TIME_MS)
    assert dying.decode(good, TIME_MS).duration_ms > 900


def test_memory_is_limited_and_the_decoder_lives_on(dying, good):
    before = pids(dying)
    with pytest.raises(InvalidAudio, match="memory"):
        dying.decode(bad(b"swell"), TIME_MS)
    assert dying.decode(good, TIME_MS).duration_ms > 900
    assert pids(dying) == before


def test_a_decoder_opens_no_file(dying):
    with pytest.raises(InternalFault, match="Too many open files"):
        dying.decode(bad(b"open"), TIME_MS)


def test_a_decoder_that_waits_is_killed_and_the_fragment_may_be_sent_again(dying, good, monkeypatch):
    monkeypatch.setattr(decoders, "WALL_LIMIT_S", 0.3)
    with pytest.raises(DeadlineExceeded):
        dying.decode(bad(b"wait"), TIME_MS)
    monkeypatch.undo()
    assert dying.decode(good, TIME_MS).duration_ms > 900


def test_a_decode_ends_with_its_fragments_time(dying, good):
    """Not after ten seconds, which other fragments would wait for."""
    started_s = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="ran out while"):
        dying.decode(bad(b"wait"), 50)
    assert time.monotonic() - started_s < 5
    assert dying.decode(good, TIME_MS).duration_ms > 900


def test_a_decoder_that_is_nearly_done_is_not_killed_over_it(dying, good):
    """A new one takes longer than what is left; the fragment is late all the same."""
    before = pids(dying)
    with pytest.raises(DeadlineExceeded):
        dying.decode(bad(b"pause"), 50)
    assert dying.decode(good, TIME_MS).duration_ms > 900
    assert pids(dying) == before


@pytest.mark.parametrize("budget_ms", [0, -5])
def test_a_decode_without_time_is_not_begun(dying, budget_ms):
    """Whatever the audio, no child hears of it."""
    before = pids(dying)
    for audio in (bad(b"exit"), EncodedAudio(bytes(2 * 48_000), AudioFormat("pcm_s16le", 48_000, 1))):
        with pytest.raises(DeadlineExceeded, match="before it was decoded"):
            dying.decode(audio, budget_ms)
    assert pids(dying) == before


def test_nobody_waits_for_a_decoder_beyond_the_fragments_time(dying):
    """One that hangs holds up the others for as long as they have themselves."""
    with ThreadPoolExecutor(1) as threads:
        child_of_the_other = dying._free.get()
        started_s = time.monotonic()
        error = threads.submit(dying.decode, bad(b"exit"), 50).exception()
        assert isinstance(error, DeadlineExceeded)
        assert time.monotonic() - started_s < 5
        dying._free.put(child_of_the_other)


def test_a_decoder_that_is_slow_to_start_is_waited_for_by_the_next_ones(good):
    """Each waits within its own time, and none has the start begin anew."""
    pool = Decoders(Stage.ASR, 1)
    with pytest.raises(DeadlineExceeded, match="no decoder was ready"):
        pool.decode(good, 1)
    before = pids(pool)
    assert pool.decode(good, TIME_MS).duration_ms > 900
    assert pids(pool) == before
    pool.close()


def test_a_decoder_that_never_starts_is_told_as_such():
    pool = Decoders(Stage.ASR, 1, "tests.hostile.no_such_module")
    with pytest.raises(InternalFault, match="did not start"):
        pool.decode(bad(b"anything"), TIME_MS)
    with pytest.raises(InternalFault, match="did not start"):
        pool.start()


def test_a_start_that_takes_too_long_is_given_up(monkeypatch):
    """Then the next fragment starts another one."""
    monkeypatch.setattr(decoders, "_START_LIMIT_S", 0.001)
    pool = Decoders(Stage.ASR, 1)
    with pytest.raises(InternalFault, match="did not start"):
        pool.decode(bad(b"anything"), TIME_MS)
    monkeypatch.undo()
    with pytest.raises(InvalidAudio):
        pool.decode(bad(b"anything"), TIME_MS)
    pool.close()


def test_a_decode_holds_its_child_until_it_has_ended(dying, monkeypatch):
    monkeypatch.setattr(decoders, "WALL_LIMIT_S", 0.3)
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(dying.decode, bad(b"wait"), TIME_MS) for _ in range(4)]
    assert all(isinstance(call.exception(), DeadlineExceeded) for call in calls)
    assert dying._free.qsize() == 1


def test_too_long_stays_too_long():
    pool = Decoders(Stage.ASR, 1)
    long = EncodedAudio(clips.encoded(np.zeros((61 * 8_000, 1), np.float32), "flac", 8_000, 1), M4A)
    with pytest.raises(FragmentTooLarge) as refused:
        pool.decode(long, TIME_MS)
    pool.close()
    assert refused.value.details == {"max_duration_ms": 60_000}


def test_a_decoder_knows_neither_the_model_nor_ray_nor_a_key(monkeypatch):
    monkeypatch.setenv("DEEPL_API_KEY", "secret")
    pool = Decoders(Stage.ASR, 1)
    pool.start()
    [pid] = pids(pool)
    assert b"secret" not in Path(f"/proc/{pid}/environ").read_bytes()
    mapped = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    pool.close()
    assert "/av" in mapped
    assert not any(f"site-packages/{name}/" in mapped for name in ("ray", "torch", "ctranslate2", "pydantic_core"))


def test_a_decoder_ends_with_the_process_that_started_it():
    """The parent is killed; its child sees the end of the socket, and with it goes the last holder of the pipe."""
    source = (
        "import os; from deployments.audio.decoders import Decoders; from deployments.errors import Stage\n"
        "pool = Decoders(Stage.ASR, 1); pool.start()\n"
        "print(pool._free.queue[0].process.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.run([sys.executable, "-c", source], capture_output=True, check=False, text=True)
    assert parent.returncode == -signal.SIGKILL
    with contextlib.suppress(ProcessLookupError):
        ended = os.pidfd_open(int(parent.stdout))
        readable, _, _ = select.select([ended], [], [], decode_worker.WALL_LIMIT_S)
        os.close(ended)
        assert readable


async def test_the_same_replica_goes_on_while_a_decoder_crashes(good):
    asr = Asr(FakeAsrOptions(engine="fake").build(), 4, decode_processes=2)
    asr._decoders.close()
    asr._decoders = Decoders(Stage.ASR, 2, DYING)
    asr._decoders.start()

    def request(number: int, audio: EncodedAudio) -> TranscribeRequest:
        return TranscribeRequest(FragmentRef("s", f"f{number}", number), audio, "en", (), 30_000)

    audios = [bad(b"segfault") if number % 3 == 0 else good for number in range(12)]
    answers = await asyncio.gather(
        *(asr.transcribe(request(number, audio)) for number, audio in enumerate(audios)), return_exceptions=True
    )
    asr.check_health()
    asr._decoders.close()
    for number, answer in enumerate(answers):
        assert isinstance(answer, InvalidAudio) is (number % 3 == 0), answer
        assert number % 3 == 0 or answer.duration_ms > 900
