"""The parts of KubeRay's RayCluster (ray.io/v1, operator 1.6) and of Kubernetes that our manifests use; nothing else is allowed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
# A registry's path with a tag, or a name of Docker's own library with a digest.
IMAGE = r"^([a-z0-9.-]+\.[a-z]+/[a-z0-9/-]+:[\w.-]+|[a-z]+:[\w.-]+@sha256:[0-9a-f]{64})$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti)?$"


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class KeyRef(Closed):
    name: str = Field(pattern=NAME)
    key: str
    optional: bool = False


class ValueFrom(Closed):
    secretKeyRef: KeyRef


class Env(Closed):
    name: str = Field(pattern=r"^[A-Za-z_]+$")
    value: str | None = None
    valueFrom: ValueFrom | None = None

    @model_validator(mode="after")
    def _one(self) -> Env:
        assert (self.value is None) != (self.valueFrom is None)
        return self


class Port(Closed):
    name: str = Field(pattern=NAME, max_length=15)
    containerPort: int


class Resources(Closed):
    requests: dict[str, str] = {}
    limits: dict[str, str]

    @model_validator(mode="after")
    def _extended_resources_are_equal(self) -> Resources:
        import re

        assert all(re.match(QUANTITY, v) for v in [*self.requests.values(), *self.limits.values()])
        assert self.requests.get("nvidia.com/gpu") == self.limits.get("nvidia.com/gpu")
        return self


class Mount(Closed):
    name: str
    mountPath: str
    readOnly: bool = False
    subPath: str | None = None


class Capabilities(Closed):
    drop: list[Literal["ALL"]] = Field(min_length=1)


class ContainerSecurity(Closed):
    """What Kubernetes' `restricted` profile asks of a container, and a root that nothing can write."""

    allowPrivilegeEscalation: Literal[False]
    readOnlyRootFilesystem: Literal[True]
    capabilities: Capabilities


class Seccomp(Closed):
    type: Literal["RuntimeDefault"]


class PodSecurity(Closed):
    runAsNonRoot: Literal[True]
    runAsUser: int = Field(gt=0)
    runAsGroup: int = Field(gt=0)
    fsGroup: int = Field(gt=0)
    fsGroupChangePolicy: Literal["OnRootMismatch"]
    seccompProfile: Seccomp


class Container(Closed):
    name: str = Field(pattern=NAME)
    image: str = Field(pattern=IMAGE)
    imagePullPolicy: Literal["IfNotPresent"]
    securityContext: ContainerSecurity
    args: list[str] = []
    ports: list[Port] = []
    env: list[Env] = []
    resources: Resources
    volumeMounts: list[Mount] = []
    startupProbe: dict[str, Any] | None = None
    readinessProbe: dict[str, Any] | None = None
    livenessProbe: dict[str, Any] | None = None


class ConfigMapVolume(Closed):
    name: str = Field(pattern=NAME)
    optional: bool = False
    defaultMode: int | None = None


class Projected(Closed):
    defaultMode: int
    sources: list[dict[str, dict[str, Any]]]


class Volume(Closed):
    name: str
    persistentVolumeClaim: dict[str, Any] | None = None
    emptyDir: dict[str, str] | None = None
    configMap: ConfigMapVolume | None = None
    projected: Projected | None = None


class PodSpec(Closed):
    automountServiceAccountToken: Literal[False]
    imagePullSecrets: list[dict[str, str]] = []
    restartPolicy: Literal["Never"] | None = None
    securityContext: PodSecurity
    tolerations: list[dict[str, str]] = []
    containers: list[Container] = Field(min_length=1)
    volumes: list[Volume] = []


class Metadata(Closed):
    name: str | None = Field(default=None, pattern=NAME)
    namespace: str | None = None
    labels: dict[str, str] = {}


class PodTemplate(Closed):
    metadata: Metadata = Metadata()
    spec: PodSpec


class HeadGroup(Closed):
    serviceType: Literal["ClusterIP"]
    # The operator turns these into options of `ray start`; all are strings.
    rayStartParams: dict[str, str]
    template: PodTemplate


class WorkerGroup(Closed):
    groupName: str = Field(pattern=NAME)
    replicas: int
    minReplicas: int
    maxReplicas: int
    rayStartParams: dict[str, str]
    template: PodTemplate

    @model_validator(mode="after")
    def _within(self) -> WorkerGroup:
        assert self.minReplicas <= self.replicas <= self.maxReplicas
        return self


class AutoscalerOptions(Closed):
    version: Literal["v1", "v2"]
    upscalingMode: Literal["Default", "Aggressive", "Conservative"]
    idleTimeoutSeconds: int
    imagePullPolicy: Literal["IfNotPresent"]
    resources: Resources
    securityContext: ContainerSecurity
    volumeMounts: list[Mount]


class AuthOptions(Closed):
    mode: Literal["token"]


class ClusterSpec(Closed):
    rayVersion: str
    authOptions: AuthOptions
    enableInTreeAutoscaling: bool
    autoscalerOptions: AutoscalerOptions
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup]


class RayCluster(Closed):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: ClusterSpec
