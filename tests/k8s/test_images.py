"""The images, without an engine: linted, held to our rules, and their parts compared with the project."""

import functools
import http.server
import importlib.util
import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from livedub.cli import app as command_line
from serve_app.configuration.loading import load_args
from serve_app.configuration.shipped import configuration
from serve_app.operations.place import free_port
from tests.support import dockerfiles
from tests.support.dockerfiles import copied, debian_packages, exec_form, parse
from tests.support.server import PROJECT

IMAGES = {"cpu": "local", "cuda": "prod"}
"""Image to its lock, and to the configuration that it starts with."""
DOCKERFILE = "k8s/images/Dockerfile.{}"
MACHINE = {
    "python_version": "3.11",
    "python_full_version": "3.11.14",
    "sys_platform": "linux",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "implementation_name": "cpython",
}
HADOLINT = Path(sys.executable).with_name("hadolint")
HEALTHCHECK = PROJECT / "k8s" / "images" / "healthcheck.py"


def text_of(image: str) -> str:
    return (PROJECT / DOCKERFILE.format(image)).read_text(encoding="utf-8")


def pins(lock: str) -> dict[str, str]:
    """Package to version, of what is installed in an image."""
    text = (PROJECT / "requirements" / lock).read_text(encoding="utf-8")
    asked = [Requirement(line.rstrip("\\ ")) for line in text.splitlines() if re.match(r"\w", line)]
    return {
        canonicalize_name(one.name): str(one.specifier)[2:]
        for one in asked
        if not one.marker or one.marker.evaluate(MACHINE)
    }


def wanted(*extras: str) -> set[str]:
    """Names of the packages that the project itself and some extras ask for."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]
    return {canonicalize_name(Requirement(line).name) for line in asked}


def lint(text: str) -> list[str]:
    """What hadolint finds."""
    done = subprocess.run(
        [HADOLINT, "--config", PROJECT / "k8s/images/hadolint.yaml", "--format", "gnu", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.stdout + done.stderr).splitlines()


# --- the Dockerfiles ---


@pytest.mark.parametrize("image", IMAGES)
def test_hadolint_finds_nothing(image):
    assert lint(text_of(image)) == []


@pytest.mark.parametrize(
    ("found", "old", "new"),
    [
        ("DL3009", "    && rm -rf /var/lib/apt/lists/* \\\n", ""),
        ("DL3015", "--no-install-recommends ", ""),
        ("DL3025", 'ENTRYPOINT ["tini", "--", "livedub"]', "ENTRYPOINT tini -- livedub"),
        ("DL3042", "COPY livedub livedub\n", "COPY livedub livedub\nRUN pip install made-up==1\n"),
        ("DL3000", "WORKDIR /source", "WORKDIR source"),
        ("DL3020", "COPY livedub livedub", "ADD livedub livedub"),
    ],
)
def test_hadolint_runs_with_its_rules(found, old, new):
    """A configuration that silences too much would pass any file."""
    text = text_of("cpu")
    assert old in text
    assert any(found in line for line in lint(text.replace(old, new)))


@pytest.mark.parametrize("image", IMAGES)
def test_images_keep_to_our_rules(image):
    assert dockerfiles.broken(text_of(image)) == set()


PLANTED = {
    "the base is pinned by version and can be given by digest": ("python:3.11.14-slim-bookworm", "python:latest"),
    "the user is a number other than 0, so that runAsNonRoot can be judged": ("USER 1000:1000", "USER livedub"),
    "each package is checked by its hash": ("install --no-deps --no-index", "install --no-deps"),
    "what is built from source is built by locked packages": (
        "venv/bin/python /requirements/build.lock",
        "venv/bin/python",
    ),
    "the image has no tools for building and installing": ("tini wget", "tini wget gcc"),
    "health is checked, in time, without a shell": ('CMD ["python", "/opt', 'CMD ["sh", "/opt'),
    "signals reach livedub, and children are reaped": ('"tini", "--", "livedub"', '"livedub"'),
    "nothing is fetched past Debian and the lock": ("COPY livedub livedub", "ADD livedub livedub"),
    "no secret is an argument or a variable": ("ARG REVISION=unknown", "ARG DEEPL_API_KEY=unknown"),
    "labels say what it is": ("image.revision=", "image.created="),
    "what is written goes to /tmp and /models": ("HOME=/tmp ", "HOME=/var/livedub "),
}


def test_every_rule_of_ours_has_a_violation_planted():
    assert set(PLANTED) == set(dockerfiles.RULES)


@pytest.mark.parametrize("rule", PLANTED)
@pytest.mark.parametrize("image", IMAGES)
def test_our_rules_find_what_breaks_them(image, rule):
    old, new = PLANTED[rule]
    assert old in text_of(image)
    assert dockerfiles.broken(text_of(image).replace(old, new)) == {rule}


@pytest.mark.parametrize("user", ["0:0", "1000", "0:1000"])
def test_root_is_no_user_to_run_as(user):
    assert len(dockerfiles.broken(text_of("cpu").replace("USER 1000:1000", f"USER {user}"))) == 1


# --- what they name is there ---


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_copied_is_in_the_project_and_reaches_the_engine(image):
    let_in = {
        line[1:] for line in (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"
    }
    sources = [source for source, _ in copied(parse(text_of(image)))]
    assert [source for source in sources if not (PROJECT / source).exists()] == []
    assert [source for source in sources if source not in let_in and source.split("/")[0] not in let_in] == []


def test_nothing_reaches_the_engine_that_no_image_copies():
    lines = (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line[1:] for line in lines if line[:1] == "!"}
    used = {source for image in IMAGES for source, _ in copied(parse(text_of(image)))}
    assert lines[1] == "*"
    assert let_in - used == {"requirements"}


def test_every_folder_with_code_is_installed():
    """The images have livedub as a package; a folder that is missing there would be missed first in the image."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    roots = ("serve_app", "deployments", "livedub")
    folders = {path.parent.relative_to(PROJECT) for root in roots for path in (PROJECT / root).rglob("*.py")}
    setuptools = project["tool"]["setuptools"]
    code = {".".join(folder.parts) for folder in folders}
    assert code | set(setuptools["package-dir"]) == set(setuptools["packages"])


@pytest.mark.parametrize("image", IMAGES)
def test_the_container_starts_a_command_that_exists_with_a_file_that_is_copied(image):
    parsed = parse(text_of(image))
    tini, _, program = exec_form(parsed.of("ENTRYPOINT")[0])
    name, *arguments = exec_form(parsed.of("CMD")[0])
    scripts = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert tini in debian_packages(parsed)
    assert program in scripts
    group = typer.main.get_command(command_line)
    with typer.Context(group) as context:
        command = group.get_command(context, name)
        values = command.make_context(name, list(arguments)).params
    assert values["config"] == Path(IMAGES[image])
    assert configuration(values["config"]) == PROJECT / "configs" / f"{IMAGES[image]}.yaml"
    assert ("configs", "configs") in copied(parsed)


@pytest.mark.parametrize("image", IMAGES)
def test_the_files_that_its_configuration_names_are_copied(image):
    schema = yaml.safe_load((PROJECT / "configs" / f"{IMAGES[image]}.yaml").read_text(encoding="utf-8"))
    config = load_args(schema["applications"][0]["args"], {})
    assert Path(config.voices).parts[0] == "configs"
    assert (PROJECT / config.voices).is_file()


def test_debian_packages_of_the_cpu_image_are_those_of_the_makefile():
    listed = re.search(r"^APT := (.*)$", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert listed is not None
    assert debian_packages(parse(text_of("cpu"))) == {*listed.group(1).split(), "tini", "wget"}
    assert debian_packages(parse(text_of("cuda"))) == {"tini", "wget"}


@pytest.mark.parametrize("image", IMAGES)
def test_each_image_installs_its_lock(image):
    assert f"requirements/{IMAGES[image]}.lock" in [source for source, _ in copied(parse(text_of(image)))]
    assert f"locked venv/bin/python /requirements/build.lock /requirements/{IMAGES[image]}.lock " in text_of(image)


# --- the locks ---


def test_the_cpu_image_has_what_was_tested():
    """The same versions as in development, and nothing besides."""
    assert pins("local.lock").items() <= pins("dev.lock").items()


def test_the_cuda_image_has_what_was_tested_and_cuda():
    known = pins("coqui.lock") | pins("cuda.lock") | pins("build.lock") | pins("dev.lock")
    assert pins("prod.lock").items() <= known.items()


def test_torch_is_the_same_version_with_cuda_and_without():
    assert pins("torch-cpu.lock")["torch"].split("+") == [pins("coqui.lock")["torch"], "cpu"]
    assert [name for name in pins("coqui.lock") if re.match(r"triton|cuda|nvidia-", name)] == []


@pytest.mark.parametrize(
    ("lock", "extras"), [("local.lock", ("local", "prod")), ("prod.lock", ("prod", "coqui", "cuda"))]
)
def test_a_lock_has_all_that_the_project_asks_for_there(lock, extras):
    assert wanted(*extras) <= set(pins(lock))


@pytest.mark.parametrize("lock", ["local.lock", "prod.lock"])
def test_no_tool_of_development_is_in_an_image(lock):
    """Coqui itself asks for two of them, and Ray for py-spy."""
    extras = ("local", "prod", "coqui", "cuda")
    assert (wanted("dev") - wanted(*extras)) & set(pins(lock)) <= {"matplotlib", "psutil", "py-spy"}


def test_the_cpu_image_has_no_cuda():
    assert [name for name in pins("local.lock") if re.match(r"torch|triton|cuda|nvidia-(?!ml-py)", name)] == []


@pytest.mark.parametrize("lock", sorted(path.name for path in (PROJECT / "requirements").glob("*.lock")))
def test_every_pin_has_hashes(lock):
    text = (PROJECT / "requirements" / lock).read_text(encoding="utf-8")
    entries = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    assert entries
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_what_builds_is_what_stays_where_torch_needs_it():
    """Another version in prod.lock would replace the one that is building."""
    assert pins("build.lock") == {"setuptools": pins("prod.lock")["setuptools"]}


# --- the health check ---


class Answering(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        self.send_response(self.status if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


@functools.cache
def healthcheck():
    spec = importlib.util.spec_from_file_location("healthcheck", HEALTHCHECK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checked(status: int | None) -> int:
    """The exit code of the health check against a server that answers with a status, or against none."""
    port = free_port()
    environ = {"LIVEDUB_PORT": str(port), "http_proxy": "http://127.0.0.1:1", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-I", HEALTHCHECK]
    if status is None:
        return subprocess.run(command, env=environ, check=False).returncode
    handler = type("Handler", (Answering,), {"status": status})
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            return subprocess.run(command, env=environ, check=False).returncode
        finally:
            server.shutdown()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (500, 1), (503, 1), (None, 1)])
def test_the_health_check_says_what_health_says(status, code):
    assert checked(status) == code


def test_the_health_check_gives_up_on_a_server_that_accepts_and_says_nothing(monkeypatch):
    monkeypatch.setattr(healthcheck(), "TIMEOUT_S", 0.1)
    with http.server.HTTPServer(("127.0.0.1", 0), Answering) as silent:
        assert not healthcheck().answers(silent.server_port)


def test_the_health_check_gives_up_before_the_engine_does():
    limits_s = [int(re.search(r"--timeout=(\d+)s", text_of(image)).group(1)) for image in IMAGES]
    assert min(limits_s) > healthcheck().TIMEOUT_S
