"""The manifests are valid, say the same as the configuration and the code, and their numbers fit together."""

import math
import shutil

import pytest
import yaml

from serve_app.configuration.loading import load_args
from serve_app.configuration.schema import IngressConfig
from serve_app.configuration.shipped import PROJECT_DIR
from serve_app.operations.launcher import OBJECT_STORE_BYTES, RAY_DEFAULTS
from serve_app.stream.values import StreamLimits
from tests.support.crds import complaints
from tests.support.manifests import (
    K8S,
    NEWEST,
    OLDEST,
    examples,
    one,
    overlay,
    pods,
    render,
    schema_complaints,
    serve_config,
)

OVERLAYS = {"gpu": "prod.yaml", "cpu-demo": "local.yaml"}
EXAMPLES = examples()
KILL_S = 10
"""What Ray may take to end its processes once a node has drained."""
CLOSE_S = 1
"""What an Ingress needs besides its fragments' deadline to end its streams."""


@pytest.fixture(params=OVERLAYS)
def name(request):
    return request.param


@pytest.fixture
def manifests(name):
    return overlay(name)


@pytest.fixture
def service(manifests):
    return one(manifests, "RayService")


@pytest.fixture
def cluster(service):
    return service["spec"]["rayClusterConfig"]


@pytest.fixture
def deployments(manifests):
    return {each["name"]: each for each in serve_config(manifests)["applications"][0]["deployments"]}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_manifest_is_valid(manifests, version):
    assert [line for manifest in manifests for line in schema_complaints(manifest, version)] == []


@pytest.mark.parametrize("file", EXAMPLES)
def test_every_example_is_valid(file):
    assert [line for manifest in EXAMPLES[file] for line in schema_complaints(manifest, NEWEST)] == []


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("RayService", ["spec", "rayClusterDeletionDelySeconds"], 1),
        ("RayService", ["spec", "rayClusterConfig", "autoscalerOptions", "idleTimeoutSecond"], 1),
        ("RayService", ["spec", "rayClusterConfig", "workerGroupSpecs", 0, "maxReplica"], 1),
        ("RayService", ["spec", "rayClusterConfig", "workerGroupSpecs", 0, "template", "spec", "enableServiceLink"], 1),
        ("RayService", ["spec", "rayClusterConfig", "gcsFaultToleranceOptions", "backend"], "etcd"),
        (
            "StatefulSet",
            ["spec", "template", "spec", "containers", 0, "securityContext", "readOnlyRootFilesytem"],
            True,
        ),
        ("Job", ["spec", "backofLimit"], 1),
        ("PersistentVolumeClaim", ["spec", "accessMode"], "ReadWriteMany"),
        ("Service", ["spec", "ports", 0, "targetPorts"], 1),
    ],
    ids=lambda value: str(value[-1]) if isinstance(value, list) else None,
)
def test_a_misspelt_field_is_no_valid_manifest(kind, path, value):
    manifest = one(overlay("gpu"), kind)
    assert schema_complaints(manifest, NEWEST) == []
    place = manifest
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    assert schema_complaints(manifest, NEWEST) != []


def test_a_misspelt_field_of_a_route_is_no_valid_manifest():
    route = EXAMPLES["gateway.yaml"][1]
    route["spec"]["rules"][0]["timeout"] = {"request": "0s"}
    assert complaints(route) != []


def test_the_embedded_configuration_is_the_shipped_file_to_the_byte(name, service, manifests):
    text = (PROJECT_DIR / "configs" / OVERLAYS[name]).read_text(encoding="utf-8")
    assert service["spec"]["serveConfigV2"] == text, "run `make manifests`"
    assert one(manifests, "ConfigMap", "livedub-serve")["data"]["serve.yaml"] == text


def test_the_voices_are_the_shipped_ones(manifests):
    voices = one(manifests, "ConfigMap", "livedub-voices")["data"]["voices.json"]
    assert voices == (PROJECT_DIR / "configs" / "voices.json").read_text(encoding="utf-8"), "run `make manifests`"


def test_a_change_of_the_serve_configuration_leaves_the_cluster_as_it_is(tmp_path):
    copied = tmp_path / "k8s"
    shutil.copytree(K8S, copied)
    shipped = overlay("gpu")
    with (copied / "base" / "prod.yaml").open("a") as file:
        file.write("# changed\n")
    live = render(copied / "overlays" / "gpu")
    assert serve_config(live) == serve_config(shipped)
    changed = [new["metadata"]["name"] for new, old in zip(live, shipped, strict=True) if new != old]
    assert changed == ["livedub-serve", "livedub"]
    assert one(live, "RayService")["spec"]["rayClusterConfig"] == one(shipped, "RayService")["spec"]["rayClusterConfig"]


