"""Judges histories, simulated and real ones, by what the protocol promises.

Exactly one result for each accepted fragment, in order, with the in-flight count that the worker can reckon for itself,
and none after its deadline. `tests.oracle.records` says what a history is made of.
"""

from collections.abc import Iterable

from tests.oracle.records import Record, Rules, Violation, load, record, save
from tests.oracle.verdict import ConnectionJudge

__all__ = ["Record", "Rules", "Violation", "judge", "load", "record", "save"]


def judge(history: Iterable[Record], rules: Rules | None = None) -> list[Violation]:
    """Every broken promise in a history, in order of time. Each connection is judged by itself.

    A fragment sent again after a reconnect is a new fragment of a new session. A history must go on until every
    connection has ended or has nothing in flight any more.
    """
    judges: dict[str, ConnectionJudge] = {}
    end_s = 0.0
    for entry in history:
        end_s = max(end_s, entry.time_s)
        judges.setdefault(entry.connection, ConnectionJudge(entry.connection, rules or Rules())).see(entry)
    for connection in judges.values():
        connection.finish(end_s)
    return sorted((v for c in judges.values() for v in c.violations), key=lambda violation: violation.time_s)
