"""One real server at a time in the whole run; tests that need the same configuration share it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support.server import RunningServer, edited, start
from tests.support.speed import seconds

Serve = Callable[..., RunningServer]
QUICK = ("unit", "simulation")
"""Folders of tests that wait for nothing."""

settings.register_profile("any machine", deadline=None)  # an example's time is the machine's, not the code's
settings.load_profile("any machine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a slow machine tests of the running server may take longer before they count as hanging."""
    for item in items:
        if not set(QUICK) & set(item.path.parts):
            given = item.get_closest_marker("timeout")
            timeout_s = given.args[0] if given and given.args else float(config.getini("timeout"))
            item.add_marker(pytest.mark.timeout(seconds(timeout_s)), append=False)


@pytest.fixture(scope="session")
def current() -> Iterator[dict[str, RunningServer]]:
    """The server that runs, by its configuration."""
    servers: dict[str, RunningServer] = {}
    yield servers
    _stop(servers)


@pytest.fixture
def alone(current: dict[str, RunningServer]) -> None:
    """No shared server runs, so that the test may start its own."""
    _stop(current)


def _stop(servers: dict[str, RunningServer]) -> None:
    for name in list(servers):
        servers.pop(name).stop()


@pytest.fixture(scope="session")
def serve(current: dict[str, RunningServer], tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """`serve("fakes", {"args.asr.delay_ms": 5})`: a running server with this configuration."""

    def running(
        config: str,
        change: dict[str, Any] | None = None,
        fresh: bool = False,
        environ: dict[str, str] | None = None,
    ) -> RunningServer:
        key = f"{config} {change} {environ}"
        server = current.get(key)
        if server is not None and server.process.poll() is None and not fresh:
            return server
        _stop(current)
        folder: Path = tmp_path_factory.mktemp("server")
        current[key] = start(edited(config, change or {}, folder), folder / "server.log", environ)
        return current[key]

    return running