@pytest.mark.parametrize("file", ["voices.json", "settings.env", "ray.env"])
def test_a_change_of_what_pods_read_once_rolls_out_a_new_cluster(file, tmp_path):
    copied = tmp_path / "k8s"
    shutil.copytree(K8S, copied)
    with (copied / "base" / file).open("a") as changed:
        changed.write("\n")
        changed.write("MORE=1\n" if file.endswith("env") else "")
    cluster = one(render(copied / "overlays" / "gpu"), "RayService")["spec"]["rayClusterConfig"]
    assert cluster != one(overlay("gpu"), "RayService")["spec"]["rayClusterConfig"]


def test_every_configmap_claim_account_and_secret_that_pods_name_is_known(manifests):
    kinds = ("ConfigMap", "PersistentVolumeClaim", "ServiceAccount")
    maps, claims, accounts = ({m["metadata"]["name"] for m in manifests if m["kind"] == kind} for kind in kinds)
    secrets = {m["metadata"]["name"] for m in EXAMPLES["secrets.yaml"]}
    for pod in pods(manifests):
        assert pod.spec.get("serviceAccountName", "livedub") in accounts
        for volume in pod.spec.get("volumes", []):
            assert volume.get("configMap", {}).get("name") in {None, *maps}, pod.where
            assert volume.get("persistentVolumeClaim", {}).get("claimName") in {None, *claims}, pod.where
        mountable = {v["name"] for v in pod.spec.get("volumes", [])}
        mountable |= {
            v["metadata"]["name"] for m in manifests for v in m.get("spec", {}).get("volumeClaimTemplates", [])
        }
        for container in pod.containers:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= mountable, pod.where
            for source in container.get("envFrom", []):
                assert source["configMapRef"]["name"] in maps, pod.where
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                assert reference is None or reference["name"] in secrets, pod.where


def test_the_demo_needs_no_secret_no_gpu_and_no_shared_volume():
    text = yaml.safe_dump_all(overlay("cpu-demo"))
    for word in ("secretKeyRef", "nvidia.com/gpu", "persistentVolumeClaim", "redisAddress", "StatefulSet", "Job"):
        assert word not in text


def test_the_settings_are_accepted_by_the_configuration(manifests):
    settings = one(manifests, "ConfigMap", "livedub-settings")["data"]
    args = serve_config(manifests)["applications"][0]["args"]
    config = load_args(args, settings | {"DEEPL_API_KEY": "key"})
    assert config.voices == "/etc/livedub/voices.json"
    for pod in pods(manifests):
        if pod.component in ("head", "doors", "models"):
            mounts = {mount["mountPath"]: mount["name"] for mount in pod.spec["containers"][0]["volumeMounts"]}
            volume = next(v for v in pod.spec["volumes"] if v["name"] == mounts["/etc/livedub"])
            assert volume["configMap"]["name"].startswith("livedub-voices-")


def test_no_gpu_node_is_needed_before_replicas_ask_for_one():
    assert one(overlay("gpu"), "ConfigMap", "livedub-settings")["data"]["LIVEDUB_GPUS"] == "awaited"


def test_ray_runs_with_the_settings_of_livedub_serve_on_every_node(manifests, cluster):
    assert one(manifests, "ConfigMap", "livedub-ray")["data"] == RAY_DEFAULTS
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        sources = [source["configMapRef"]["name"] for source in group["template"]["spec"]["containers"][0]["envFrom"]]
        assert any(source.startswith("livedub-ray-") for source in sources)
        assert group["rayStartParams"]["object-store-memory"] == str(OBJECT_STORE_BYTES)


def test_the_cluster_runs_the_locked_ray(cluster):
    lock = (PROJECT_DIR / "requirements" / "dev.lock").read_text(encoding="utf-8")
    assert f"\nray[serve]=={cluster['rayVersion']} " in lock or f"\nray=={cluster['rayVersion']} " in lock


def test_nothing_is_placed_on_the_head_and_no_socket_comes_to_it(service, cluster):
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert service["spec"]["excludeHeadPodFromServeSvc"] is True


def test_sockets_come_in_by_the_doors_alone(service, cluster, deployments):
    """The Service names its target port, and only Pods that have a port of that name are behind it."""
    port = one([service], "RayService")["spec"]["serveService"]["spec"]["ports"][0]
    serving = {
        group.get("groupName", "head")
        for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        for each in group["template"]["spec"]["containers"][0]["ports"]
        if each["name"] == port["targetPort"]
    }
    assert serving == {"cpu"}
    assert "Ingress" in deployments


