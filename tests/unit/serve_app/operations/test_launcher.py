"""The file that the service is run with, and what the launcher decides before it starts anything."""

import io
import socket
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import yaml

from serve_app.configuration.loading import ConfigError, load_user_config
from serve_app.configuration.serve_file import POLICY, args_of, draining, read_config, user_config_of
from serve_app.configuration.serve_schema import BUILD
from serve_app.configuration.shipped import PROJECT_DIR
from serve_app.operations import launcher
from serve_app.operations.launcher import LaunchError, LaunchOptions, Stopped, launch, local_url, ray_settings
from serve_app.operations.signals import Signals
from serve_app.operations.terminal import Console

CONFIGS = sorted((PROJECT_DIR / "configs").glob("*.yaml"))
FAKES = {"asr": {"engine": "fake"}, "translation": {"engine": "fake"}, "tts": {"engine": "fake"}}
APPLICATION = {"name": "livedub", "import_path": BUILD}


def schema(user_config: dict | None = None, **args: object) -> dict:
    deployments = [{"name": "Asr"}, {"name": "Ingress", "user_config": user_config}]
    return {"applications": [APPLICATION | {"args": FAKES | args, "deployments": deployments}]}


def scaled(policy: object) -> dict:
    deployments = [{"name": "Tts", "autoscaling_config": {"policy": policy}}]
    return {"applications": [APPLICATION | {"args": FAKES, "deployments": deployments}]}


@pytest.fixture
def written(tmp_path, monkeypatch):
    for name in ("LIVEDUB_ASR__ENGINE", "LIVEDUB_STREAMS__TIMEOUT_MS"):
        monkeypatch.delenv(name, raising=False)

    def write(content: object) -> Path:
        path = tmp_path / "config.yaml"
        path.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump(content).encode())
        return path

    return write


