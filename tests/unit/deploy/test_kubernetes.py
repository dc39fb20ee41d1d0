"""deploy/kubernetes, as Kustomize renders it: held to three releases of Kubernetes and to our settings."""

import json
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions

from spendmeter.contract.topics import Topic
from spendmeter.kafka.groups import SINK_GROUP, STREAM_GROUP
from tests.deployment import (
    DEPLOY,
    ROOT,
    SETTINGS,
    load_settings,
    run_tool,
    shipped_images,
    unknown_settings,
)
from tests.prometheus_rule import TARGET
from tests.prometheus_rule import rendered as rendered_rules

FOLDER = DEPLOY / "kubernetes"
RELEASES = list(dict.fromkeys(version.rpartition(".")[0] for version in all_versions()))[-3:]
OPERATORS = {
    "Kafka",
    "KafkaNodePool",
    "KafkaUser",
    "ClickHouseInstallation",
    "PrometheusRule",
    "ScaledObject",
    "ServiceMonitor",
    "TriggerAuthentication",
}
"""Kinds that Kubernetes itself does not have."""
WORKLOADS = ("Deployment", "StatefulSet", "Job")
MADE_ELSEWHERE = {
    # By Strimzi.
    *(f"spendmeter-{process}" for process in SETTINGS),
    "spendmeter-cluster-ca-cert",
    # By the operator of the system: docs/deploy.md.
    *("spendmeter-clickhouse", "spendmeter-signing-keys", "spendmeter-people", "litellm"),
    *("spendmeter-alerts", "litellm-providers", "spendmeter-canary-key"),
}

Manifest = dict[str, Any]


@cache
def rendered(folder: str) -> tuple[Manifest, ...]:
    """What Kustomize makes of it, with everything on that is off by default."""
    with TemporaryDirectory() as directory:
        copy = Path(directory) / "deploy"
        shutil.copytree(DEPLOY, copy, ignore=shutil.ignore_patterns("local", "__pycache__"))
        production = copy / "kubernetes/production/kustomization.yaml"
        production.write_text(production.read_text().replace("  # - ../", "  - ../"))
        return kustomized(copy / "kubernetes" / folder)


def kustomized(folder: Path) -> tuple[Manifest, ...]:
    said = run_tool("kubectl", "kustomize", str(folder))
    assert (said.returncode, said.stderr) == (0, ""), said.stderr
    return tuple(yaml.safe_load_all(said.stdout))


def workloads() -> Iterator[tuple[str, str, Manifest, Manifest]]:
    """Name, image's target, pod and container of each workload of production."""
    for one in rendered("production"):
        if one["kind"] in WORKLOADS:
            pod = one["spec"]["template"]["spec"]
            [container] = pod["containers"]
            yield (
                one["metadata"]["name"],
                re.sub(r"spendmeter/(\w+):.*", r"\1", container["image"]),
                pod,
                container,
            )


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("folder", ["production", "examples"])
def test_each_manifest_is_one_of_kubernetes(folder: str, release: str) -> None:
    seen = set()
    for one in rendered(folder):
        if one["kind"] in OPERATORS:
            continue
        kubernetes_validate.validate(one, release, strict=True)
        seen.add(one["kind"])

    assert folder == "examples" or seen >= {"StatefulSet", "NetworkPolicy", "PodDisruptionBudget"}


def test_a_field_that_kubernetes_does_not_have_is_found() -> None:
    [gateway] = [one for one in rendered("production") if one["kind"] == "HorizontalPodAutoscaler"]
    wrong = {**gateway, "spec": {**gateway["spec"], "minReplica": 2}}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, RELEASES[-1], strict=True)


def test_each_process_of_ours_is_there() -> None:
    assert {target for _, target, _, _ in workloads()} == {*SETTINGS}


def test_what_needs_a_key_is_off_by_default() -> None:
    on = {one["metadata"]["name"] for one in kustomized(FOLDER / "production")}

    assert {name for name, *_ in workloads()} - on == {"canary"}


def config_maps() -> dict[str, dict[str, str]]:
    return {
        one["metadata"]["name"]: one["data"] for one in rendered("production") if one["kind"] == "ConfigMap"
    }