def test_what_is_no_model_stays_off_gpu_nodes_and_keeps_none_of_them():
    groups = one(overlay("gpu"), "RayService")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    labels = {group["groupName"]: group.get("labels", {}) for group in groups}
    for deployment in serve_config(overlay("gpu"))["applications"][0]["deployments"]:
        options = deployment["ray_actor_options"]
        if not options.get("num_gpus"):
            selector = options["label_selector"]
            assert selector == {"livedub/group": f"!{labels['gpu']['livedub/group']}"}
            assert "livedub/group" not in labels["cpu"]


def test_no_replica_needs_more_than_a_pod_has(cluster, deployments):
    sizes = [_size(group) for group in cluster["workerGroupSpecs"]]
    for deployment in deployments.values():
        options = deployment["ray_actor_options"]
        assert any(options["num_cpus"] <= cpus and options.get("num_gpus", 0) <= gpus for cpus, gpus, _, _ in sizes), (
            deployment["name"]
        )


def test_the_groups_hold_all_replicas_and_the_second_set_of_a_rollout(cluster, deployments):
    sizes = [_size(group) for group in cluster["workerGroupSpecs"]]
    for on_gpu in {bool(gpus) for _, gpus, _, _ in sizes}:
        cpus, gpus, least, most = next(size for size in sizes if bool(size[1]) == on_gpu)
        here = [d for d in deployments.values() if bool(d["ray_actor_options"].get("num_gpus")) == on_gpu]
        for replicas, pods_there in ((_least, least), (_most, most)):
            needed_cpus = sum(replicas(d) * d["ray_actor_options"]["num_cpus"] for d in here)
            needed_gpus = sum(replicas(d) * d["ray_actor_options"].get("num_gpus", 0) for d in here)
            assert math.ceil(needed_cpus) <= pods_there * cpus
            assert math.ceil(needed_gpus) <= pods_there * gpus


def test_a_gpu_pod_has_room_for_all_replicas_that_share_its_card(cluster, deployments):
    for cpus, gpus, _, _ in map(_size, cluster["workerGroupSpecs"]):
        if gpus:
            sharing = [d["ray_actor_options"] for d in deployments.values() if d["ray_actor_options"].get("num_gpus")]
            assert sum(options["num_gpus"] for options in sharing) <= gpus
            assert sum(options["num_cpus"] for options in sharing) <= cpus


def test_pods_leave_in_the_order_that_loses_nothing(cluster, deployments):
    """Fragments end before models, those before the Ingress, that before its node and its Pod, and the head is last."""
    timeout_s = deployments["Ingress"]["user_config"]["streams"]["timeout_ms"] / 1000
    grace_s = {name: each.get("graceful_shutdown_timeout_s", 20) for name, each in deployments.items()}
    models_s = max(grace for name, grace in grace_s.items() if name != "Ingress")
    assert min(grace_s.values()) > timeout_s + CLOSE_S
    # Serve stops a replica of a draining node its grace period before the end: the Ingress first, then the models.
    assert grace_s["Ingress"] - (timeout_s + CLOSE_S) >= models_s
    leaving_s = []
    for group in cluster["workerGroupSpecs"]:
        spec = group["template"]["spec"]
        drain_s, pre_stop_s = _drain_s(spec), spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert drain_s > grace_s["Ingress"]
        assert spec["terminationGracePeriodSeconds"] >= pre_stop_s + drain_s + KILL_S
        leaving_s.append(pre_stop_s + drain_s)
    head = cluster["headGroupSpec"]["template"]["spec"]
    assert _drain_s(head) >= max(leaving_s)
    assert head["terminationGracePeriodSeconds"] >= _drain_s(head) + KILL_S


def test_an_old_cluster_stays_until_its_fragments_are_done(service, deployments):
    delay_s = service["spec"]["rayClusterDeletionDelaySeconds"]
    assert delay_s >= deployments["Ingress"]["graceful_shutdown_timeout_s"]
    assert delay_s * 1000 > StreamLimits.model_fields["timeout_ms"].metadata[1].le


def test_idle_nodes_go_and_the_autoscaler_is_the_one_that_knows_idle_times(cluster):
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    for group in cluster["workerGroupSpecs"]:
        assert group["idleTimeoutSeconds"] >= 60
        assert group["minReplicas"] <= group["maxReplicas"]
        assert "restartPolicy" not in group["template"]["spec"]


