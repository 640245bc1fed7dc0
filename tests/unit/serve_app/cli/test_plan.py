"""`livedub plan`: what it reads, says and refuses."""

import json
import re
from pathlib import Path

import httpx
import pytest
import typer
import yaml
from typer.testing import CliRunner

from serve_app.cli import plan as command
from serve_app.cli.plan import plan
from serve_app.configuration.shipped import PROJECT_DIR
from serve_app.planning.figures import CARDS

PROD, LOCAL = (str(PROJECT_DIR / "configs" / name) for name in ("prod.yaml", "local.yaml"))


@pytest.fixture
def run(monkeypatch):
    for name in ("DEEPL_API_KEY", "DEEPL_AUTH_KEY"):
        monkeypatch.delenv(name, raising=False)
    app = typer.Typer()
    app.command()(plan)

    def invoke(*args: str, **environ: str):
        return CliRunner().invoke(app, args, env={"COLUMNS": "200", **environ})

    return invoke


def values(run, *args, **environ):
    told = run(*args, "--json", **environ)
    assert told.exit_code == 0, told.output
    return json.loads(told.stdout)


def changed(tmp_path, source, change):
    schema = yaml.safe_load(Path(source).read_text(encoding="utf-8"))
    change(schema["applications"][0])
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(schema))
    return str(path)


def test_a_plan_for_production_needs_no_key_and_no_gpu(run):
    told = values(run, "--streams", "10", "--gpu", "rtx-4090", "--config", PROD)
    assert list(told["deployments"]) == ["Ingress", "Asr", "Translation", "Tts"]
    asr, tts = told["deployments"]["Asr"], told["deployments"]["Tts"]
    assert (asr["num_gpus"], asr["share"], tts["num_gpus"]) == (0.5, 0.5, 0.5)
    assert told["gpus"] == -(-(asr["replicas"] + tts["replicas"]) // 2)
    assert tts["ms"]["how"] == "cited"
    assert tts["ms"]["value"] == pytest.approx(6000 * 3.8 / 14, rel=1e-3)
    assert tts["streams_a_replica"] == pytest.approx(0.6 * 6000 * 0.5 / tts["ms"]["value"], rel=1e-3)
    assert told["problems"] == []


def test_names_of_cards_are_taken_as_people_write_them(run):
    for name in ("NVIDIA GeForce RTX 4090", "rtx_4090", "RTX-4090"):
        assert values(run, "--streams", "1", "--gpu", name, "--config", PROD)["gpu"] == "rtx-4090"


def test_a_card_without_figures_is_refused_with_those_that_have_some_and_the_way_to_measure(run):
    told = run("--streams", "10", "--gpu", "l4", "--config", PROD)
    assert told.exit_code == 2
    assert told.stderr.startswith("livedub: error: no figure for faster_whisper medium on l4 (known: v100s, ")
    assert "no figure for xtts on l4 (known: rtx-3080, rtx-3090, rtx-4090)" in told.stderr
    assert "python -m bench.stages" in told.stderr
    assert "--asr-ms" in told.stderr
    assert "--tts-ms" in told.stderr
    assert told.stdout == ""


def test_own_measurements_plan_for_any_card(run):
    own = ("--asr-ms", "120", "--tts-ms", "400", "--gpu-memory-gib", "24")
    told = values(run, "--streams", "9", "--gpu", "L4", "--config", PROD, *own)
    tts = told["deployments"]["Tts"]
    assert tts["ms"] == {"value": 400, "how": "given", "source": "--tts-ms"}
    assert (tts["streams_a_replica"], tts["replicas"]) == (4.5, 2)
    assert (told["gpu"], told["gpus"]) == ("l4", 2)


def test_own_measurements_win_over_known_figures(run):
    told = values(run, "--streams", "1", "--gpu", "rtx-4090", "--config", PROD, "--tts-ms", "1000")
    assert told["deployments"]["Tts"]["ms"]["value"] == 1000
    assert told["deployments"]["Asr"]["ms"]["how"] == "estimated"


def test_deepl_is_planned_by_the_longest_that_it_may_take_unless_it_was_measured(run):
    base = ("--streams", "100", "--gpu", "rtx-4090", "--config", PROD)
    bound = values(run, *base)["deployments"]["Translation"]
    assert bound["ms"]["how"] == "configured"
    assert bound["streams_a_replica"] == pytest.approx(0.6 * 6000 * 32 / 5000)
    assert values(run, *base, "--translation-ms", "300")["deployments"]["Translation"]["replicas"] == 1


def test_a_laptop_is_planned_without_gpus_from_what_was_measured(run):
    told = values(run, "--streams", "3", "--gpu", "cpu", "--config", LOCAL)
    tts = told["deployments"]["Tts"]
    assert (told["gpu"], told["gpus"]) == (None, 0)
    assert "2 threads" in tts["ms"]["source"]
    assert tts["memory_mib"]["how"] == "measured"
    assert told["cpus"] >= 3 * 4.6767 / (6 * 0.6)


def test_threads_and_engines_are_read_from_the_configuration_and_the_environment(run):
    base = ("--streams", "3", "--gpu", "cpu", "--config", LOCAL)
    two = values(run, *base)["deployments"]["Tts"]["streams_a_replica"]
    one = values(run, *base, LIVEDUB_TTS__THREADS="1")["deployments"]["Tts"]["streams_a_replica"]
    assert one == pytest.approx(two / 2, rel=1e-3)
    espeak = values(run, *base, LIVEDUB_TTS__ENGINE="espeak")["deployments"]["Tts"]
    assert espeak["ms"]["value"] == 245


def test_longer_fragments_come_less_often_and_take_longer(run):
    short, long = (
        values(run, "--streams", "4", "--gpu", "rtx-3080", "--config", PROD, "--fragment-s", length)
        for length in ("3", "6")
    )
    assert long["deployments"]["Tts"]["ms"]["value"] == pytest.approx(2 * short["deployments"]["Tts"]["ms"]["value"])
    assert long["deployments"]["Tts"]["replicas"] == short["deployments"]["Tts"]["replicas"]


def test_production_on_a_machine_without_gpus_is_refused(run):
    told = run("--streams", "1", "--gpu", "cpu", "--config", PROD)
    assert told.exit_code == 2
    assert "Asr asks for 0.5 GPU" in told.stderr


def test_fakes_have_no_figures(run):
    told = run("--streams", "1", "--gpu", "cpu", "--config", str(PROJECT_DIR / "configs" / "fakes.yaml"))
    assert told.exit_code == 2
    assert "no figure for fake on cpu" in told.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        ("--streams", "-1"),
        ("--streams", "1", "--target-utilisation", "0"),
        ("--streams", "1", "--target-utilisation", "1.5"),
        ("--streams", "1", "--fragment-s", "0"),
        ("--streams", "1", "--tts-ms", "0"),
    ],
)
def test_numbers_out_of_bounds_are_refused(run, wrong):
    assert run(*wrong, "--gpu", "rtx-4090", "--config", PROD).exit_code == 2


def test_a_missing_file_is_one_line_and_code_2(run, tmp_path):
    told = run("--streams", "1", "--gpu", "cpu", "--config", str(tmp_path / "none.yaml"))
    assert told.exit_code == 2
    assert told.stderr.count("\n") == 1


def test_a_problem_is_told_and_is_code_1(run):
    slow = ("--tts-ms", "9000")
    told = run("--streams", "1", "--gpu", "rtx-4090", "--config", PROD, *slow)
    assert told.exit_code == 1
    assert "PROBLEM: a fragment takes" in told.stdout


def test_the_memory_that_the_configuration_leaves_is_held_against_the_card(run):
    small = ("--gpu-memory-gib", "6", "--asr-ms", "100", "--tts-ms", "500")
    told = run("--streams", "1", "--gpu", "small", "--config", PROD, *small)
    assert told.exit_code == 1
    assert "Tts needs 4.0 GiB, and gpu_memory_fraction 0.5 leaves it 3.0 of a small" in told.stdout


def test_every_figure_is_printed_with_how_far_it_was_checked(run):
    told = run("--streams", "10", "--gpu", "rtx-4090", "--config", PROD).stdout
    sources = told.partition("Where the figures come from\n")[2].partition("\n\n")[0].splitlines()
    assert len(sources) == 4 * 2 + 2 * 2  # time and memory of each, share and memory of the card of two
    for line in sources:
        assert re.search(r"(measured|cited|estimated|configured|given)( \([\w ,]+\))?: \S", line), line


