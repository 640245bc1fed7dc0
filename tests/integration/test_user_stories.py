"""The acceptance scenarios of the five user stories and every edge case, by their numbers, on the real server.

Story 1 runs on real models in test_local_models.py; here its ordering and what needs scripted models.
"""

import asyncio
import re

import httpx
import pytest

from tests.support import clips
from tests.support.speed import seconds
from tests.support.worker import Worker

MS = 1000
SLOW_MS = 700
SCRIPT = {
    "args.asr.script": [
        {"stream": "us2-1", "delay_ms": 20_000},
        {"stream": "us2-2", "times": 1, "error": "MODEL_ERROR"},
        {"stream": "us3-*", "delay_ms": SLOW_MS},
        {"stream": "us5-2", "delay_ms": SLOW_MS},
        {"stream": "us5-4", "fragments": [3, 11, 19, 27, 35], "error": "MODEL_ERROR"},
        {"stream": "oom", "fragments": [1], "error": "GPU_OOM"},
        {"stream": "reordered", "fragments": [0, 2], "delay_ms": 400},
    ],
    "args.translation.script": [
        {"stream": "rate-limit", "times": 1, "error": "RATE_LIMIT_EXCEEDED"},
        {"stream": "quota", "error": "TRANSLATION_QUOTA_EXCEEDED"},
    ],
    "args.tts.script": [
        {"stream": "us2-3", "error": "INVALID_TEXT"},
        {"stream": "us4-2", "error": "SYNTHESIS_FAILED"},
    ],
}


@pytest.fixture(scope="module")
def server(serve):
    return serve("fakes", SCRIPT)


@pytest.fixture(scope="module")
def audio():
    return clips.adts_fragments(MS)[0]


async def send_all(worker, numbers, audio):
    return [await worker.send(number, audio, audio__duration_ms=MS) for number in numbers]


# --- story 1: the whole pipeline ---