def test_the_head_comes_back_from_redis_that_keeps_what_it_was_told():
    manifests = overlay("gpu")
    options = one(manifests, "RayService")["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]
    host, port = options["redisAddress"].split(":")
    service = one(manifests, "Service", host)
    redis = one(manifests, "StatefulSet", host)
    assert service["spec"]["ports"][0]["port"] == int(port)
    assert service["spec"]["selector"].items() <= redis["spec"]["template"]["metadata"]["labels"].items()
    secret = options["redisPassword"]["valueFrom"]["secretKeyRef"]
    assert redis["spec"]["template"]["spec"]["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"] == secret
    lines = one(manifests, "ConfigMap", "livedub-redis")["data"]["redis.conf"].splitlines()
    assert {"appendonly yes", "dir /data", "maxmemory-policy noeviction"} <= {*lines}
    assert redis["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "data"


def test_each_budget_covers_pods_of_one_kind_and_leaves_room_to_move_them():
    manifests = overlay("gpu")
    cluster = one(manifests, "RayService")["spec"]["rayClusterConfig"]
    covered = {}
    for budget in (m for m in manifests if m["kind"] == "PodDisruptionBudget"):
        labels = budget["spec"]["selector"]["matchLabels"]
        groups = [
            group
            for group in cluster["workerGroupSpecs"]
            if labels.items() <= group["template"]["metadata"]["labels"].items()
        ]
        assert len(groups) == 1
        assert "maxUnavailable" not in budget["spec"]
        covered[groups[0]["groupName"]] = (budget["spec"]["minAvailable"], groups[0]["minReplicas"])
    assert covered["cpu"][0] < covered["cpu"][1], "one door must be free to move"
    ingress = next(d for d in serve_config(manifests)["applications"][0]["deployments"] if d["name"] == "Ingress")
    assert covered["cpu"][0] < ingress["autoscaling_config"]["min_replicas"], "a door without a replica is not ready"
    assert covered.keys() == {"cpu", "gpu"}


def test_weights_are_fetched_once_and_checked_before_a_model_may_load_them():
    manifests = overlay("gpu")
    job = next(pod for pod in pods(manifests) if pod.component == "weights").spec
    models = next(pod for pod in pods(manifests) if pod.component == "models").spec
    fetching, checking = job["containers"][0], models["initContainers"][0]
    assert fetching["command"][:3] == checking["command"][:3]
    assert fetching["command"][3:] == checking["command"][3:5] == ["--sums", "/models/SHA256SUMS"]
    assert checking["command"][5] == "--await-s"
    for container in (checking, models["containers"][0]):
        mount = next(mount for mount in container["volumeMounts"] if mount["mountPath"] == "/models")
        assert mount["readOnly"] is True
        variables = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert variables["HF_HUB_OFFLINE"] == "1"
        assert {n: variables[n] for n in ("HF_HOME", "TTS_HOME")} == {v["name"]: v["value"] for v in fetching["env"]}


def test_doors_in_front_outwait_every_quiet_stream():
    quiet_s = IngressConfig().stream_idle_timeout_s
    annotations = EXAMPLES["ingress.yaml"][0]["metadata"]["annotations"]
    for direction in ("read", "send"):
        assert int(annotations[f"nginx.ingress.kubernetes.io/proxy-{direction}-timeout"]) > quiet_s
    route = EXAMPLES["gateway.yaml"][1]["spec"]["rules"][0]
    assert route["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    service = one(overlay("gpu"), "RayService")["spec"]["serveService"]
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]
    assert route["backendRefs"] == [{"name": name, "port": port["port"]}]
    backends = [path["backend"]["service"] for path in EXAMPLES["ingress.yaml"][0]["spec"]["rules"][0]["http"]["paths"]]
    assert all(backend == {"name": name, "port": {"name": port["name"]}} for backend in backends)


def test_the_examples_let_in_workers_and_nothing_else():
    paths = [path["path"] for path in EXAMPLES["ingress.yaml"][0]["spec"]["rules"][0]["http"]["paths"]]
    routes = [match["path"]["value"] for match in EXAMPLES["gateway.yaml"][1]["spec"]["rules"][0]["matches"]]
    assert {path.rstrip("/") for path in paths} == {*routes} == {"/socket.io", "/ws/sts", "/health"}


def _size(group):
    """CPUs and GPUs of a Pod, fewest and most Pods."""
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    return int(limits["cpu"]), int(limits.get("nvidia.com/gpu", 0)), group["minReplicas"], group["maxReplicas"]


def _least(deployment):
    scaling = deployment.get("autoscaling_config")
    return scaling["min_replicas"] if scaling else deployment["num_replicas"]


def _most(deployment):
    scaling = deployment.get("autoscaling_config")
    most = scaling["max_replicas"] if scaling else deployment["num_replicas"]
    return math.ceil(most * (1 + deployment.get("max_surge_percent", 0) / 100))


def _drain_s(spec):
    variables = {variable["name"]: variable.get("value") for variable in spec["containers"][0]["env"]}
    return float(variables["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