@pytest.fixture
def key(monkeypatch):
    """What configs/prod.yaml asks of the environment."""
    monkeypatch.setenv("DEEPL_API_KEY", "key")


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_file_is_read_whole(path):
    assert read_config(path) == yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    "policy",
    [{"policy_function": POLICY}, {"policy_function": "ray.serve.autoscaling_policy:default_autoscaling_policy"}],
)
def test_a_policy_with_options_that_hold_and_anothers_policy_are_taken(policy, written):
    assert read_config(written(scaled(policy))) == scaled(policy)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a: [1", "not valid YAML"),
        (b"a: \xff\xfe", "not valid YAML"),
        ([1], "`applications` is missing"),
        ({}, "`applications` is missing"),
        ({"applications": []}, "`applications` is missing"),
        ({"applications": "livedub"}, "`applications` is missing"),
        ({"applications": ["livedub"]}, "applications.0: needs an object; got 'livedub'"),
        ({"applications": [{"args": [1]}]}, r"applications.0.args: needs an object; got \[1\]"),
        ({"applications": [{"args": FAKES, "deployments": {"Ingress": {}}}]}, "applications.0.deployments"),
        ({"applications": [{"args": FAKES, "deployments": ["Ingress"]}]}, "applications.0.deployments"),
        ({"applications": [{"args": FAKES, "deployments": [{"user_config": 3}]}]}, "deployments.0.user_config"),
        (scaled("fast"), "autoscaling_config.policy: needs an object with policy_function; got 'fast'"),
        (scaled({"policy_function": "serve_app.autoscaling:Policy"}), f"there is only {POLICY}; got 'serve_app.auto"),
        (scaled({"policy_function": POLICY, "policy_kwargs": [1]}), r"policy_kwargs: needs an object; got \[1\]"),
        (scaled({"policy_function": POLICY, "policy_kwargs": {"target": 1}}), "target: no such option; allowed: tar"),
        (
            scaled({"policy_function": POLICY, "policy_kwargs": {"target_ms": 5}}),
            "0.autoscaling_config.*target_ms: .*5",
        ),
        ({"applications": [{}]}, f"applications.0.import_path: is missing; needs {BUILD}"),
        ({"applications": [APPLICATION]}, "asr: Field required"),
        (schema(asr={"engine": "fake", "modle": 1}), "asr.modle"),
        (schema(voices="/none.json"), "/none.json can't be read"),
        (schema({"streams": {"timeout_ms": 1}}), "streams.timeout_ms"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(content, told, written):
    with pytest.raises(ConfigError, match=told) as refused:
        read_config(written(content))
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file"):
        read_config(tmp_path / "none.yaml")


def test_the_environment_is_checked_with_the_file(written, monkeypatch):
    monkeypatch.setenv("LIVEDUB_STREAMS__TIMEOUT_MS", "soon")
    with pytest.raises(ConfigError, match=r"streams\.timeout_ms \(from LIVEDUB_STREAMS__TIMEOUT_MS\)"):
        read_config(written(schema()))


def test_the_parts_of_a_file():
    given = schema({"streams": {"timeout_ms": 9000}})
    assert args_of(given) == FAKES
    assert user_config_of(given) == {"streams": {"timeout_ms": 9000}}


@pytest.mark.parametrize(
    "application", [{}, {"args": None, "deployments": None}, {"deployments": [{"name": "Ingress"}]}]
)
def test_parts_that_a_file_leaves_out_are_empty(application):
    assert args_of({"applications": [application]}) == {}
    assert user_config_of({"applications": [application]}) == {}


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_draining_changes_nothing_but_the_live_part_of_the_ingress(path):
    """Any other change would restart replicas, and streams with them."""
    before = read_config(path)
    after = draining(before)
    assert before == yaml.safe_load(path.read_text())
    assert user_config_of(after) == {**user_config_of(before), "draining": True}
    assert load_user_config(user_config_of(after), {}).draining
    for deployment in after["applications"][0]["deployments"]:
        if deployment["name"] == "Ingress":
            deployment["user_config"].pop("draining")
    assert after == before


@pytest.mark.parametrize("deployments", [None, [], [{"name": "Asr"}], [{"name": "Ingress"}]])
def test_draining_reaches_an_ingress_that_the_file_says_nothing_of(deployments):
    after = draining({"applications": [{"args": {}, "deployments": deployments}, {"name": "other"}]})
    assert user_config_of(after) == {"draining": True}
    assert after["applications"][1] == {"name": "other"}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),  # noqa: S104
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("192.168.1.5", "http://192.168.1.5:8000"),
        ("::", "http://[::1]:8000"),
        ("fe80::1", "http://[fe80::1]:8000"),
        ("dub.local", "http://dub.local:8000"),
    ],
)
def test_the_own_server_is_asked_where_it_listens(host, expected):
    assert local_url({"host": host, "port": 8000}) == expected


def test_a_wrong_configuration_starts_nothing(tmp_path):
    with pytest.raises(ConfigError):
        launch(LaunchOptions(tmp_path / "none.yaml"), Console(io.StringIO()))


def test_a_launch_that_failed_is_no_configuration_error():
    assert not issubclass(LaunchError, ConfigError)


@pytest.fixture
def asked(monkeypatch):
    """The launcher's own server, answering what the test says."""
    answers: list[object] = []

    def get(url: str, *, timeout: float, trust_env: bool) -> httpx.Response:
        assert not trust_env, "a proxy of the environment is not asked for this machine"
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(200, text=str(answer))

    monkeypatch.setattr(launcher.httpx, "get", get)
    options = LaunchOptions(Path("x.yaml"))
    console = Console(io.StringIO())
    server = launcher._Server(
        {"http_options": {"host": "127.0.0.1", "port": 1}}, options, console, Signals(console.tell)
    )
    return server, answers


def test_open_streams_are_read_from_the_metrics(asked):
    server, answers = asked
    answers.append("# TYPE sts_streams_active gauge\nsts_streams_active 2.0\nsts_streams_active_x 9\n")
    assert server._open_streams() == 2


def test_streams_that_cannot_be_counted_are_not_taken_for_none(asked):
    """Else a slow answer would end the drain with streams still open."""
    server, answers = asked
    answers += [httpx.ReadTimeout("slow"), "# no metric of a process that has told none yet\n"]
    assert server._open_streams() is None
    assert server._open_streams() is None


def test_a_server_is_ready_when_it_says_so(asked):
    server, answers = asked
    answers.append("ready")
    server._wait_until_ready(0.0)


def test_a_signal_ends_the_wait_for_a_server_that_does_not_come_up(asked):
    server, answers = asked
    answers.append(httpx.ConnectError("refused"))
    server._signals.stop.set()
    with pytest.raises(Stopped):
        server._wait_until_ready(0.0)


def test_a_wrong_user_config_of_asr_is_refused_before_anything_starts(tmp_path):
    schema = yaml.safe_load((PROJECT_DIR / "configs" / "echo.yaml").read_text())
    asr = next(d for d in schema["applications"][0]["deployments"] if d["name"] == "Asr")
    asr["user_config"] = {"max_batch_size": 0}
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(schema))
    with pytest.raises(ConfigError, match="max_batch_size"):
        read_config(path)


@pytest.fixture
def running(written, monkeypatch):
    """A running server whose deployments are recorded."""
    monkeypatch.setattr(launcher, "count_gpus", lambda: 0.0)
    options = LaunchOptions(written(schema()))
    told: list[str] = []
    console = Console(io.StringIO())
    monkeypatch.setattr(console, "tell", told.append)
    http = {"host": "127.0.0.1", "port": 1}
    signals = Signals(console.tell)
    server = launcher._Server({**schema(), "http_options": http}, options, console, signals)
    deployed: list[dict] = []
    monkeypatch.setattr(launcher, "deploy", deployed.append)
    monkeypatch.setattr(server, "_wait_until_running", lambda _: signals.stop.set())
    return server, deployed, told


def test_a_signal_to_read_the_file_again_rolls_it_out_and_keeps_the_port(running, written):
    server, deployed, told = running
    written({**schema({"streams": {"timeout_ms": 9000}}), "http_options": {"port": 2}})
    server._signals.reload.set()

    server.serve()

    assert [user_config_of(one) for one in deployed] == [{"streams": {"timeout_ms": 9000}}]
    assert deployed[0]["http_options"] == {"host": "127.0.0.1", "port": 1}
    assert server._schema is deployed[0], "what is drained at the end is what runs"
    assert "rolled out" in told[-1]


@pytest.mark.parametrize("content", [schema({"streams": {"timeout_ms": 1}}), schema(voices="/none.json"), [1]])
def test_a_file_with_an_error_is_told_and_changes_nothing(running, written, content):
    server, deployed, told = running
    before = server._schema
    written(content)

    server._roll_out()

    assert (deployed, server._schema) == ([], before)
    assert "error" in told[-1]
    assert "Nothing was changed" in told[-1]


def test_what_serve_refuses_is_told_and_changes_nothing(running, monkeypatch):
    server, _, told = running
    before = server._schema

    def refuse(_: dict) -> None:
        raise ValueError("deployments.0.num_replicas: no number")

    monkeypatch.setattr(launcher, "deploy", refuse)
    server._roll_out()

    assert server._schema is before
    assert "num_replicas: no number. Nothing was changed" in told[-1]


def test_a_roll_out_that_fails_leaves_the_server_running(running, monkeypatch):
    server, _, told = running

    def fail(_: float) -> None:
        raise LaunchError("the application did not start: no GPU")

    monkeypatch.setattr(server, "_wait_until_running", fail)
    server._roll_out()

    assert "no GPU. Mend the file and send SIGHUP again" in told[-1]
    assert not server._signals.stop.is_set()


def test_a_cluster_that_does_not_answer_is_told_with_its_address(written, monkeypatch):
    def refuse(**given: object) -> None:
        assert given["address"] == "10.0.0.9:6379"
        assert "object_store_memory" not in given, "the cluster has its own"
        raise ConnectionError("nobody\nthere")

    monkeypatch.setattr("ray.init", refuse)
    http = {"http_options": {"host": "127.0.0.1", "port": 1}}
    options = LaunchOptions(written(schema()), address="10.0.0.9:6379")
    console = Console(io.StringIO())
    server = launcher._Server({**schema(), **http}, options, console, Signals(console.tell))

    with pytest.raises(LaunchError, match=r"no Ray cluster at 10\.0\.0\.9:6379: nobody there"):
        server.start()


def test_gpus_of_this_machine_say_nothing_of_another_cluster(written, monkeypatch):
    monkeypatch.setattr(launcher, "count_gpus", lambda: 0.0)
    needing = schema(gpus="required", asr={"engine": "faster_whisper", "device": "cuda"})

    with pytest.raises(ConfigError, match="a GPU"):
        launcher._fit_to_run(LaunchOptions(written(needing)))
    assert launcher._fit_to_run(LaunchOptions(written(needing), address="10.0.0.9:6379")) == needing


def test_replicas_reach_each_other_directly_whatever_proxies_the_environment_names():
    """GRPC would go by way of http_proxy, and nothing would ever become ready."""
    every = "0.0.0.0/0,::/0"
    assert ray_settings({"http_proxy": "http://proxy"})["no_grpc_proxy"] == every
    assert ray_settings({"no_grpc_proxy": "localhost"})["no_grpc_proxy"] == f"localhost,{every}"
    assert ray_settings({"no_grpc_proxy": every})["no_grpc_proxy"] == every


def test_a_setting_of_ray_in_the_environment_holds():
    assert ray_settings({"RAY_DEDUP_LOGS": "1"})["RAY_DEDUP_LOGS"] == "1"


def test_a_port_in_use_starts_nothing(written, monkeypatch):
    monkeypatch.setattr("ray.init", pytest.fail)
    monkeypatch.setattr(launcher, "count_gpus", lambda: 0.0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 is in use.*--port"):
            launch(LaunchOptions(written(schema()), host="127.0.0.1", port=port), Console(io.StringIO()))


@pytest.fixture
def shutdowns(monkeypatch):
    """A Ray that runs, and what is shut down of it, in order."""
    calls: list[str] = []
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.shutdown", lambda: calls.append("ray"))
    monkeypatch.setattr("ray.serve.shutdown", lambda: calls.append("serve"))
    return calls


def test_a_drain_that_fails_is_told_and_everything_is_taken_down_all_the_same(running, shutdowns, monkeypatch):
    server, _, told = running
    server._up = True

    def fail(_: dict) -> None:
        raise RuntimeError("the controller is gone")

    monkeypatch.setattr(launcher, "deploy", fail)
    server.stop()

    assert shutdowns == ["serve", "ray"]
    assert "the controller is gone; stopping all the same" in told[-2]
    assert told[-1] == "stopped"


def test_a_shutdown_of_serve_that_fails_does_not_keep_ray(running, shutdowns, monkeypatch):
    server, _, told = running

    def fail() -> None:
        raise TimeoutError("no answer")

    monkeypatch.setattr("ray.serve.shutdown", fail)
    server.stop()

    assert shutdowns == ["ray"]
    assert "Serve did not shut down: no answer" in told[0]


def test_an_application_that_does_not_start_is_told_in_the_replicas_own_sentence(running, monkeypatch):
    server, _, _ = running
    monkeypatch.undo()
    message = "Traceback (most recent call last):\n  x\nNotStarted: livedub could not start Asr with x: no such model\n"
    asr = SimpleNamespace(status="DEPLOY_FAILED", message=message)
    failed = SimpleNamespace(status="DEPLOY_FAILED", message="Failed to update ['Asr'].", deployments={"Asr": asr})
    monkeypatch.setattr("ray.serve.status", lambda: SimpleNamespace(applications={"livedub": failed}))

    with pytest.raises(LaunchError, match=r"^could not start Asr with x: no such model; Ray's logs: /"):
        server._wait_until_running(0.0)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ('{"live_streams": 3.4, "measured": {"asr_ms": 300.0, "tts_ms": 1500.0}}', ["about 3 live streams"]),
        ('{"live_streams": null}', []),
        ("<html>", []),
        (httpx.ConnectError("refused"), []),
    ],
)
def test_what_the_machine_carries_is_told_where_the_server_tells_it(asked, answer, told):
    server, answers = asked
    answers.append(answer)
    lines: list[str] = []
    server._tell = lines.append
    server._tell_capacity()
    assert len(lines) == len(told)
    assert all(words in line for words, line in zip(told, lines, strict=True))
