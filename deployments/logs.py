"""Logs as JSON lines on stderr: a static event name plus fields.

Every line about a fragment carries stream_id, fragment_id, sequence_number and stage, bound once with `about`. Never
log a transcript, a translation, audio or a key.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from deployments.contracts.values import FragmentRef
from deployments.errors import InternalFault, ModelFailed, Stage, StageError

SERVE_LOGGER = "ray.serve"
get_logger = structlog.stdlib.get_logger


def configure_logs(level: str = "INFO") -> None:
    """Send the process's livedub logs to stderr, one JSON object a line. Calling it again changes the level."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    for name in ("serve_app", "deployments"):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate = False
        if not logger.handlers:
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(logging.Formatter("%(message)s"))
            logger.addHandler(handler)
    serve = logging.getLogger(SERVE_LOGGER)
    serve.removeFilter(_no_refusal)
    serve.addFilter(_no_refusal)


def _no_refusal(record: logging.LogRecord) -> bool:
    """False for what Serve logs, with a traceback, of a fragment that a stage refused or could not do in time.

    That is no bug: the worker learns its code and metrics count it. What a model raised unexpectedly stays.
    """
    error = record.exc_info[1] if record.exc_info else None
    unexpected = isinstance(error, ModelFailed | InternalFault) and error.__cause__ is not None
    return unexpected or not isinstance(error, StageError)


@contextmanager
def about(ref: FragmentRef, stage: Stage) -> Iterator[None]:
    """Bind the fragment's identity and the stage to every line logged inside."""
    with structlog.contextvars.bound_contextvars(
        stream_id=ref.stream_id, fragment_id=ref.fragment_id, sequence_number=ref.sequence_number, stage=str(stage)
    ):
        yield
