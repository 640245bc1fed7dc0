"""The contract as JSON Schema. PURE."""

from typing import Any

from serve_app.protocol.client_events import CLIENT_EVENTS
from serve_app.protocol.errors import ERROR_TABLE
from serve_app.protocol.server_events import SERVER_EVENTS


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of all events: `client` and `server` by event name, and the table of error codes."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "livedub wire protocol",
        "client": {event.EVENT: event.model_json_schema() for event in CLIENT_EVENTS},
        "server": {event.EVENT: event.model_json_schema(mode="serialization") for event in SERVER_EVENTS},
        "errors": {
            code.value: {"stages": list(rule.stages), "retryable": rule.retryable} for code, rule in ERROR_TABLE.items()
        },
    }
