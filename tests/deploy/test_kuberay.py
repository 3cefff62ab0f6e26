"""The Kubernetes manifests: KubeRay's structure, what Ray's autoscaler makes of them, and that all references meet."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest

from tests.deploy.files import DEPLOY, check_ray_start, documents, values
from tests.deploy.kuberay_schema import PodTemplate, RayCluster

KUBERAY = DEPLOY / "kuberay"


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    return [document for path in sorted(KUBERAY.glob("*.yaml")) for document in documents(path)]


def cluster() -> dict[str, Any]:
    return documents(KUBERAY / "cluster.yaml")[0]


def test_the_cluster_has_kuberays_structure() -> None:
    made = RayCluster.model_validate(cluster())
    assert made.spec.rayVersion == version("ray")
    params = " ".join(f"--{k}={v}" for k, v in made.spec.headGroupSpec.rayStartParams.items())
    assert check_ray_start(f"ray start --head {params}")["num_cpus"] == 0


def test_rays_autoscaler_understands_it() -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    types = _derive_autoscaling_config_from_ray_cr(cluster())["available_node_types"]
    gpus = {name: kind["resources"].get("GPU", 0) for name, kind in types.items()}
    assert gpus == {"headgroup": 0, "cpu": 0, "gpu-8": 8, "gpu-1": 1}
    assert types["headgroup"]["resources"]["CPU"] == 0


def test_every_pod_of_the_cluster_mounts_the_one_root() -> None:
    spec = RayCluster.model_validate(cluster()).spec
    for template in [spec.headGroupSpec.template, *(group.template for group in spec.workerGroupSpecs)]:
        (container,) = template.spec.containers
        (data,) = [mount for mount in container.volumeMounts if mount.name == "data"]
        assert {e.name: e.value for e in container.env}["MERGEBOARD_HOME"] == data.mountPath


def test_the_stores_password_is_with_the_head_alone() -> None:
    spec = RayCluster.model_validate(cluster()).spec
    assert "MERGEBOARD_DATABASE_URL" in {e.name for e in spec.headGroupSpec.template.spec.containers[0].env}
    for group in spec.workerGroupSpecs:
        assert "MERGEBOARD_DATABASE_URL" not in {e.name for e in group.template.spec.containers[0].env}


def test_the_other_pods_are_well_formed(manifests: list[dict[str, Any]]) -> None:
    owners = [m for m in manifests if m["kind"] in ("Deployment", "StatefulSet")]
    assert {m["metadata"]["name"] for m in owners} == {"mergeboard-postgres", "mergeboard-dashboard"}
    for owner in owners:
        template = PodTemplate.model_validate(owner["spec"]["template"])
        assert template.metadata.labels == owner["spec"]["selector"]["matchLabels"]
        service = next(
            m
            for m in manifests
            if m["kind"] == "Service" and m["metadata"]["name"] == owner["metadata"]["name"]
        )
        assert service["spec"]["selector"] == template.metadata.labels
        given = {v.name for v in template.spec.volumes}
        given |= {c["metadata"]["name"] for c in owner["spec"].get("volumeClaimTemplates", [])}
        assert {m.name for c in template.spec.containers for m in c.volumeMounts} == given


def test_claims_and_secrets_meet(manifests: list[dict[str, Any]]) -> None:
    claims = {m["metadata"]["name"] for m in manifests if m["kind"] == "PersistentVolumeClaim"}
    assert {v["claimName"] for k, v in values(manifests) if k == "persistentVolumeClaim"} == claims
    notes = (KUBERAY / "store.yaml").read_text()
    for reference in (v for k, v in values(manifests) if k == "secretKeyRef"):
        assert f"secret generic {reference['name']} " in notes
        assert f"{reference['key']}=" in notes
    assert {m["metadata"].get("namespace") or m["metadata"]["name"] for m in manifests} == {"mergeboard"}
    assert not [m for m in manifests if m["kind"] == "Secret"]