def test_the_bounds_are_yaml(run):
    base = ("--streams", "20", "--gpu", "rtx-4090", "--least-streams", "2", "--config", PROD)
    told = run(*base).stdout.partition("into the configuration\n")[2]
    bounds = {d["name"]: d["autoscaling_config"] for d in yaml.safe_load(told)["deployments"]}
    for name, planned in values(run, *base)["deployments"].items():
        assert bounds[name] == {"min_replicas": planned["least_replicas"], "max_replicas": planned["replicas"]}
    assert re.search(r"^# minReplicas: \d+\n# maxReplicas: \d+$", told, re.MULTILINE)


def test_deployments_that_don_t_scale_get_a_number(run):
    told = run("--streams", "6", "--gpu", "cpu", "--config", LOCAL).stdout
    assert "num_replicas: 2" in told
    assert "autoscaling_config" not in told


def test_the_fewest_replicas_of_the_configuration_are_kept(run, tmp_path):
    def three(application):
        application["deployments"][0]["autoscaling_config"]["min_replicas"] = 3

    told = values(run, "--streams", "1", "--gpu", "rtx-4090", "--config", changed(tmp_path, PROD, three))
    ingress = told["deployments"]["Ingress"]
    assert (ingress["least_replicas"], ingress["replicas"]) == (3, 3)


def test_sockets_bound_the_ingress(run, tmp_path):
    def few(application):
        application["deployments"][0]["max_ongoing_requests"] = 10

    path = changed(tmp_path, LOCAL, few)
    told = values(run, "--streams", "25", "--gpu", "cpu", "--config", path)
    assert told["deployments"]["Ingress"]["replicas"] == 3


def test_texts_that_xtts_speaks_at_once_share_its_time(run):
    told = run("--streams", "1", "--gpu", "cpu", "--config", LOCAL, "--json", LIVEDUB_TTS__ENGINE="xtts")
    tts = json.loads(told.stdout)["deployments"]["Tts"]
    assert tts["streams_a_replica"] == pytest.approx(0.6 / 2.7, rel=1e-3)
    assert told.exit_code == 1  # 16 s for a fragment of 6 s


@pytest.mark.parametrize(
    ("index", "field", "value"),
    [(0, "max_ongoing_requests", "many"), (1, "ray_actor_options", {"num_gpus": "half"}), (1, "ray_actor_options", 2)],
)
def test_a_deployment_that_makes_no_sense_is_one_line_and_code_2(run, tmp_path, index, field, value):
    def wrong(application):
        application["deployments"][index][field] = value

    told = run("--streams", "1", "--gpu", "cpu", "--config", changed(tmp_path, LOCAL, wrong))
    assert told.exit_code == 2
    assert re.search("valid integer|valid number|needs an object", told.stderr)
    assert told.stderr.count("\n") == 1


def test_the_help_lists_the_cards(run):
    told = run("--help").stdout
    assert all(card in told for card in CARDS)


@pytest.fixture
def server(monkeypatch):
    """`server(body)`: what a server's /ready answers."""

    def answering(body, status=200):
        def get(url, timeout):
            assert url == "http://here:8000/ready"
            return httpx.Response(status, json=body, request=httpx.Request("GET", url))

        monkeypatch.setattr(command.httpx, "get", get)

    return answering


def test_a_running_server_gives_the_figures_of_its_machine(run, server):
    measured = {"asr_ms": 900.0, "asr_cpu_ms": 1000.0, "translation_ms": 3.0, "tts_ms": 5000.0, "tts_cpu_ms": 6000.0}
    server({"status": "ready", "live_streams": 0.8, "measured": measured})
    options = ("--streams", "6", "--gpu", "cpu", "--config", LOCAL, "--fragment-s", "3")
    told = values(run, *options, "--server", "http://here:8000/", "--asr-ms", "111")
    asr, tts = told["deployments"]["Asr"]["ms"], told["deployments"]["Tts"]["ms"]
    assert (asr["value"], asr["how"]) == (111, "given"), "what is typed wins"
    assert (tts["value"], tts["how"]) == (2500, "measured"), "of 3 s"
    assert "http://here:8000/ready" in tts["source"]
    assert told["cpus"] >= 6 * 7000 / (6000 * 0.6)


@pytest.mark.parametrize(("body", "status"), [({"status": "waiting"}, 503), ("no object", 200), ({"measured": 7}, 200)])
def test_a_server_that_says_nothing_of_use_is_named(run, server, body, status):
    server(body, status)
    told = run("--streams", "1", "--gpu", "cpu", "--config", LOCAL, "--server", "http://here:8000")
    assert told.exit_code == 2
    assert "--server: http://here:8000/ready" in told.output
