"""What the documents promise exists: commands, options, files, names, links; and their examples run."""

import ast
import asyncio
import json
import os
import re
import shutil
import socket as sockets
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import typer
import uvicorn
import yaml

import livedub
from bench.summary import FIGURES
from deployments.contracts.engines import TranslationEngine
from deployments.contracts.values import (
    AsrCapabilities,
    Outcome,
    Recognition,
    Segment,
    Speech,
    Transcript,
    Translation,
    TranslationCapabilities,
    TtsCapabilities,
)
from livedub.cli import app as command_line
from serve_app.configuration.environment import OTHER_VARIABLES
from serve_app.configuration.loading import load_args
from serve_app.configuration.schema import AppConfig, IngressUserConfig
from serve_app.observability.metrics import (
    GpuMetrics,
    ReplicaMetrics,
    ServiceMetrics,
    StreamMetrics,
    TranscriptionMetrics,
)
from serve_app.protocol import (
    CLIENT_EVENTS,
    ERROR_TABLE,
    FORMATS,
    SERVER_EVENTS,
    ErrorEvent,
    FragmentProcessed,
    StreamReady,
    parse,
)
from serve_app.stream.negotiation import ModelCapabilities
from serve_app.stream.values import StreamLimits
from serve_app.transport.engine_io import PATHS, engine_sockets
from serve_app.transport.http import build_app
from serve_app.transport.server import SocketServer

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/protocol.md", "docs/operating.md",
    "docs/use.md", "docs/files.md", "docs/workers.md", "docs/settings.md", "docs/figures.md", "docs/licences.md",
    "docs/glossary.md", "docs/doors.md",
    "docs/troubleshooting.md", "docs/profile.md", "docs/design/session.md", "docs/design/ray.md",
    "docs/design/models.md", "docs/design/client.md", "bench/REPORT.md", "bench/results/README.md",
)  # fmt: skip
EXAMPLE_TIMEOUT_S = 60.0


def text_of(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(name), re.DOTALL | re.MULTILINE)


