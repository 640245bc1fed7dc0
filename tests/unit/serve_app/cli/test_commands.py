"""`livedub config` and `livedub schema`, and how wrong configurations and failed starts are told."""

import json

import pytest
import typer
import yaml
from typer.testing import CliRunner

from serve_app.cli import commands
from serve_app.cli.commands import check, config, demo, schema, serve
from serve_app.cli.demo import DemoError
from serve_app.configuration.serve_schema import BUILD
from serve_app.configuration.shipped import PROJECT_DIR
from serve_app.operations.launcher import LaunchError
from serve_app.protocol import json_schema

FAKES = str(PROJECT_DIR / "configs" / "fakes.yaml")
LONG = "x" * 200


@pytest.fixture
def run():
    app = typer.Typer()
    for command in (config, check, schema, serve, demo):
        app.command()(command)

    def invoke(*args: str, **environ: str):
        return CliRunner().invoke(app, args, env=environ)

    return invoke


def test_config_shows_every_value_and_where_it_comes_from(run):
    shown = run("config", FAKES, LIVEDUB_STREAMS__TIMEOUT_MS="9000")
    assert shown.exit_code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.stdout.splitlines() if "│" in line]
    values = {row[0]: row[1:] for row in rows}
    assert values["asr.engine"] == ["fake", "file"]
    assert values["log_level"] == ["INFO", "default"]
    assert values["streams.timeout_ms"][0] == "9000"


def test_config_as_json(run):
    shown = run("config", FAKES, "--json", LIVEDUB_STREAMS__TIMEOUT_MS="9000", LIVEDUB_ASR__DELAY_MS="5")
    values = json.loads(shown.stdout)
    assert values["streams.timeout_ms"] == {"value": 9000, "origin": "LIVEDUB_STREAMS__TIMEOUT_MS"}
    assert values["asr.concurrency"] == {"value": 16, "origin": "file"}


def test_a_value_in_brackets_is_no_markup(run):
    assert "a [bold]hi" in run("config", FAKES, LIVEDUB_ASR__TEXT="a [bold]hi").stdout


@pytest.mark.parametrize("command", ["config", "serve"])
def test_a_wrong_configuration_is_one_line_on_stderr_and_code_2(command, run, tmp_path):
    path = tmp_path / "wrong.yaml"
    args = {"asr": {"engine": LONG}, "translation": {"engine": "fake"}, "tts": {"engine": "fake"}}
    path.write_text(yaml.safe_dump({"applications": [{"import_path": BUILD, "args": args}]}))
    told = run(command, str(path))
    assert told.exit_code == 2
    assert told.stdout == ""
    assert told.stderr.startswith("livedub: error: asr: ")
    assert told.stderr.count("\n") == 1
    assert LONG in told.stderr


def test_a_mistyped_variable_is_told(run):
    told = run("config", FAKES, LIVEDUB_ASSR__MODEL="base")
    assert told.exit_code == 2
    assert "LIVEDUB_ASSR__MODEL" in told.stderr


def test_schema_prints_the_protocol(run):
    assert json.loads(run("schema").stdout) == json.loads(json.dumps(json_schema()))


def test_serve_launches_what_the_command_line_and_the_environment_say(run, monkeypatch):
    given = []
    monkeypatch.setattr(commands, "launch", lambda options, console: given.append(options))
    done = run("serve", FAKES, "--port", "9001", "--dashboard", LIVEDUB_HOST="::", LIVEDUB_DRAIN_TIMEOUT_S="7")
    assert done.exit_code == 0
    [options] = given
    assert (str(options.config), options.host, options.port) == (FAKES, "::", 9001)
    assert (options.dashboard, options.start_timeout_s, options.drain_timeout_s) == (True, 300, 7)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", "8000x"])
def test_a_port_that_is_none_is_refused(port, run, monkeypatch):
    monkeypatch.setattr(commands, "launch", pytest.fail)
    told = run("serve", FAKES, LIVEDUB_PORT=port)
    assert told.exit_code == 2


def test_a_link_to_a_service_of_kubernetes_is_no_port(run, monkeypatch):
    given = []
    monkeypatch.setattr(commands, "launch", lambda options, console: given.append(options))
    assert run("serve", FAKES, LIVEDUB_PORT="tcp://10.0.0.1:8000").exit_code == 0
    assert given[0].port is None


@pytest.mark.parametrize("command", ["config", "check", "serve"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_replicas": 0}, "num_replicas: Input should be greater than 0; got 0"),
        ({"max_ongoing_request": 5}, "max_ongoing_request: no such option (did you mean max_ongoing_requests?)"),
        ({"user_config": {"max_batch_siz": 3}}, "max_batch_siz"),
    ],
)
def test_every_command_finds_what_serve_would_find_late(command, change, told, run, tmp_path):
    content = yaml.safe_load((PROJECT_DIR / "configs" / "echo.yaml").read_text())
    content["applications"][0]["deployments"][1].update(change)
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(content))
    refused = run(command, str(path))
    assert refused.exit_code == 2
    assert told in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["config", "check", "serve"])
def test_a_variable_with_an_underscore_missing_is_refused(command, run):
    """It would leave the door open without a word."""
    refused = run(command, FAKES, LIVEDUB_AUTH_API_KEYS='["secret"]')
    assert refused.exit_code == 2
    assert "did you mean LIVEDUB_AUTH__API_KEYS?" in refused.stderr
    assert "secret" not in refused.stderr


def test_a_service_that_does_not_come_up_is_told_in_one_line(run, monkeypatch):
    def launch(options, console):
        console.tell("starting")
        raise LaunchError(f"not ready [really] {LONG}")

    monkeypatch.setattr(commands, "launch", launch)
    told = run("serve", FAKES)
    assert told.exit_code == 1
    assert told.stderr == f"livedub: starting\nlivedub: error: not ready [really] {LONG}\n"


@pytest.mark.parametrize("code", [0, 1])
def test_demo_ends_with_the_code_of_the_dub(code, run, monkeypatch):
    monkeypatch.setattr(commands, "run_demo", lambda *_: code)
    done = run("demo")
    assert done.exit_code == code
    assert ("done" in done.stderr) == (code == 0)


def test_a_demo_that_cannot_run_says_why(run, monkeypatch):
    def run_demo(*_):
        raise DemoError("no clip")

    monkeypatch.setattr(commands, "run_demo", run_demo)
    told = run("demo")
    assert (told.exit_code, told.stderr) == (2, "demo: error: no clip\n")
