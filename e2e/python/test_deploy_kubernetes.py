"""The chart renders to what Kubernetes takes, in both of its modes, and to options that the hub takes."""

import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from conftest import REPOSITORY
from hub import BINARY
from proxies import DEPLOY

HELM = REPOSITORY / ".test-env/bin/helm"
CHART = DEPLOY / "helm/tidings"
KUBERNETES = "1.31"
VALUES = {path.name.removesuffix("-values.yaml"): path for path in sorted(CHART.glob("ci/*.yaml"))}
# Kinds of others, which Kubernetes itself has no schema for.
FOREIGN = {"ServiceMonitor"}


def helm(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, timeout=60)


def template(mode: str, *arguments: object) -> subprocess.CompletedProcess:
    options = ["--kube-version", KUBERNETES, "--values", VALUES[mode], *arguments]
    return helm("template", "events", CHART, *options)


def rendered(mode: str, *arguments: object) -> dict[str, dict]:
    """The objects of a release, by kind."""
    run = template(mode, *arguments)
    assert run.returncode == 0, run.stderr
    objects = [it for it in yaml.safe_load_all(run.stdout) if it]
    by_kind = {it["kind"]: it for it in objects}
    assert len(by_kind) == len(objects)
    return by_kind


def pod(objects: dict[str, dict]) -> dict:
    workload = objects.get("Deployment") or objects["StatefulSet"]
    return workload["spec"]["template"]


def container(objects: dict[str, dict]) -> dict:
    (only,) = pod(objects)["spec"]["containers"]
    return only


def variables(objects: dict[str, dict]) -> dict[str, str | None]:
    """The variables of the hub; those that come from a Secret as None."""
    return {it["name"]: it.get("value") for it in container(objects)["env"]}


@pytest.mark.parametrize("mode", VALUES)
def test_the_linter_has_nothing_to_say(mode):
    run = helm("lint", "--strict", CHART, "--values", VALUES[mode])
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("mode", VALUES)
def test_kubernetes_takes_every_object(mode):
    for kind, it in rendered(mode).items():
        if kind not in FOREIGN:
            kubernetes_validate.validate(it, KUBERNETES, strict=True)


def test_an_object_that_is_wrong_would_be_found():
    service = rendered("disk-log")["Service"]
    service["spec"]["prots"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, KUBERNETES, strict=True)


def test_a_shared_log_makes_many_equal_hubs():
    objects = rendered("shared-log")
    assert objects.keys() == {
        "Deployment",
        "HorizontalPodAutoscaler",
        "Ingress",
        "PodDisruptionBudget",
        "Service",
        "ServiceMonitor",
    }
    assert "replicas" not in objects["Deployment"]["spec"], "the autoscaler says how many"
    objects = rendered("shared-log", "--set", "autoscaling.enabled=false", "--set", "replicas=5")
    assert objects["Deployment"]["spec"]["replicas"] == 5


def test_a_disk_makes_one_hub():
    objects = rendered("disk-log", "--set", "replicas=5")
    assert objects.keys() == {"Service", "StatefulSet"}
    spec = objects["StatefulSet"]["spec"]
    assert spec["replicas"] == 1
    (claim,) = spec["volumeClaimTemplates"]
    mounts = {it["name"]: it["mountPath"] for it in container(objects)["volumeMounts"]}
    assert mounts[claim["metadata"]["name"]] == variables(objects)["TIDINGS_DATA"]


@pytest.mark.parametrize("mode", VALUES)
def test_parts_find_each_other(mode):
    objects = rendered(mode)
    labels = pod(objects)["metadata"]["labels"]
    name = objects["Service"]["metadata"]["name"]
    selectors = [objects["Service"]["spec"]["selector"]]
    for kind in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
        if kind in objects:
            selectors.append(objects[kind]["spec"]["selector"]["matchLabels"])
    assert all(it.items() <= labels.items() for it in selectors)
    (port,) = objects["Service"]["spec"]["ports"]
    assert port["targetPort"] in {it["name"] for it in container(objects)["ports"]}
    if mode == "shared-log":
        (rule,) = objects["Ingress"]["spec"]["rules"]
        backend = rule["http"]["paths"][0]["backend"]["service"]
        assert backend == {"name": name, "port": {"name": port["name"]}}
        assert objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == name
        monitor = objects["ServiceMonitor"]["spec"]
        assert monitor["endpoints"][0]["port"] == port["name"]
        service = objects["Service"]["metadata"]["labels"]
        assert monitor["selector"]["matchLabels"].items() <= service.items()
        assert service[monitor["jobLabel"]] == "tidings"


@pytest.mark.parametrize("mode", VALUES)
def test_a_hub_that_leaves_has_the_time_to_drain(mode):
    objects = rendered(mode, "--set", "drainSeconds=120")
    grace = pod(objects)["spec"]["terminationGracePeriodSeconds"]
    delay = int(variables(objects)["TIDINGS_DRAIN_DELAY"].removesuffix("s"))
    drain = int(variables(objects)["TIDINGS_DRAIN"].removesuffix("s"))
    assert delay > 0 and drain == 120
    assert grace >= delay + drain + 10


@pytest.mark.parametrize("mode", VALUES)
def test_the_hub_may_do_nothing_it_need_not(mode):
    objects = rendered(mode)
    spec = pod(objects)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    security = container(objects)["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("mode", VALUES)
def test_the_hub_takes_the_options(mode, secret_file: Path):
    """Also a million, which a chart would write as 1e+06, and a key that its group can read."""
    secret_file.chmod(0o440)
    given = variables(rendered(mode))
    environment = {name: value for name, value in given.items() if value is not None}
    if "TIDINGS_LOG" in given:
        environment["TIDINGS_LOG"] = "redis://:from-the-secret@redis:6379"
    if "TIDINGS_KEY_FILE" in given:
        environment["TIDINGS_KEY_FILE"] = str(secret_file)
    command = [BINARY, "config", "check"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr
    shown = subprocess.run([BINARY, "config", "show"], env=environment, capture_output=True, text=True)
    drain = variables(rendered(mode))["TIDINGS_DRAIN"]
    assert re.search(rf'drain = "{drain}"', shown.stdout), shown.stdout
    if mode == "shared-log":
        assert "max_connections = 1000000" in shown.stdout


@pytest.mark.parametrize("mode", VALUES)
def test_the_hub_answers_the_probes(mode, hub):
    for probe in ("livenessProbe", "readinessProbe"):
        path = container(rendered(mode))[probe]["httpGet"]["path"]
        assert hub.client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("mode", "values", "reason"),
    [
        ("disk-log", ["options=null"], "has to know whom it trusts"),
        ("disk-log", ["autoscaling.enabled=true"], "a log on disk belongs to one hub"),
        ("disk-log", ["options.heart-beat=1s"], "heart-beat"),
        ("disk-log", ["replcias=3"], "replcias"),
        ("shared-log", ["log.url=redis://r"], "give one of them"),
        ("shared-log", ["log.url=mysql://r"], "log.url"),
    ],
)
def test_what_cannot_work_is_refused(mode, values, reason):
    arguments = [word for value in values for word in ("--set", value)]
    run = template(mode, *arguments)
    assert run.returncode != 0
    assert reason in run.stderr, run.stderr
