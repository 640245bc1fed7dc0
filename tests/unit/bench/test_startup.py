"""The parts of a start, told from its log, and what idle connections cost."""

import pytest

from bench import idle_connections, startup
from bench.report import Target

LOG = """
livedub: starting Ray
livedub: waiting for Ingress, Asr
(ServeReplica:livedub:Asr pid=1) {"event": "asr_loaded", "model": "m", "elapsed_ms": 1200}
(ServeReplica:livedub:Tts pid=2) {"event": "tts_loaded", "elapsed_ms": 5100, "model": "m"}
(ServeReplica:livedub:Tts pid=2) {"event": "tts_loaded", "elapsed_
"""


def test_parts_of_a_start_end_when_their_line_is_there(tmp_path):
    log = tmp_path / "server.log"
    times = startup.LogTimes(log)
    times.look()
    assert times.ended_s == {}
    for known, line in enumerate(("livedub: starting Ray", "livedub: waiting for Asr"), 1):
        with log.open("a") as file:
            file.write(f"{line}\n")
        times.look()
        assert len(times.ended_s) == known
    parts_s = times.ready()
    assert list(parts_s) == [*startup.PARTS, startup.REST, "all"]
    assert sum(parts_s.values()) == pytest.approx(2 * parts_s["all"])
    assert min(parts_s.values()) >= 0


def test_load_times_are_those_of_the_log():
    assert startup.loads_s(LOG) == {"asr": 1.2, "tts": 5.1}


def test_a_connection_costs_what_both_processes_grew_by():
    rows = [
        {"connections": 0, "ingress_mib": 100.0, "proxy_mib": 50.0},
        {"connections": 512, "ingress_mib": 150.0, "proxy_mib": 75.0},
    ]
    assert idle_connections.a_connection_kib(rows) == {"ingress": 100.0, "proxy": 50.0, "together": 150.0}


def test_an_ingress_that_stays_away_too_long_is_told():
    def judged(ingress_s: float) -> list[Target]:
        back = {name: {"median": 2.0} for name in ("Asr", "Tts", "proxy")} | {"Ingress": {"median": ingress_s}}
        return startup.targets({"recovery_s": back, "a_connection_kib": {"together": 100.0}})

    assert all(target.met for target in judged(2.9))
    assert [target.what for target in judged(3.1) if not target.met] == [
        "from the ingress's death to a fragment that succeeds"
    ]
