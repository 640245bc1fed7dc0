"""A live change of the Ingress's user_config ends nothing; other replicas hear of every stream that opens."""

import asyncio

import pytest
from structlog.testing import capture_logs

from deployments.contracts import AsrCapabilities, Measured, TranslationCapabilities, TtsCapabilities
from serve_app.config import ConfigError, IngressConfig
from serve_app.doors import AuthOptions, DoorsOptions
from serve_app.ingress import Ingress
from serve_app.planning.capacity import UTILISATION, Fleet
from serve_app.streams import Opening

WRONG = {"streams": {"max_inflight": 99}, "draining": True}


class Handle:
    """Of a deployment that nobody calls here."""

    def options(self, **_: object) -> "Handle":
        return self


@pytest.fixture
async def ingress(monkeypatch):
    monkeypatch.setattr(Ingress, "_start_watch", lambda self: None)  # it asks a cluster, and there is none
    overrides = {"LIVEDUB_STREAMS__TIMEOUT_MS": "9000"}
    return Ingress(Handle(), Handle(), Handle(), IngressConfig(), AuthOptions(), DoorsOptions(), overrides)


async def test_a_wrong_user_config_ends_the_start(ingress):
    with pytest.raises(ConfigError, match=r"streams\.max_inflight.*10.*99"):
        await ingress.reconfigure(WRONG)


@pytest.mark.parametrize(("given", "max_inflight"), [([{"streams": {"max_inflight": 5}}], 5), ([], 3)])
async def test_a_wrong_user_config_that_comes_live_is_logged_and_changes_nothing(ingress, given, max_inflight):
    for user_config in given:
        await ingress.reconfigure(user_config)
    ingress.check_health()
    with capture_logs() as logged:
        await ingress.reconfigure(WRONG)
    told = next(line for line in logged if line["event"] == "ingress_user_config_refused")
    assert told["log_level"] == "error"
    assert "streams.max_inflight" in told["error"]
    assert (ingress._limits.max_inflight, ingress._limits.timeout_ms) == (max_inflight, 9000)
    assert not ingress._sockets.draining


async def test_a_right_user_config_counts_at_once_and_after_a_wrong_one_too(ingress):
    ingress.check_health()
    await ingress.reconfigure(WRONG)
    await ingress.reconfigure({"streams": {"max_inflight": 7}})
    assert ingress._limits.max_inflight == 7


async def test_what_the_machine_carries_is_known_once_its_models_have_told(ingress):
    assert ingress._machine().live_streams is None
    half = Measured(3000.0, 0.0, slots=1, cores=2.0)
    ingress._capabilities = {
        "Asr": AsrCapabilities("ears", None, half),
        "Translation": TranslationCapabilities("tongue", None),
        "Tts": TtsCapabilities("mouth", measured=half),
    }
    assert ingress._machine().live_streams == pytest.approx(2 * UTILISATION)
    ingress._fleets = {"Asr": Fleet(2), "Tts": Fleet(3)}
    assert ingress._machine().live_streams == pytest.approx(4 * UTILISATION)


class Replicas:
    """All replicas of the Ingress, by their handle."""

    def __init__(self, **answers: object) -> None:
        self._answers = answers
        self.asked: list[tuple[object, ...]] = []

    def broadcast(self, method: str, *args: object) -> "Replicas":
        self.asked.append((method, *args))
        self._answer = self._answers[method]
        return self

    async def results_async(self, *, return_exceptions: bool) -> object:
        assert return_exceptions
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class Told:
    """The sockets of a replica, where one stream is open."""

    def __init__(self) -> None:
        self.expelled: list[Opening] = []
        self.gone = False

    def settle(self, stream_id: str, session_id: str, others: list[int]) -> Opening | None:
        return None if self.gone else Opening(stream_id, session_id, 1 + max(others, default=0), "subject")

    def expel(self, opening: Opening) -> None:
        self.expelled.append(opening)


async def announce(ingress: Ingress, replicas: Replicas, *, gone: bool = False) -> tuple[Told, list[str]]:
    sockets = Told()
    sockets.gone = gone
    ingress._replicas, ingress._sockets = replicas, sockets
    with capture_logs() as logged:
        await ingress._tell_replicas("radio", "session")
        await asyncio.gather(*ingress._telling)
    return sockets, [line["question"] for line in logged]


async def test_a_stream_takes_the_number_after_the_largest_and_is_told_with_it(ingress):
    replicas = Replicas(epoch=[0, 4, 2], let_go=[True, True, True])
    sockets, warned = await announce(ingress, replicas)
    assert replicas.asked == [("epoch", "radio"), ("let_go", "radio", "session", 5, "subject")]
    assert (sockets.expelled, warned) == ([], [])


async def test_where_another_subject_has_the_stream_it_ends_here(ingress):
    sockets, _ = await announce(ingress, Replicas(epoch=[1, 1], let_go=[True, False]))
    assert sockets.expelled == [Opening("radio", "session", 2, "subject")]


async def test_replicas_that_die_or_do_not_answer_keep_no_other_from_being_told(ingress):
    replicas = Replicas(epoch=[RuntimeError("dead"), 4], let_go=[True, RuntimeError("dead"), True])
    sockets, warned = await announce(ingress, replicas)
    assert replicas.asked[-1] == ("let_go", "radio", "session", 5, "subject")
    assert (sockets.expelled, warned) == ([], ["epoch", "let_go"])
    replicas = Replicas(epoch=TimeoutError(), let_go=TimeoutError())
    sockets, warned = await announce(ingress, replicas)
    assert replicas.asked[-1] == ("let_go", "radio", "session", 1, "subject")
    assert (sockets.expelled, warned) == ([], ["epoch", "let_go"])


async def test_a_stream_that_ended_meanwhile_is_told_to_nobody(ingress):
    replicas = Replicas(epoch=[0, 0])
    await announce(ingress, replicas, gone=True)
    assert replicas.asked == [("epoch", "radio")]


async def test_a_stream_is_ready_once_it_has_its_number_or_others_are_long_in_answering(ingress, monkeypatch):
    """So whoever opens the stream after that comes after it, also on another replica."""
    answered = asyncio.Event()

    class Slow(Replicas):
        async def results_async(self, *, return_exceptions: bool) -> object:
            await answered.wait()
            return await super().results_async(return_exceptions=return_exceptions)

    ingress._replicas, ingress._sockets = Slow(epoch=[0], let_go=[True]), Told()
    telling = asyncio.create_task(ingress._tell_replicas("radio", "session"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not telling.done()
    answered.set()
    await telling
    answered.clear()
    monkeypatch.setattr("serve_app.ingress.NUMBERED_WITHIN_S", 0.001)
    await ingress._tell_replicas("radio", "session")
    answered.set()
    await asyncio.gather(*ingress._telling)