def tracked() -> list[Path]:
    if shutil.which("git") is None:
        pytest.skip("no git to list the files with")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [PROJECT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


# --- commands ---


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_make_target_named_exists(name):
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text_of(name), re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    assert named <= targets


def commands() -> dict[str, set[str]]:
    """Each command of `livedub` with its options."""
    group = typer.main.get_command(command_line)
    context = typer.Context(group)
    found = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found[name] = {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"--help"}
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_livedub_command_and_option_named_exists(name):
    known = commands()
    for line in re.findall(r"(?:^|`|\s)(?<!-n )livedub ([a-z]+(?: +[^`\n#]*)?)", "\n".join(code_of(name))):
        command, *arguments = line.split()
        assert command in known, line
        for option in (argument for argument in arguments if argument.startswith("-") and argument != "-"):
            assert option in known[command], line


def code_of(name: str) -> list[str]:
    text = text_of(name)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return [*blocks(name, "sh"), *inline]


def test_the_options_that_stand_alone_in_the_user_s_guide_exist():
    named = set(re.findall(r"`(--?[a-z][a-z-]*)[ `]", text_of("docs/use.md")))
    assert named
    assert named <= set().union(*commands().values())


def test_every_environment_variable_named_is_read():
    sections = {*AppConfig.model_fields, *IngressUserConfig.model_fields}
    alone = {name.removeprefix("LIVEDUB_") for name in OTHER_VARIABLES} | {"LOG_LEVEL", "VOICES", "GPUS", "TEST_ENGINE"}
    for name in DOCUMENTS:
        for variable in re.findall(r"LIVEDUB_([A-Z_]+[A-Z]\b)", text_of(name)):
            section, separator, _ = variable.partition("__")
            assert section.lower() in sections if separator else variable in alone, variable


def test_settings_that_are_given_by_variable_are_accepted():
    args = yaml.safe_load(text_of("configs/local.yaml"))["applications"][0]["args"]
    given = re.findall(r"^(LIVEDUB_(?!STREAMS)\w+__\w+)=(\S+) livedub", text_of("docs/settings.md"), re.MULTILINE)
    assert given
    for variable, value in given:
        assert load_args(args, {variable: value, "DEEPL_API_KEY": "key"})


# --- files and links ---


@pytest.mark.parametrize("name", DOCUMENTS)
def test_relative_links_lead_somewhere(name):
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(name)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (PROJECT / name).parent / path if path else PROJECT / name
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_of_the_project_that_is_named_exists(name):
    named = re.findall(
        r"\b((?:configs|tests|docs|bench|deployments|serve_app|livedub|k8s|requirements)/[\w./-]*\w)", text_of(name)
    )
    made_up = re.compile(r"shout|bench/results|k8s/overlays/site|k8s/\.env$|livedub/(?:livedub|environment|\.venv)")
    missing = [path for path in named if not made_up.search(path) and not (PROJECT / path).exists()]
    assert not missing


def test_every_module_drawn_in_the_architecture_exists():
    house = text_of("ARCHITECTURE.md").partition("## The house")[2].split("```")[1].strip("\n")
    folder = Path()
    for line in house.splitlines():
        if line.startswith(" " * 4):  # goes on from the line above
            continue
        indent, names = re.match(r"( *)((?:[\w.]+/? )*[\w.]+/?)(?: {2}|$)", line).groups()
        for name in names.split():
            path = folder / name if indent else Path(name)
            assert (PROJECT / path).exists(), path
            folder = path if not indent else folder


def test_the_figures_of_speed_and_quality_all_come_from_the_report():
    """What stands between its marks is held to the results by the tests of bench.summary."""
    told, written = FIGURES.subn("", text_of("docs/figures.md") + text_of("README.md"))
    assert written == 1
    assert re.findall(r"\d[\d.,]* ?(?:ms\b|%|×|times\b|seconds (?:for|a) )", told) == []


def test_every_configuration_shipped_is_described():
    shipped = {path.name for path in (PROJECT / "configs").iterdir()}
    assert shipped <= set(re.findall(r"configs/([\w.]+)", text_of("docs/settings.md")))


def test_no_path_of_a_machine_and_no_package_registry_in_any_file():
    private = re.compile(
        r"/work" + r"/|/ro" + r"ot/|/ho" + r"me/\w|/opt/" + r"pypi|index" + r"-url +http|artifact" + r"ory"
    )
    found = []
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data:
            lines = data.decode("utf-8", "replace").splitlines()
            found += [f"{path}:{n}" for n, line in enumerate(lines, 1) if private.search(line)]
    assert not found


# --- what the protocol page says ---


def test_the_protocol_page_names_every_event_format_and_field():
    page = text_of("docs/protocol.md")
    words = {*re.findall(r"\w+", page), *re.findall(r"\w+:\w+", page)}
    for event in (*CLIENT_EVENTS, *SERVER_EVENTS):
        assert event.EVENT in words
        assert set(fields(event.model_json_schema(mode="serialization"))) <= words
    assert set(FORMATS) <= words


def fields(schema: dict) -> list[str]:
    parts = (schema, *schema.get("$defs", {}).values())
    return [name for part in parts for name in part.get("properties", {})]


def test_the_protocol_page_has_the_table_of_errors_as_it_is():
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([^|]+) \| (yes|no) \|", text_of("docs/protocol.md"), re.MULTILINE)
    told = {code: ({w.strip() for w in where.split(",")} - {"–"}, again == "yes") for code, where, again in rows}
    assert told == {code.value: (set(rule.stages), rule.retryable) for code, rule in ERROR_TABLE.items()}


def test_the_json_examples_of_the_protocol_page_follow_the_protocol():
    init, data, ready, success, failed, error = (json.loads(block) for block in blocks("docs/protocol.md", "json"))
    data["audio"]["data_base64"] = success["dubbed_audio"]["data_base64"] = "AAAA"
    assert parse(CLIENT_EVENTS[0], init).config.target_language == "es"
    assert parse(CLIENT_EVENTS[1], data).sequence_number == 0
    for model, payload in (
        (StreamReady, ready), (FragmentProcessed, success), (FragmentProcessed, failed), (ErrorEvent, error),
    ):  # fmt: skip
        assert model.model_validate(payload, strict=False)
        assert set(payload) <= set(model.model_fields)
    assert failed["error"]["retryable"] is ERROR_TABLE[failed["error"]["code"]].retryable


def test_the_readme_names_every_metric():
    made: list[str] = []

    class Silent:
        def set(self, value: float, tags: dict[str, str] | None = None) -> None:
            """Nothing is kept."""

    class Names:
        def __getattr__(self, kind: str):
            return lambda name, **_: made.append(name) or Silent()

    StreamMetrics(Names())
    ServiceMetrics(Names())
    GpuMetrics(Names())
    ReplicaMetrics(Names())
    TranscriptionMetrics(Names(), print)
    assert set(made) == set(re.findall(r"`(sts_\w+)`", text_of("docs/settings.md")))


# --- examples ---


def test_every_python_example_imports_names_that_exist():
    sources = [block for name in DOCUMENTS for block in blocks(name, "python")]
    assert sources
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported = __import__(node.module, fromlist=["*"])
                assert all(hasattr(imported, alias.name) for alias in node.names)
    assert set(re.findall(r"\b(DubClient|Fragment|StreamConfig)\b", sources[0])) <= set(livedub.__all__)


def test_the_engine_of_the_contributing_guide_fulfils_its_protocol():
    [source] = [block for block in blocks("CONTRIBUTING.md", "python") if "ShoutOptions" in block]
    scope: dict = {"__name__": "shout"}
    exec(compile(source, "shout", "exec"), scope)  # noqa: S102 - our own example
    engine: TranslationEngine = scope["ShoutOptions"](engine="shout").build()
    engine.load()
    request = type("Request", (), {"text": "hola"})
    assert engine.translate([request]) == ["HOLA!"]
    assert all(hasattr(engine, name) for name in vars(TranslationEngine) if not name.startswith("_"))


class Echo:
    """A SocketServer whose pipeline gives the worker's sound back, under uvicorn."""

    async def __aenter__(self) -> str:
        abilities = ModelCapabilities(
            AsrCapabilities("ears", None),
            TranslationCapabilities("tongue", None),
            TtsCapabilities("mouth", {"maria": "es"}, {"es": "maria"}),
        )

        async def able():
            return abilities

        async def dub(_settings, submit, _running):
            audio, ms = submit.fragment.audio, submit.fragment.declared_duration_ms
            heard = Recognition((Segment("hello", 0, ms, 1.0),), "en")
            return Outcome(
                Transcript(heard, ms, audio.format, "ears", 1),
                Translation("hola", "en", "es", "tongue", 1),
                Speech(audio, ms, 0.0, 1.0, "mouth", 1),
            )

        async def nothing():
            return {}

        self._sockets = SocketServer(dub, able, lambda: StreamLimits(close_delay_ms=1), Observer())
        web = build_app(dict.fromkeys(PATHS, engine_sockets(self._sockets.app)), nothing, nothing)
        self._uvicorn = uvicorn.Server(uvicorn.Config(web, log_level="critical", lifespan="off"))
        self._listener = sockets.create_server(("127.0.0.1", 0))
        self._serving = asyncio.create_task(self._uvicorn.serve([self._listener]))
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._uvicorn.should_exit = self._uvicorn.force_exit = True
        await self._serving
        self._listener.close()
        await self._sockets._sio.shutdown()


class Observer:
    def observe(self, effect) -> None:
        """Nothing is counted."""

    def load(self, streams, in_flight, limit) -> None:
        """Nothing is counted."""

    def refused(self, reason) -> None:
        """Nothing is counted."""


async def run(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=PROJECT, env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), EXAMPLE_TIMEOUT_S)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_the_library_s_worker_works():
    source = blocks("docs/workers.md", "python")[0]
    async with Echo() as url:
        told = await run("-c", source.replace("http://127.0.0.1:8000", url))
    assert told.splitlines() == ["0 success hola", "1 success hola"]


