"""The manifests in k8s/ as a cluster gets them: built by kubectl's own kustomize, judged by Kubernetes' own schemas."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from serve_app.configuration.shipped import PROJECT_DIR
from tests.support.crds import DATA, complaints

K8S = PROJECT_DIR / "k8s"
OLDEST, NEWEST = "1.30", "1.37"
"""Versions of Kubernetes that the manifests are judged by."""
Manifest = dict[str, Any]


def render(folder: Path) -> list[Manifest]:
    """What `kubectl apply -k` would send."""
    kubectl = Path(sys.executable).with_name("kubectl")
    command = [str(kubectl) if kubectl.exists() else shutil.which("kubectl") or "kubectl", "kustomize", str(folder)]
    built = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if built.returncode:
        raise AssertionError(f"{' '.join(command)}: {built.stderr}")
    return list(yaml.load_all(built.stdout, yaml.CSafeLoader))


@cache
def _overlay(name: str) -> str:
    return json.dumps(render(K8S / "overlays" / name))


def overlay(name: str) -> list[Manifest]:
    """A fresh copy of an overlay's manifests."""
    manifests: list[Manifest] = json.loads(_overlay(name))
    return manifests


def examples() -> dict[str, list[Manifest]]:
    """The manifests of k8s/examples by file name."""
    return {path.name: list(yaml.safe_load_all(path.read_text())) for path in sorted((K8S / "examples").glob("*.yaml"))}


def schema_complaints(manifest: Manifest, version: str) -> list[str]:
    """What Kubernetes of that version, or the resource's CRD, finds wrong; unknown fields are."""
    custom = DATA / f"{manifest['kind'].lower()}-{manifest['apiVersion'].split('/')[-1]}.json"
    if custom.exists():
        return complaints(manifest)
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{manifest['kind']}: {error.json_path}: {error.message}"]
    return []


def one(manifests: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The only manifest of a kind, or the one with that name; a generated suffix counts as part of no name."""
    found = [
        m
        for m in manifests
        if m["kind"] == kind
        and (name is None or m["metadata"]["name"] == name or _plain(m["metadata"]["name"]) == name)
    ]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def _plain(name: str) -> str:
    return name.rpartition("-")[0]


@dataclass(frozen=True, slots=True)
class Pod:
    """A Pod that a manifest makes: where it is described, its labels, its spec, and all its containers."""

    where: str
    labels: dict[str, str]
    spec: Manifest
    containers: list[Manifest]

    @property
    def component(self) -> str:
        """What kind of Pod of ours it is."""
        return self.labels["app.kubernetes.io/component"]


def pods(manifests: list[Manifest]) -> Iterator[Pod]:
    """All Pods; a RayService's head with the autoscaler that KubeRay puts beside it."""
    for manifest in manifests:
        where = f"{manifest['kind']} {manifest['metadata']['name']}"
        if manifest["kind"] == "RayService":
            cluster = manifest["spec"]["rayClusterConfig"]
            autoscaler = {"name": "autoscaler", "image": "livedub:head", **cluster.get("autoscalerOptions", {})}
            yield _pod(f"{where}, head", cluster["headGroupSpec"]["template"], [autoscaler])
            for group in cluster["workerGroupSpecs"]:
                yield _pod(f"{where}, group {group['groupName']}", group["template"], [])
        elif "template" in manifest.get("spec", {}):
            yield _pod(where, manifest["spec"]["template"], [])


def _pod(where: str, template: Manifest, more: list[Manifest]) -> Pod:
    spec = template["spec"]
    containers = [*spec.get("initContainers", []), *spec["containers"], *more]
    return Pod(where, template["metadata"].get("labels", {}), spec, containers)


def serve_config(manifests: list[Manifest]) -> Manifest:
    """The Serve configuration that the RayService embeds."""
    config: Manifest = yaml.safe_load(one(manifests, "RayService")["spec"]["serveConfigV2"])
    return config
