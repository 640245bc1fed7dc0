"""What every Pod and every manifest of ours has to keep, and who may talk to whom by the NetworkPolicies."""

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.support.manifests import Manifest, Pod, pods

SECRET_WORDS = ("KEY", "TOKEN", "PASSWORD", "SECRET")


def violations(manifests: list[Manifest]) -> list[str]:
    """Every rule that is broken, and where."""
    found = [f"{pod.where}: {broken}" for pod in pods(manifests) for rule in POD_RULES for broken in rule(pod)]
    return [*found, *(broken for manifest in manifests for rule in RULES for broken in rule(manifest))]


def _pod_security(pod: Pod) -> Iterator[str]:
    context = pod.spec.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        yield "may run as root"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    for name in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        if pod.spec.get(name):
            yield f"shares the host's or a neighbour's: {name}"
    for volume in pod.spec.get("volumes", []):
        kind = next(key for key in volume if key != "name")
        if kind not in ("configMap", "emptyDir", "persistentVolumeClaim", "secret", "projected"):
            yield f"mounts a {kind}"
        if kind == "emptyDir" and "sizeLimit" not in volume["emptyDir"]:
            yield f"volume {volume['name']} is unbounded"


def _service_links(pod: Pod) -> Iterator[str]:
    if pod.spec.get("enableServiceLinks") is not False:
        yield "is given variables of Services, which may look like settings"


def _account(pod: Pod) -> Iterator[str]:
    if pod.component == "head":
        if "serviceAccountName" in pod.spec:
            yield "the head's account is KubeRay's to make, for the autoscaler"
    elif pod.spec.get("automountServiceAccountToken") is not False or not pod.spec.get("serviceAccountName"):
        yield "has a token of the Kubernetes API"


def _containers(pod: Pod) -> Iterator[str]:
    for container in pod.containers:
        for broken in _container(container):
            yield f"container {container['name']}: {broken}"


def _container(container: Manifest) -> Iterator[str]:
    yield from _container_security(container.get("securityContext", {}))
    if "/tmp" not in [mount["mountPath"] for mount in container.get("volumeMounts", [])]:  # noqa: S108
        yield "has no /tmp to write to"
    for kind in ("requests", "limits"):
        missing = {"cpu", "memory"} - container.get("resources", {}).get(kind, {}).keys()
        if missing:
            yield f"has no {kind} of {' and '.join(sorted(missing))}"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "takes a port of the host"
    for variable in container.get("env", []):
        if "value" in variable and any(word in variable["name"].upper() for word in SECRET_WORDS):
            yield f"{variable['name']} stands in the manifest"
    image = container["image"]
    if image.count("/") or ":" not in image or image.endswith(":latest"):
        yield f"image {image} is of a named registry, or of no fixed version"


def _container_security(context: Manifest) -> Iterator[str]:
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        yield "may gain privileges"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "has capabilities"
    if context.get("runAsUser", 1) == 0 or context.get("runAsNonRoot") is False:
        yield "runs as root"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "may write to its root file system"


def _no_secret(manifest: Manifest) -> Iterator[str]:
    if manifest["kind"] == "Secret" and any((manifest.get("data") or manifest.get("stringData") or {}).values()):
        yield f"Secret {manifest['metadata']['name']} holds a value"


def _nothing_open(manifest: Manifest) -> Iterator[str]:
    spec = manifest.get("spec", {})
    services = [spec] if manifest["kind"] == "Service" else []
    services += [spec["serveService"]["spec"]] if manifest["kind"] == "RayService" and "serveService" in spec else []
    for service in services:
        if service.get("type", "ClusterIP") != "ClusterIP":
            yield f"{manifest['kind']} {manifest['metadata']['name']} opens a Service of type {service['type']}"
        if any(port["port"] == 8265 for port in service["ports"]):
            yield f"{manifest['kind']} {manifest['metadata']['name']} offers the dashboard"
    if manifest["kind"] == "RayService" and spec["rayClusterConfig"]["headGroupSpec"].get(
        "serviceType", "ClusterIP"
    ) != ("ClusterIP"):
        yield "the head's Service is open to the outside"


def _token(manifest: Manifest) -> Iterator[str]:
    if manifest["kind"] == "RayService":
        options = manifest["spec"]["rayClusterConfig"].get("authOptions", {})
        if options.get("mode") != "token":
            yield "Ray asks for no token"


def _restricted(manifest: Manifest) -> Iterator[str]:
    if manifest["kind"] == "Namespace":
        labels = manifest["metadata"].get("labels", {})
        if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
            yield "the namespace takes Pods that are not restricted"


POD_RULES: tuple[Callable[[Pod], Iterator[str]], ...] = (_pod_security, _service_links, _account, _containers)
RULES: tuple[Callable[[Manifest], Iterator[str]], ...] = (_no_secret, _nothing_open, _token, _restricted)


@dataclass(frozen=True, slots=True)
class Peer:
    """One end of a connection: a Pod by its labels and its namespace's, or an address outside of the cluster."""

    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = "livedub"
    address: str | None = None


def reaches(manifests: list[Manifest], source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
    """Whether the NetworkPolicies of namespace livedub let a connection through; both ends have to agree."""
    policies = [manifest for manifest in manifests if manifest["kind"] == "NetworkPolicy"]
    return all(
        _lets(policies, own, other, port, protocol, direction)
        for own, other, direction in ((source, target, "egress"), (target, source, "ingress"))
    )


def _lets(policies: list[Manifest], own: Peer, other: Peer, port: int, protocol: str, direction: str) -> bool:
    if own.address is not None or own.namespace != "livedub":
        return True
    mine = [
        policy["spec"]
        for policy in policies
        if direction.capitalize() in policy["spec"]["policyTypes"]
        and _selects(policy["spec"]["podSelector"], own.labels)
    ]
    rules = [rule for spec in mine for rule in spec.get(direction) or []]
    peers = "to" if direction == "egress" else "from"
    return not mine or any(
        _any_port(rule.get("ports"), port, protocol)
        and (peers not in rule or any(_is_peer(peer, other) for peer in rule[peers]))
        for rule in rules
    )


def _any_port(ports: list[Manifest] | None, port: int, protocol: str) -> bool:
    return ports is None or any(each["port"] == port and each.get("protocol", "TCP") == protocol for each in ports)


def _is_peer(peer: Manifest, other: Peer) -> bool:
    if "ipBlock" in peer:
        if other.address is None:
            return False
        block, address = ipaddress.ip_network(peer["ipBlock"]["cidr"]), ipaddress.ip_address(other.address)
        return address in block and not any(
            address in ipaddress.ip_network(n) for n in peer["ipBlock"].get("except", [])
        )
    if other.address is not None:
        return False
    namespaces = peer.get("namespaceSelector")
    if namespaces is None:
        if other.namespace != "livedub":
            return False
    elif not _selects(namespaces, {"kubernetes.io/metadata.name": other.namespace}):
        return False
    return _selects(peer.get("podSelector", {}), other.labels)


def _selects(selector: Manifest, labels: dict[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", []):
        if expression["operator"] != "In":
            raise ValueError(f"operator {expression['operator']} is not judged here")
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True
