import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from serve_app.protocol import CLIENT_EVENTS, SERVER_EVENTS, ErrorCode, json_schema
from tests.unit.serve_app.protocol.test_server_events import EXAMPLES, RESULT

GOLDEN = Path(__file__).parents[4] / "docs" / "protocol.schema.json"
SOUND = {"format": "m4a", "sample_rate_hz": 48_000, "channels": 1, "duration_ms": 6000}
FRAGMENT = {"fragment_id": "f", "stream_id": "s", "sequence_number": 0, "timestamp": 0}


def check(side: str, event: str, payload: dict[str, Any]) -> None:
    Draft202012Validator(json_schema()[side][event]).validate(json.loads(json.dumps(payload)))


def test_the_published_schema_is_that_of_the_code() -> None:
    """The file is `json.dumps(json_schema(), indent=2)` and a newline."""
    assert GOLDEN.read_text(encoding="utf-8") == json.dumps(json_schema(), indent=2) + "\n"


def test_the_schema_has_every_event_and_every_code() -> None:
    schema = json_schema()
    assert set(schema["client"]) == {event.EVENT for event in CLIENT_EVENTS}
    assert set(schema["server"]) == {event.EVENT for event in SERVER_EVENTS}
    assert set(schema["errors"]) == {code.value for code in ErrorCode}
    for side in ("client", "server"):
        for event in schema[side].values():
            Draft202012Validator.check_schema(event)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.EVENT)
def test_what_the_server_sends_follows_the_schema(event: Any) -> None:
    check("server", event.EVENT, event.to_wire())


def test_dubbed_audio_has_its_bytes_exactly_once() -> None:
    payload = RESULT.to_wire()
    payload["dubbed_audio"]["data"] = "too"
    with pytest.raises(ValidationError):
        check("server", "fragment:processed", payload)
    del payload["dubbed_audio"]["data"], payload["dubbed_audio"]["data_base64"]
    with pytest.raises(ValidationError):
        check("server", "fragment:processed", payload)


def test_a_fragment_has_its_bytes_exactly_once() -> None:
    check("client", "fragment:data", FRAGMENT | {"audio": SOUND | {"data_base64": "AAAA"}})
    check("client", "fragment:data", FRAGMENT | {"audio": SOUND | {"data": "an attachment"}})
    for payload in ({}, {"data_base64": "AAAA", "data": "too"}):
        with pytest.raises(ValidationError):
            check("client", "fragment:data", FRAGMENT | {"audio": SOUND | payload})


@pytest.mark.parametrize("hints", ["chess", ["chess", "Elo"], None])
def test_domain_hints_come_alone_or_several(hints: Any) -> None:
    config = {"target_language": "es", "domain_hints": hints}
    check("client", "stream:init", {"stream_id": "s", "worker_id": "w", "config": config})
