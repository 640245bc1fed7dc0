"""The security settings hold for every Pod, each rule catches what it forbids, and nobody gets to Ray's dashboard."""

import pytest

from tests.support.manifests import examples, one, overlay, pods
from tests.support.policies import Peer, reaches, violations

OVERLAYS = ("gpu", "cpu-demo")


def component(name: str) -> Peer:
    return Peer({"app.kubernetes.io/name": "livedub", "app.kubernetes.io/component": name})


HEAD, DOORS, MODELS, REDIS, WEIGHTS = map(component, ("head", "doors", "models", "redis", "weights"))
STRANGER = Peer({"app": "shell"})
NEIGHBOUR = Peer(dict(DOORS.labels), namespace="default")
INTERNET = Peer(address="203.0.113.7")
METADATA = Peer(address="169.254.169.254")
OPERATOR = Peer({"app.kubernetes.io/name": "kuberay-operator"}, namespace="kuberay-system")
FALSE_OPERATOR = Peer({"app.kubernetes.io/name": "kuberay-operator"}, namespace="default")
PROMETHEUS = Peer({"app": "prometheus"}, namespace="monitoring")
DNS = Peer({"k8s-app": "kube-dns"}, namespace="kube-system")


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_manifest_keeps_every_rule(name):
    assert violations(overlay(name)) == []


def test_the_examples_hold_no_secret():
    assert violations([manifest for manifests in examples().values() for manifest in manifests]) == []


def _spec(manifests, kind):
    return one(manifests, kind)["spec"]["template"]["spec"]


def _group(manifests, index):
    return one(manifests, "RayService")["spec"]["rayClusterConfig"]["workerGroupSpecs"][index]["template"]["spec"]