def environment(container: Manifest) -> dict[str, str]:
    """The environment of the container; a secret is `secret`, the pod's own name is `pod-0`."""
    env: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        if "configMapRef" in source:
            env |= config_maps()[source["configMapRef"]["name"]]
    for one in container["env"]:
        env[one["name"]] = one.get("value", "pod-0" if "fieldRef" in one.get("valueFrom", {}) else "secret")
    return env


def test_each_of_our_variables_is_a_setting_of_its_process_and_can_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, target, _, container in workloads():
        env = environment(container)
        assert (name, unknown_settings(target, [*env])) == (name, set())
        with monkeypatch.context() as patched:
            made = load_settings(target, {**shipped_images()[target].env, **env}, patched)
        assert (made.partitions, made.replication) == (8, 3)


def test_no_secret_is_written_down() -> None:
    assert [one for one in rendered("production") if one["kind"] == "Secret"] == []
    for name, _, _, container in workloads():
        written = [
            one["name"]
            for one in container["env"]
            if re.search(r"PASSWORD|KEY$|TOKEN|DATABASE_URL", one["name"]) and "value" in one
        ]
        assert (name, written) == (name, [])


def test_what_a_pod_refers_to_is_there_or_is_named_as_made_elsewhere() -> None:
    for _, _, pod, container in workloads():
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert volume["configMap"]["name"] in config_maps()
            if "secret" in volume:
                assert volume["secret"]["secretName"] in MADE_ELSEWHERE
        secrets = [one["secretRef"]["name"] for one in container["envFrom"] if "secretRef" in one]
        secrets += [
            one["valueFrom"]["secretKeyRef"]["name"]
            for one in container["env"]
            if "secretKeyRef" in one.get("valueFrom", {})
        ]
        assert {*secrets} <= MADE_ELSEWHERE
        claims = {"outbox"} if container["name"] == "gateway" else set()
        mounted = {one["name"] for one in container["volumeMounts"]}
        assert mounted == {one["name"] for one in pod["volumes"]} | claims


def test_the_page_says_how_each_secret_is_made() -> None:
    page = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")

    by_hand = {
        name
        for name in MADE_ELSEWHERE
        if name.removeprefix("spendmeter-") not in (*SETTINGS, "cluster-ca-cert")
    }
    assert {name for name in by_hand if name not in page} == set()


def test_files_that_settings_name_are_mounted() -> None:
    for name, _, _, container in workloads():
        paths = [value for key, value in environment(container).items() if key.endswith(("FILE", "ROUTES"))]
        mounts = [one["mountPath"] for one in container["volumeMounts"]]

        assert paths
        assert (name, [one for one in paths if not one.startswith(tuple(mounts))]) == (name, [])


def test_a_pod_has_nobodys_rights_and_bounds() -> None:
    for name, _, pod, container in workloads():
        assert pod["automountServiceAccountToken"] is False
        assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {*container["resources"]} == {"requests", "limits"}, name
        goes_on = "restartPolicy" not in pod
        assert goes_on == ({"startupProbe", "livenessProbe", "readinessProbe"} <= {*container})


def test_the_outbox_outlives_its_pod() -> None:
    [gateway] = [
        one
        for one in rendered("production")
        if one["metadata"]["name"] == "gateway" and one["kind"] == "StatefulSet"
    ]
    [claim] = gateway["spec"]["volumeClaimTemplates"]
    [container] = gateway["spec"]["template"]["spec"]["containers"]
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}

    assert gateway["spec"]["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": "Retain",
        "whenScaled": "Retain",
    }
    assert (
        shipped_images()["gateway"]
        .env["SPENDMETER_DATA_DIR"]
        .startswith(mounts[claim["metadata"]["name"]] + "/")
    )
    assert claim["spec"]["resources"]["requests"]["storage"] == "2Gi"


def pods(labels: dict[str, str]) -> list[str]:
    return [
        one["metadata"]["name"]
        for one in rendered("production")
        if one["kind"] in WORKLOADS
        and labels.items() <= one["spec"]["template"]["metadata"]["labels"].items()
    ]