async def test_the_bare_worker_works(tmp_path):
    original = PROJECT / "tests/data/speech/sense_and_sensibility-0870.wav"
    dubbed = tmp_path / "dub.wav"
    async with Echo() as url:
        told = await run("docs/examples/worker.py", url, str(original), str(dubbed), "es")
        refused = await asyncio.create_subprocess_exec(
            sys.executable, "docs/examples/worker.py", url, str(original), str(tmp_path / "none.wav"), "klingon",
            cwd=PROJECT, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        code = await asyncio.wait_for(refused.wait(), EXAMPLE_TIMEOUT_S)
    assert told.splitlines()[-1] == "2 of 2 dubbed"
    assert np.array_equal(*(samples(path) for path in (original, dubbed)))
    assert code != 0


def samples(path: Path):
    with wave.open(str(path)) as wav:
        return np.frombuffer(wav.readframes(wav.getnframes()), "<i2")


OWN_RULES = {"__init__", "attempt_context", "overhang", "translation_context", "values"}
"""Modules of a stream's core whose rules are ours and not the wire's."""


def cited(path: Path) -> list[str]:
    """Sections of docs/protocol.md that a module says it implements."""
    told = re.search(r"^Protocol: (.+)\.$", ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "", re.MULTILINE)
    return told[1].split("; ") if told else []


def test_rules_cite_sections_of_the_protocol_that_are_there():
    sections = set(re.findall(r"^#{2,3} (.+)$", text_of("docs/protocol.md"), re.MULTILINE))
    paths = [path for folder in ("serve_app", "deployments") for path in (PROJECT / folder).rglob("*.py")]
    named = {section for path in paths for section in cited(path)}
    assert named <= sections
    rules = text_of("docs/protocol.md").split("\n## Rules\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^### (.+)$", rules, re.MULTILINE)) <= named


@pytest.mark.parametrize("path", sorted((PROJECT / "serve_app" / "stream").glob("*.py")), ids=lambda path: path.stem)
def test_each_module_of_the_core_says_which_rules_it_implements(path):
    assert bool(cited(path)) is (path.stem not in OWN_RULES)
