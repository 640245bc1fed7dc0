"""A live change of the Ingress's user_config ends nothing."""

import pytest
from structlog.testing import capture_logs

from deployments.contracts.values import AsrCapabilities, Measured, TranslationCapabilities, TtsCapabilities
from deployments.errors import Stage
from serve_app.access import AccessOptions, AuthOptions
from serve_app.configuration.loading import ConfigError
from serve_app.configuration.schema import IngressConfig
from serve_app.ingress import Ingress
from serve_app.planning.capacity import UTILISATION, Fleet

WRONG = {"streams": {"max_inflight": 99}, "draining": True}


class Handle:
    """Of a deployment that nobody calls here."""

    def options(self, **_: object) -> "Handle":
        return self


@pytest.fixture
async def ingress(monkeypatch):
    monkeypatch.setattr(Ingress, "_start_watch", lambda self: None)  # it asks a cluster, and there is none
    overrides = {"LIVEDUB_STREAMS__TIMEOUT_MS": "9000"}
    return Ingress(Handle(), Handle(), Handle(), IngressConfig(), AuthOptions(), AccessOptions(), overrides)


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
    ingress._readiness.capabilities.update(
        {
            Stage.ASR: AsrCapabilities("ears", None, half),
            Stage.TRANSLATION: TranslationCapabilities("tongue", None),
            Stage.TTS: TtsCapabilities("mouth", measured=half),
        }
    )
    assert ingress._machine().live_streams == pytest.approx(2 * UTILISATION)
    ingress._fleets = {"Asr": Fleet(2), "Tts": Fleet(3)}
    assert ingress._machine().live_streams == pytest.approx(4 * UTILISATION)
