"""The series of a `/metrics` text, and which of their labels come from no closed set."""

from enum import Enum
from typing import get_args

from prometheus_client.parser import text_string_to_metric_families

from deployments.errors import Stage
from deployments.resilience.retries import CallOutcome
from serve_app.access import Reason
from serve_app.observability.metrics import NO_STAGE
from serve_app.operations.replica_status import STATES
from serve_app.protocol import Backpressure, ErrorCode, FragmentProcessed

Series = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and its labels."""


def _values(kind: type[Enum]) -> frozenset[str]:
    return frozenset(str(member.value) for member in kind)


CLOSED: dict[str, frozenset[str]] = {
    "stage": _values(Stage) | {NO_STAGE},
    "error_code": _values(ErrorCode),
    "outcome": _values(CallOutcome),
    "status": frozenset(get_args(FragmentProcessed.model_fields["status"].annotation)),
    "severity": frozenset(get_args(Backpressure.model_fields["severity"].annotation)),
    "reason": frozenset(get_args(Reason)),
    "service": frozenset({"deepl"}),
    "deployment_name": frozenset({"Ingress", "Asr", "Translation", "Tts"}),
    "state": frozenset(STATES.values()),
    "model": frozenset({"fake", "deepl"}),
    "door": frozenset({"deepgram", "openai", "openai_realtime", "openai_translations", "socket_io"}),
}


def series(text: str) -> frozenset[Series]:
    """What a scrape holds."""
    return frozenset(
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    )


def strangers(found: frozenset[Series]) -> list[Series]:
    """Those with a label that is from no closed set. GPUs and buckets are as many as there are."""
    return sorted(
        (name, labels)
        for name, labels in found
        if any(label not in ("le", "gpu") and value not in CLOSED.get(label, ()) for label, value in labels)
    )


def total(text: str, name: str) -> float:
    """The sum of a sample over all its labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )
