"""What an image has to keep to beyond what hadolint looks for, each rule a function of the parsed Dockerfile."""

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from dockerfile_parse import DockerfileParser

BUILD_TOOLS = {"build-essential", "gcc", "g++", "make", "cmake", "git", "curl", "python3-dev", "python3-pip", "sudo"}


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """Instructions by stage; what stands before the first FROM is stage 0."""

    stages: list[list[tuple[str, str]]]

    @property
    def last(self) -> list[tuple[str, str]]:
        """The stage that becomes the image."""
        return self.stages[-1]

    def of(self, instruction: str) -> list[str]:
        """The values of an instruction in the last stage."""
        return [value for name, value in self.last if name == instruction]

    def everywhere(self, instruction: str) -> list[str]:
        """The values of an instruction in all stages."""
        return [value for stage in self.stages for name, value in stage if name == instruction]


def parse(text: str) -> Dockerfile:
    parser = DockerfileParser(fileobj=io.BytesIO(text.encode()))
    stages: list[list[tuple[str, str]]] = [[]]
    for step in parser.structure:
        if step["instruction"] == "FROM":
            stages.append([])
        if step["instruction"] != "COMMENT":
            stages[-1].append((step["instruction"], step["value"]))
    return Dockerfile(stages)


def exec_form(value: str) -> list[str]:
    """The words of an instruction in exec form; empty for the form that a shell reads."""
    found = re.search(r"\[.*\]$", value)
    return [str(word) for word in json.loads(found.group())] if found else []


def copied(image: Dockerfile) -> list[tuple[str, str]]:
    """(source, target) of what comes out of the project, not out of another stage."""
    pairs = []
    for value in image.everywhere("COPY"):
        if not value.startswith("--from"):
            *sources, target = value.split()
            pairs += [(source, target) for source in sources]
    return pairs


def debian_packages(image: Dockerfile) -> set[str]:
    """What the last stage installs from Debian."""
    words = " ".join(re.findall(r"apt-get install (.*?)(?:&&|$)", " ".join(image.of("RUN")))).split()
    return {word for word in words if not word.startswith("-")}


def _base_is_pinned(image: Dockerfile) -> bool:
    default = next((value for name, value in image.stages[0] if name == "ARG"), "")
    bases = [value.split()[0] for stage in image.stages[1:] for name, value in stage if name == "FROM"]
    stages = {value.split()[-1] for value in image.everywhere("FROM") if " AS " in value}
    pinned = re.fullmatch(r"PYTHON_IMAGE=[a-z/]+:\d+\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", default)
    return pinned is not None and all(base == "${PYTHON_IMAGE}" or base in stages for base in bases)


def _runs_as_a_number(image: Dockerfile) -> bool:
    users = image.of("USER")
    return bool(users) and re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]) is not None


def _packages_are_hash_checked(image: Dockerfile) -> bool:
    """By install.py, which does nothing else, or by pip out of what lies in the image."""
    runs = " ".join(image.everywhere("RUN"))
    installs = re.findall(r"(?:pip|uv)\S* (?:--python \S+ )?install [^&]*", runs)
    return "/requirements/install.py" in runs and all("--no-index" in line for line in installs)


def _nothing_is_built_unpinned(image: Dockerfile) -> bool:
    runs = " ".join(image.everywhere("RUN"))
    locked, wheels = re.findall(r"&& locked \S+ ([^&]*)", runs), re.findall(r"pip\S* wheel [^&]*", runs)
    builds = all(line.startswith("/requirements/build.lock ") for line in locked)
    return bool(locked and wheels) and builds and all("--no-build-isolation" in line for line in wheels)


def _no_build_tools(image: Dockerfile) -> bool:
    runs = " ".join(image.of("RUN"))
    return not debian_packages(image) & BUILD_TOOLS and "pip" not in runs and "venv " not in runs


def _health_is_checked_in_exec_form(image: Dockerfile) -> bool:
    checks = image.of("HEALTHCHECK")
    return len(checks) == 1 and exec_form(checks[0])[:1] == ["python"] and "--timeout=" in checks[0]


def _signals_and_children_are_seen_to(image: Dockerfile) -> bool:
    entry = [exec_form(value)[:3] for value in image.of("ENTRYPOINT")]
    return entry == [["tini", "--", "livedub"]] and image.of("STOPSIGNAL") == ["SIGTERM"]


def _nothing_is_added(image: Dockerfile) -> bool:
    return not image.everywhere("ADD") and not re.search(r"https?://", " ".join(image.everywhere("RUN")))


def _no_secrets(image: Dockerfile) -> bool:
    named = " ".join(image.everywhere("ARG") + image.everywhere("ENV"))
    return re.search(r"\w*(KEY|SECRET|PASSWORD|TOKEN)\w*=", named, re.IGNORECASE) is None


def _is_labelled(image: Dockerfile) -> bool:
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", " ".join(image.of("LABEL"))))
    return labels >= {"title", "description", "version", "revision", "licenses"}


def _writes_outside_the_root(image: Dockerfile) -> bool:
    pairs = dict(re.findall(r"(\w+)=(\S+)", " ".join(image.of("ENV"))))
    homes = [pairs.get(name, "/") for name in ("HOME", "RAY_TMPDIR", "XDG_CACHE_HOME", "HF_HOME")]
    return all(home.startswith(("/tmp", "/models")) for home in homes)  # noqa: S108 - compared with, not written to


RULES: dict[str, Callable[[Dockerfile], bool]] = {
    "the base is pinned by version and can be given by digest": _base_is_pinned,
    "the user is a number other than 0, so that runAsNonRoot can be judged": _runs_as_a_number,
    "each package is checked by its hash": _packages_are_hash_checked,
    "what is built from source is built by locked packages": _nothing_is_built_unpinned,
    "the image has no tools for building and installing": _no_build_tools,
    "health is checked, in time, without a shell": _health_is_checked_in_exec_form,
    "signals reach livedub, and children are reaped": _signals_and_children_are_seen_to,
    "nothing is fetched past Debian and the lock": _nothing_is_added,
    "no secret is an argument or a variable": _no_secrets,
    "labels say what it is": _is_labelled,
    "what is written goes to /tmp and /models": _writes_outside_the_root,
}


def broken(text: str) -> set[str]:
    """The rules that a Dockerfile breaks."""
    image = parse(text)
    return {name for name, holds in RULES.items() if not holds(image)}
