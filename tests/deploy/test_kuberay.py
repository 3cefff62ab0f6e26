"""The Kubernetes manifests: KubeRay's structure, what Ray's autoscaler makes of them, and that all references meet."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import version
from typing import Any

import pytest
import yaml

from tests.support.deploy_files import DEPLOY, GROUP_CLEANUP, check_ray_start, documents, values
from tests.support.kuberay_schema import PodTemplate, RayCluster

KUBERAY = DEPLOY / "kuberay"
TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"


def manifest_files() -> list[str]:
    listed: list[str] = documents(KUBERAY / "kustomization.yaml")[0]["resources"]
    return listed


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    return [d for name in manifest_files() if name.endswith(".yaml") for d in documents(KUBERAY / name)]


def cluster() -> dict[str, Any]:
    return documents(KUBERAY / "cluster.yaml")[0]


def ray_templates() -> dict[str, PodTemplate]:
    """Each group of the cluster with the template of its pods."""
    spec = RayCluster.model_validate(cluster()).spec
    return {
        "head": spec.headGroupSpec.template,
        **{group.groupName: group.template for group in spec.workerGroupSpecs},
    }


def environment(template: PodTemplate) -> dict[str, str | None]:
    (container,) = template.spec.containers
    return {entry.name: entry.value for entry in container.env}


def test_the_cluster_has_kuberays_structure() -> None:
    spec = RayCluster.model_validate(cluster()).spec
    assert spec.rayVersion == version("ray")
    head = " ".join(f"--{k}={v}" for k, v in spec.headGroupSpec.rayStartParams.items())
    assert check_ray_start(f"ray start --head {head}")["num_cpus"] == 0
    for group in spec.workerGroupSpecs:
        params = " ".join(f"--{k}={v}" for k, v in group.rayStartParams.items())
        assert check_ray_start(f"ray start --address=head:6379 {params}")["num_gpus"] is not None


def test_rays_autoscaler_starts_gpu_pods_from_none() -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    types = _derive_autoscaling_config_from_ray_cr(cluster())["available_node_types"]
    assert {name: kind["resources"]["GPU"] for name, kind in types.items()} == {
        "headgroup": 0,
        "cpu": 0,
        "gpu-8": 8,
        "gpu-1": 1,
    }
    assert types["headgroup"]["resources"]["CPU"] == 0
    spec = RayCluster.model_validate(cluster()).spec
    assert spec.enableInTreeAutoscaling
    for group in spec.workerGroupSpecs:
        gpus = int(group.rayStartParams["num-gpus"])
        (container,) = group.template.spec.containers
        assert gpus == int(container.resources.limits.get("nvidia.com/gpu", "0"))
        if gpus:
            assert (group.replicas, group.minReplicas) == (0, 0)
            assert group.maxReplicas > 0


def test_every_raylet_ends_the_children_of_a_killed_engine() -> None:
    for group, template in ray_templates().items():
        assert environment(template)[GROUP_CLEANUP] == "1", group


def test_every_pod_of_the_cluster_mounts_the_one_root_and_caches_below_it() -> None:
    for template in ray_templates().values():
        (container,) = template.spec.containers
        (data,) = [mount for mount in container.volumeMounts if mount.name == "data"]
        assert environment(template)["MERGEBOARD_HOME"] == data.mountPath
        for cache in ("HF_HOME", "HOME"):
            assert (environment(template)[cache] or "").startswith(f"{data.mountPath}/")
        # Ray's session lies in /tmp, and the root cannot be written.
        assert "/tmp" in {mount.mountPath for mount in container.volumeMounts}


def test_the_stores_password_is_with_the_head_alone() -> None:
    for group, template in ray_templates().items():
        assert ("MERGEBOARD_DATABASE_URL" in environment(template)) == (group == "head")


def test_the_autoscaler_alone_has_a_service_accounts_token() -> None:
    spec = RayCluster.model_validate(cluster()).spec
    holders = [m.name for m in spec.autoscalerOptions.volumeMounts if m.mountPath == TOKEN_FOLDER]
    head = spec.headGroupSpec.template.spec
    (volume,) = [v for v in head.volumes if v.projected is not None]
    assert holders == [volume.name]
    assert volume.projected is not None
    # As Ray reads it: token, certificate.
    sources = {kind: source for entry in volume.projected.sources for kind, source in entry.items()}
    assert sources["serviceAccountToken"]["path"] == "token"
    assert {item["path"] for item in sources["configMap"]["items"]} == {"ca.crt"}
    for template in ray_templates().values():
        (container,) = template.spec.containers
        assert volume.name not in {m.name for m in container.volumeMounts}
        assert TOKEN_FOLDER not in {m.mountPath for m in container.volumeMounts}


def test_every_mount_has_its_volume(manifests: list[dict[str, Any]]) -> None:
    for template in ray_templates().values():
        given = {v.name for v in template.spec.volumes}
        assert {m.name for c in template.spec.containers for m in c.volumeMounts} <= given
    autoscaler = RayCluster.model_validate(cluster()).spec.autoscalerOptions
    assert {m.name for m in autoscaler.volumeMounts} <= {v.name for v in ray_templates()["head"].spec.volumes}


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
        for container in template.spec.containers:
            assert container.livenessProbe
            assert container.readinessProbe
            assert {"cpu", "memory"} <= set(container.resources.limits)


def test_claims_and_secrets_meet(manifests: list[dict[str, Any]]) -> None:
    claims = {m["metadata"]["name"] for m in manifests if m["kind"] == "PersistentVolumeClaim"}
    assert {v["claimName"] for k, v in values(manifests) if k == "persistentVolumeClaim"} == claims
    notes = (KUBERAY / "store.yaml").read_text()
    for reference in (v for k, v in values(manifests) if k == "secretKeyRef"):
        assert f"secret generic {reference['name']} " in notes
        assert f"{reference['key']}=" in notes
    for reference in (entry for k, v in values(manifests) if k == "imagePullSecrets" for entry in v):
        assert f"secret generic {reference['name']} " in notes
    assert {m["metadata"].get("namespace") or m["metadata"]["name"] for m in manifests} == {"mergeboard"}
    assert not [m for m in manifests if m["kind"] == "Secret"]


def test_nothing_is_privileged_or_shares_the_machine(manifests: list[dict[str, Any]]) -> None:
    forbidden = {"privileged", "hostNetwork", "hostPID", "hostIPC", "hostPath", "hostPort"}
    assert not forbidden & {key for key, _ in values(manifests)}


def test_one_image_serves_every_role(manifests: list[dict[str, Any]]) -> None:
    used = {v for k, v in values(manifests) if k == "image" and "@sha256:" not in v}
    assert len(used) == 1


def test_the_kustomization_names_every_file_and_every_image(manifests: list[dict[str, Any]]) -> None:
    listed = {name for name in manifest_files() if name.endswith(".yaml")}
    assert listed == {path.name for path in KUBERAY.glob("*.yaml")} - {"kustomization.yaml"}
    named = {image["name"] for image in documents(KUBERAY / "kustomization.yaml")[0]["images"]}
    used = {v.rpartition(":")[0] for k, v in values(manifests) if k == "image" and "@sha256:" not in v}
    assert used == named


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_builds_it_with_the_images_of_the_kustomization() -> None:
    built = subprocess.run(
        ["kubectl", "kustomize", str(KUBERAY)], capture_output=True, text=True, check=False, timeout=120
    )
    assert built.returncode == 0, built.stderr
    objects = [document for document in yaml.safe_load_all(built.stdout) if document]
    (made,) = [document for document in objects if document["kind"] == "RayCluster"]
    assert made["spec"] == cluster()["spec"]
    (reader,) = [o for o in objects if o["kind"] == "ConfigMap"]
    assert reader["metadata"]["name"] == "mergeboard-reader"
    assert set(reader["data"]) == {"reader.sh", "reader.sql"}