def test_whatever_selects_pods_finds_some() -> None:
    for one in rendered("production"):
        spec = one.get("spec", {})
        if one["kind"] == "Service":
            assert pods(spec["selector"]), one
        elif one["kind"] in ("PodDisruptionBudget", "NetworkPolicy"):
            selector = spec.get("selector") or spec["podSelector"]
            names = [value for found in selector.get("matchExpressions", ()) for value in found["values"]]
            assert pods(selector.get("matchLabels", {})), one
            assert all(pods({"app.kubernetes.io/name": name}) for name in names), one
        elif one["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            found = [
                other
                for other in rendered("production")
                if (other["kind"], other["metadata"]["name"])
                == (spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"])
            ]
            # Whoever else says how many there are would set it back at each `apply`.
            assert ["replicas" in other["spec"] for other in found] == [False], one


def test_services_lead_to_ports_that_containers_have() -> None:
    ports = {
        name: {port["name"]: port["containerPort"] for port in container.get("ports", ())}
        for name, _, _, container in workloads()
    }
    for one in rendered("production"):
        if one["kind"] == "Service":
            [pod] = pods(one["spec"]["selector"])
            for port in one["spec"]["ports"]:
                wanted = port.get("targetPort", port["port"])
                assert wanted in {**ports[pod], **{str(p): p for p in ports[pod].values()}}.keys() | {
                    *ports[pod].values()
                }


def test_metrics_are_read_from_each_process_that_goes_on() -> None:
    [monitor] = [one for one in rendered("production") if one["kind"] == "ServiceMonitor"]
    labels = monitor["spec"]["selector"]["matchLabels"]
    [endpoint] = monitor["spec"]["endpoints"]
    read = [
        name
        for one in rendered("production")
        if one["kind"] == "Service" and labels.items() <= one["metadata"]["labels"].items()
        if endpoint["port"] in {port["name"] for port in one["spec"]["ports"]}
        for name in pods(one["spec"]["selector"])
    ]

    assert sorted(read) == sorted(name for name, target, _, _ in workloads() if target != "tools")


def test_workers_are_scaled_by_the_lag_of_their_own_group_up_to_the_partitions() -> None:
    scaled = [one for one in rendered("production") if one["kind"] == "ScaledObject"]
    by_name = {one["metadata"]["name"]: one["spec"] for one in scaled}
    groups = {name: spec["triggers"][0]["metadata"]["consumerGroup"] for name, spec in by_name.items()}

    assert groups == {"stream": STREAM_GROUP, "sink": SINK_GROUP}
    partitions = int(config_maps_value("SPENDMETER_PARTITIONS"))
    assert {spec["maxReplicaCount"] for spec in by_name.values()} == {partitions}
    assert {spec["triggers"][0]["metadata"]["topic"] for spec in by_name.values()} == {Topic.USAGE}


def config_maps_value(name: str) -> str:
    [value] = [data[name] for data in config_maps().values() if name in data]
    return value


def test_the_rules_of_prometheus_operator_are_those_of_the_file() -> None:
    assert TARGET.read_text(encoding="utf-8") == rendered_rules(), "run `make prometheus-rule`"
    assert [one["metadata"]["name"] for one in rendered("production") if one["kind"] == "PrometheusRule"] == [
        "spendmeter"
    ]


def test_each_dashboard_is_in_a_config_map_that_grafana_finds() -> None:
    found = {
        name: text
        for one in rendered("production")
        if one["kind"] == "ConfigMap" and one["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
        for name, text in one["data"].items()
    }

    assert found == {
        path.name: path.read_text(encoding="utf-8") for path in (DEPLOY / "grafana/dashboards").glob("*.json")
    }
    # What `kubectl apply` writes into an annotation, quotes escaped, has to fit in 256 KiB.
    assert max(len(json.dumps(text)) for text in found.values()) < 200_000


def test_jobs_have_the_names_that_rules_expect() -> None:
    [monitor] = [one for one in rendered("production") if one["kind"] == "ServiceMonitor"]
    expected = re.findall(r"job_name: (\S+)", (DEPLOY / "prometheus/prometheus.yaml").read_text())

    jobs = {relabelled(monitor, name) for name, target, _, _ in workloads() if target != "tools"}

    assert jobs == {*expected}


def relabelled(monitor: Manifest, service: str) -> str:
    """The name of the job that Prometheus makes of a Service of this name."""
    labels = {"__meta_kubernetes_service_label_app_kubernetes_io_name": service}
    for rule in monitor["spec"]["endpoints"][0]["relabelings"]:
        value = ";".join(labels.get(name, "") for name in rule["sourceLabels"])
        found = re.fullmatch(rule.get("regex", "(.*)"), value)
        if found:
            labels[rule["targetLabel"]] = found.expand(rule["replacement"].replace("$1", r"\1"))
    return labels["job"]