def _head(manifests):
    return one(manifests, "RayService")["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]


def _autoscaler(manifests):
    return one(manifests, "RayService")["spec"]["rayClusterConfig"]["autoscalerOptions"]


PLANTED = {
    "root": (lambda m: _group(m, 0)["securityContext"].update(runAsNonRoot=False), "may run as root"),
    "root by number": (lambda m: _group(m, 0)["securityContext"].update(runAsUser=0), "may run as root"),
    "root of a container": (lambda m: _group(m, 1)["initContainers"][0]["securityContext"].update(runAsUser=0), "root"),
    "no seccomp": (lambda m: _head(m)["securityContext"].pop("seccompProfile"), "no seccomp profile"),
    "writable root": (
        lambda m: _autoscaler(m)["securityContext"].update(readOnlyRootFilesystem=False),
        "may write to its root file system",
    ),
    "no tmp": (lambda m: _autoscaler(m).pop("volumeMounts"), "has no /tmp"),
    "capabilities kept": (
        lambda m: _spec(m, "StatefulSet")["containers"][0]["securityContext"].pop("capabilities"),
        "has capabilities",
    ),
    "capability added": (
        lambda m: _group(m, 1)["containers"][0]["securityContext"]["capabilities"].update(add=["SYS_PTRACE"]),
        "has capabilities",
    ),
    "escalation": (
        lambda m: _spec(m, "Job")["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
        "may gain privileges",
    ),
    "privileged": (
        lambda m: _group(m, 1)["containers"][0]["securityContext"].update(privileged=True),
        "may gain privileges",
    ),
    "host network": (lambda m: _group(m, 0).update(hostNetwork=True), "hostNetwork"),
    "host path": (
        lambda m: _group(m, 1)["volumes"].append({"name": "h", "hostPath": {"path": "/models"}}),
        "mounts a hostPath",
    ),
    "host port": (
        lambda m: _group(m, 0)["containers"][0]["ports"][0].update(hostPort=8000),
        "takes a port of the host",
    ),
    "unbounded volume": (
        lambda m: _group(m, 0)["volumes"].append({"name": "scratch", "emptyDir": {}}),
        "volume scratch is unbounded",
    ),
    "service links": (lambda m: _group(m, 0).pop("enableServiceLinks"), "given variables of Services"),
    "api token": (lambda m: _group(m, 0).pop("automountServiceAccountToken"), "has a token of the Kubernetes API"),
    "no limit": (
        lambda m: _spec(m, "Job")["containers"][0]["resources"]["limits"].pop("memory"),
        "no limits of memory",
    ),
    "no request": (lambda m: _head(m)["containers"][0]["resources"].pop("requests"), "no requests of cpu and memory"),
    "secret in the open": (
        lambda m: _head(m)["containers"][0]["env"].append({"name": "DEEPL_API_KEY", "value": "k"}),
        "DEEPL_API_KEY stands in the manifest",
    ),
    "committed secret": (
        lambda m: m.append({"kind": "Secret", "metadata": {"name": "livedub-keys"}, "stringData": {"a": "b"}}),
        "Secret livedub-keys holds a value",
    ),
    "latest image": (lambda m: _group(m, 0)["containers"][0].update(image="livedub:latest"), "image livedub:latest"),
    "image of a registry": (
        lambda m: _group(m, 0)["containers"][0].update(image="registry.example.com/livedub:1"),
        "image registry.example.com/livedub:1",
    ),
    "open service": (
        lambda m: one(m, "RayService")["spec"]["serveService"]["spec"].update(type="LoadBalancer"),
        "opens a Service of type LoadBalancer",
    ),
    "open head": (
        lambda m: one(m, "RayService")["spec"]["rayClusterConfig"]["headGroupSpec"].update(serviceType="NodePort"),
        "the head's Service is open",
    ),
    "dashboard offered": (
        lambda m: one(m, "RayService")["spec"]["serveService"]["spec"]["ports"].append({"port": 8265}),
        "offers the dashboard",
    ),
    "no ray token": (
        lambda m: one(m, "RayService")["spec"]["rayClusterConfig"]["authOptions"].update(mode="disabled"),
        "Ray asks for no token",
    ),
    "lax namespace": (
        lambda m: one(m, "Namespace")["metadata"]["labels"].pop("pod-security.kubernetes.io/enforce"),
        "takes Pods that are not restricted",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_violation_is_caught(name):
    plant, told = PLANTED[name]
    manifests = overlay("gpu")
    plant(manifests)
    found = violations(manifests)
    assert len(found) == 1
    assert told in found[0]


def test_every_kind_of_pod_is_judged():
    assert {pod.component for pod in pods(overlay("gpu"))} == {"head", "doors", "models", "redis", "weights"}
    assert {pod.component for pod in pods(overlay("cpu-demo"))} == {"head", "doors"}


@pytest.mark.parametrize("source", [INTERNET, STRANGER, NEIGHBOUR, FALSE_OPERATOR, PROMETHEUS, REDIS, WEIGHTS])
@pytest.mark.parametrize("port", [8265, 6379, 10001, 52365, 8076])
@pytest.mark.parametrize("overlay_name", OVERLAYS)
def test_nobody_from_outside_reaches_rays_dashboard_jobs_or_inner_ports(source, port, overlay_name):
    for target in (HEAD, DOORS, MODELS):
        assert not reaches(overlay(overlay_name), source, target, port)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        (INTERNET, DOORS, 8000),
        (NEIGHBOUR, DOORS, 8000),
        (OPERATOR, HEAD, 8265),
        (PROMETHEUS, HEAD, 8080),
        (PROMETHEUS, MODELS, 8080),
        (DOORS, HEAD, 6379),
        (MODELS, DOORS, 40123),
        (HEAD, REDIS, 6379),
        (DOORS, INTERNET, 443),
        (WEIGHTS, INTERNET, 443),
        (HEAD, INTERNET, 6443),
    ],
)
def test_what_is_needed_gets_through(source, target, port):
    assert reaches(overlay("gpu"), source, target, port)


@pytest.mark.parametrize("source", [HEAD, DOORS, MODELS, WEIGHTS])
def test_names_are_looked_up(source):
    assert reaches(overlay("gpu"), source, DNS, 53, "UDP")
    assert not reaches(overlay("gpu"), REDIS, DNS, 53, "UDP")


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        (MODELS, INTERNET, 443),
        (REDIS, INTERNET, 443),
        (DOORS, INTERNET, 80),
        (DOORS, METADATA, 443),
        (HEAD, METADATA, 443),
        (WEIGHTS, METADATA, 443),
        (DOORS, REDIS, 6379),
        (STRANGER, REDIS, 6379),
        (INTERNET, MODELS, 8000),
        (INTERNET, HEAD, 8000),
        (STRANGER, INTERNET, 443),
    ],
)
def test_what_nothing_needs_is_refused(source, target, port):
    assert not reaches(overlay("gpu"), source, target, port)


@pytest.mark.parametrize(
    "plant",
    [
        lambda m: m.__setitem__(slice(None), [each for each in m if each["kind"] != "NetworkPolicy"]),
        lambda m: one(m, "NetworkPolicy", "livedub-ray")["spec"]["ingress"][0].pop("from"),
        lambda m: one(m, "NetworkPolicy", "livedub-ray")["spec"]["ingress"].append(
            {"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}
        ),
    ],
    ids=["no isolation", "no peers", "an address let in"],
)
def test_a_planted_hole_lets_strangers_in(plant):
    manifests = overlay("gpu")
    plant(manifests)
    assert reaches(manifests, INTERNET, DOORS, 8265)