async def test_us1_1_a_fragment_is_acknowledged_and_then_dubbed(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("us1-1")
        fragment = await worker.send(0, audio, audio__duration_ms=MS)
        await worker.wait_results(1)
    order = [r.event for r in worker.events if r.event.startswith("fragment:")]
    assert order == ["fragment:ack", "fragment:processed"]
    ack = worker.of("fragment:ack")[0]
    assert (ack["fragment_id"], ack["status"], ack["queue_position"]) == (fragment, "queued", 0)


async def test_us1_2_a_success_holds_audio_transcript_translation_and_timings(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("us1-2")
        await worker.send(0, audio, audio__duration_ms=MS)
        result = (await worker.wait_results(1))[0]
    assert result["status"] == "success"
    assert result["dubbed_audio"]["data_base64"]
    assert result["transcript"] == "fragment 0"
    assert result["translated_text"]
    assert set(result["stage_timings"]) == {"asr_ms", "translation_ms", "tts_ms"}
    assert all(type(value) is int for value in result["stage_timings"].values())
    assert "error" not in result


async def test_us1_4_results_leave_in_order_whatever_finishes_first(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("reordered", max_inflight=10)
        await send_all(worker, [1, 2, 0, 3, 5, 4, 6], audio)
        results = await worker.wait_results(7)
    assert [r["sequence_number"] for r in results] == list(range(7))


# --- story 2: errors ---


async def test_us2_1_a_slow_recognition_times_out_retryable_in_its_stage(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("us2-1", timeout_ms=1000)
        await worker.send(0, audio, audio__duration_ms=MS)
        result = (await worker.wait_results(1))[0]
    assert result["status"] == "failed"
    error = result["error"]
    assert (error["stage"], error["code"], error["retryable"]) == ("asr", "TIMEOUT", True)
    assert 1000 <= result["processing_time_ms"] < 1000 + seconds(1) * 1000


async def test_us2_2_a_fragment_that_failed_is_processed_anew_when_it_is_resent(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("us2-2")
        fragment = await worker.send(0, audio, audio__duration_ms=MS)
        failed = (await worker.wait_results(1))[0]
        await worker.send(0, audio, fragment_id=fragment, audio__duration_ms=MS)
        again = (await worker.wait_results(2))[1]
        await worker.send(0, audio, fragment_id=fragment, audio__duration_ms=MS)
        kept = (await worker.wait_results(3))[2]
    assert (failed["status"], failed["error"]["retryable"]) == ("failed", True)
    assert (again["status"], again["fragment_id"], again["sequence_number"]) == ("success", fragment, 0)
    assert kept == again


async def test_us2_3_a_text_that_cannot_be_spoken_is_not_retryable(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("us2-3")
        await worker.send(0, audio, audio__duration_ms=MS)
        result = (await worker.wait_results(1))[0]
    assert (result["error"]["stage"], result["error"]["code"]) == ("tts", "INVALID_TEXT")
    assert result["error"]["retryable"] is False
    assert result["transcript"] == "fragment 0"


async def test_us2_4_silence_succeeds_without_translation_and_synthesis(server):
    async with Worker(server.url) as worker:
        await worker.init("us2-4")
        await worker.send(0, clips.silence("aac", MS), audio__duration_ms=MS)
        result = (await worker.wait_results(1))[0]
    assert (result["status"], result["transcript"], result["stage_timings"]["translation_ms"]) == ("success", "", 0)
    assert result["dubbed_audio"]["data_base64"]


# --- story 3: backpressure ---


async def test_us3_1_the_fourth_fragment_in_flight_says_slow_down_and_is_taken(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("us3-1")
        await send_all(worker, range(4), audio)
        event = (await worker.wait(lambda: [b for b in worker.of("backpressure") if b["severity"] == "medium"]))[0]
        assert (event["action"], event["current_inflight"], event["max_inflight"]) == ("slow_down", 4, 3)
        assert event["threshold_exceeded"] == "medium"
        assert type(event["recommended_delay_ms"]) is int
        results = await worker.wait_results(4)
    assert {r["status"] for r in results} == {"success"}


async def test_us3_2_recovery_is_told_when_the_count_is_below_the_mark(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("us3-2")
        await send_all(worker, range(4), audio)
        await worker.wait_results(4)
        levels = [(b["severity"], b["action"], b["current_inflight"]) for b in worker.of("backpressure")]
    assert levels == [("low", "none", 1), ("medium", "slow_down", 4), ("low", "none", 2)]
    assert worker.of("backpressure")[-1]["threshold_exceeded"] is None


async def test_us3_3_the_seventh_says_pause_and_is_taken(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("us3-3")
        await send_all(worker, range(8), audio)
        event = (await worker.wait(lambda: [b for b in worker.of("backpressure") if b["severity"] == "high"]))[0]
        assert (event["action"], event["current_inflight"]) == ("pause", 7)
        assert len(await worker.wait_results(8)) == 8


async def test_us3_4_the_eleventh_is_rejected_retryable_and_taken_after_recovery(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("us3-4")
        await send_all(worker, range(11), audio)
        error = await worker.wait_error("BACKPRESSURE_EXCEEDED")
        assert (error["fragment_id"], error["sequence_number"], error["retryable"]) == ("us3-4-10", 10, True)
        await worker.wait(lambda: [b for b in worker.of("backpressure")[1:] if b["severity"] == "low"])
        await worker.send(10, audio, audio__duration_ms=MS)
        results = await worker.wait_results(11)
    assert [r["sequence_number"] for r in results] == list(range(11))


# --- story 4: observability ---


def metric(text, name, **labels):
    """The sum over all series of this name with these labels."""
    return sum(
        float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith((f"{name} ", f"{name}{{")) and all(f'{k}="{v}"' in line for k, v in labels.items())
    )


async def scrape_until(server, condition):
    async with httpx.AsyncClient() as http, asyncio.timeout(seconds(20)):
        while not condition(text := (await http.get(f"{server.url}/metrics")).text):
            await asyncio.sleep(0.3)
    return text


async def test_us4_1_a_success_is_measured_in_every_stage(server, audio):
    names = [
        "sts_fragment_processing_seconds",
        "sts_asr_duration_seconds",
        "sts_translation_duration_seconds",
        "sts_tts_duration_seconds",
    ]
    async with httpx.AsyncClient() as http:
        before = (await http.get(f"{server.url}/metrics")).text
    async with Worker(server.url) as worker:
        await worker.init("us4-1")
        await send_all(worker, range(2), audio)
        await worker.wait_results(2)
    await scrape_until(
        server, lambda text: all(metric(text, f"{n}_count") >= metric(before, f"{n}_count") + 2 for n in names)
    )


async def test_us4_2_a_failure_counts_under_its_stage_and_code(server, audio):
    labels = {"stage": "tts", "error_code": "SYNTHESIS_FAILED"}
    async with Worker(server.url) as worker:
        await worker.init("us4-2")
        await worker.send(0, audio, audio__duration_ms=MS)
        await worker.wait_results(1)
    await scrape_until(server, lambda text: metric(text, "sts_fragment_errors_total", **labels) >= 1)


async def test_us4_3_the_gauges_show_what_is_in_flight_and_return_to_zero(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("us3-gauges", timeout_ms=30_000)

        async def keep_busy():
            for number in range(1000):
                await worker.wait(lambda number=number: number - len(worker.results) < 3)
                await worker.send(number, audio, audio__duration_ms=MS)

        busy = asyncio.create_task(keep_busy())
        await scrape_until(
            server,
            lambda text: metric(text, "sts_fragments_in_flight") >= 1 and metric(text, "sts_streams_active") >= 1,
        )
        busy.cancel()
    text = await scrape_until(
        server, lambda text: metric(text, "sts_fragments_in_flight") == metric(text, "sts_streams_active") == 0
    )
    assert "us3-gauges" not in text


async def test_us4_4_every_log_line_about_a_fragment_names_it(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("us4-4")
        fragment = await worker.send(0, audio, audio__duration_ms=MS)
        await worker.wait_results(1)
    for _ in range(40):
        lines = [line for line in server.logged().splitlines() if f'"{fragment}"' in line]
        if len(lines) >= 4:
            break
        await asyncio.sleep(0.25)
    assert len(lines) >= 4, lines
    for line in lines:
        assert '"stream_id": "us4-4"' in line
        assert '"sequence_number": 0' in line
    told = {stage for line in lines for stage in re.findall(r'"stage": "(\w+)"', line)}
    assert told == {"ingress", "asr", "translation", "tts"}
    assert any('"tts_ms"' in line for line in lines)


# --- story 5: lifecycle ---


async def test_us5_1_init_answers_ready_with_session_limit_and_capabilities(server):
    async with Worker(server.url) as worker:
        ready = await worker.init("us5-1")
    assert ready["stream_id"] == "us5-1"
    assert ready["session_id"]
    assert ready["max_inflight"] == 3
    assert {"batch_processing", "async_delivery", "binary_audio", "formats"} <= set(ready["capabilities"])


async def test_us5_2_and_3_pause_finishes_what_is_in_flight_and_resume_takes_more(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("us5-2")
        await send_all(worker, [0, 1], audio)
        await worker.emit("stream:pause", {"stream_id": "us5-2"})
        await worker.send(2, audio, audio__duration_ms=MS)
        error = await worker.wait_error("STREAM_PAUSED")
        assert (error["fragment_id"], error["retryable"]) == ("us5-2-2", True)
        assert {r["status"] for r in await worker.wait_results(2)} == {"success"}
        await worker.emit("stream:resume", {"stream_id": "us5-2"})
        await worker.send(2, audio, audio__duration_ms=MS)
        results = await worker.wait_results(3)
    assert [r["sequence_number"] for r in results] == [0, 1, 2]


async def test_us5_4_end_counts_fifty_fragments_and_closes_after_five_seconds(server, audio):
    async with Worker(server.url, reconnection=True) as worker:
        await worker.init("us5-4")
        for number in range(50):
            await worker.wait(lambda number=number: number - len(worker.results) < 3)
            await worker.send(number, audio, audio__duration_ms=MS)
        await worker.emit("stream:end", {"stream_id": "us5-4"})
        complete = (await worker.wait(lambda: worker.of("stream:complete")))[0]
        completed_s = worker.events[-1].at_s
        await worker.wait(lambda: worker.disconnects)
        closed_s = asyncio.get_running_loop().time() - completed_s
        await asyncio.sleep(1)
        assert worker.connects == 1
    assert (complete["total_fragments"], complete["success_count"], complete["failed_count"]) == (50, 45, 5)
    assert complete["error_breakdown"] == {"by_stage": {"asr": 5}, "by_code": {"MODEL_ERROR": 5}}
    assert complete["avg_processing_time_ms"] > 0
    assert complete["statistics"]["p95_processing_time_ms"] >= complete["statistics"]["avg_processing_time_ms"]
    assert 4.5 < closed_s < 5 + seconds(3)


# --- edge cases ---


async def test_edge_a_rate_limit_is_retryable_and_the_resend_succeeds(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("rate-limit")
        fragment = await worker.send(0, audio, audio__duration_ms=MS)
        error = (await worker.wait_results(1))[0]["error"]
        assert (error["stage"], error["code"], error["retryable"]) == ("translation", "RATE_LIMIT_EXCEEDED", True)
        await worker.send(0, audio, fragment_id=fragment, audio__duration_ms=MS)
        assert (await worker.wait_results(2))[1]["status"] == "success"


async def test_edge_a_used_up_quota_is_not_retryable(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("quota")
        await worker.send(0, audio, audio__duration_ms=MS)
        error = (await worker.wait_results(1))[0]["error"]
    assert (error["code"], error["retryable"]) == ("TRANSLATION_QUOTA_EXCEEDED", False)


async def test_edge_out_of_gpu_memory_gives_every_fragment_its_result_and_ends_the_stream(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("oom")
        await send_all(worker, range(3), audio)
        fatal = await worker.wait_error("GPU_OOM")
        await worker.wait(lambda: worker.disconnects)
    assert (fatal["severity"], fatal["retryable"]) == ("fatal", True)
    assert "max_inflight" in fatal["message"]
    assert sorted(r["fragment_id"] for r in worker.results) == ["oom-0", "oom-1", "oom-2"]
    assert {r["error"]["code"] for r in worker.results if r["status"] == "failed"} == {"GPU_OOM"}


async def test_edge_a_missing_number_holds_later_ones_back_only_for_a_while(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("hole", timeout_ms=2000)
        await send_all(worker, [0, 2], audio)
        results = await worker.wait_results(2)
        gap = await worker.wait_error("INVALID_SEQUENCE")
    assert [r["sequence_number"] for r in results] == [0, 2]
    assert results[1]["status"] == "success"
    assert results[1]["processing_time_ms"] < 2000
    assert (gap["severity"], gap["sequence_number"]) == ("warning", 1)


async def test_edge_a_wrongly_declared_duration_is_a_warning(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("declared")
        await worker.send(0, audio, audio__duration_ms=6000)
        result = (await worker.wait_results(1))[0]
    assert result["warnings"] == ["duration_declared_wrong"]
    assert abs(result["metadata"]["original_duration_ms"] - MS) < 60


async def test_edge_an_id_reused_with_other_audio_is_refused(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("reused")
        fragment = await worker.send(0, audio, audio__duration_ms=MS)
        await worker.wait_results(1)
        await worker.send(1, clips.adts_fragments(MS)[1], fragment_id=fragment, audio__duration_ms=MS)
        error = await worker.wait_error("INVALID_FRAGMENT")
    assert (error["fragment_id"], error["retryable"]) == (fragment, False)
