"""What this machine or cluster can do, what is missing, and the command that mends it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from pydantic import Field

from evals.datasets import check
from evals.engine import EngineKind, installed_version
from evals.errors import EvaluationError
from evals.suite import load_suite, suite_names
from orchestrator.errors import MergeboardError, TokenError
from orchestrator.jobs import Frozen
from orchestrator.provenance import hardware, package_version
from orchestrator.settings import Settings

_SPARE_BYTES = 5_000_000_000


class Health(StrEnum):
    """How a check came out."""

    OK = "ok"
    MISSING = "missing"
    BROKEN = "broken"


class Finding(Frozen):
    """One line of the doctor's report."""

    name: str = Field(description="What was looked at.")
    health: Health = Field(description="broken stops the main job; missing takes something away.")
    message: str = Field(description="What was found.")
    mend: str | None = Field(default=None, description="The command or step that mends it.")


def examine(settings: Settings, address: str | None = None) -> Iterator[Finding]:
    """All findings, one after another."""
    yield from _packages()
    yield _torch()
    yield _vllm()
    yield from _home(settings)
    yield _store(settings)
    yield from _datasets(settings)
    yield _token()
    yield from _ray(settings, address)


def _packages() -> Iterator[Finding]:
    names = ("torch", "transformers", "lm_eval", "mergekit", "ray", "streamlit", "sqlalchemy", "math-verify")
    absent = [name for name in names if package_version(name) is None]
    if absent:
        yield Finding(
            name="packages",
            health=Health.BROKEN,
            message=f"not installed: {', '.join(absent)}",
            mend="make setup",
        )
    else:
        versions = ", ".join(f"{name} {package_version(name)}" for name in names)
        yield Finding(name="packages", health=Health.OK, message=versions)


def _torch() -> Finding:
    import torch

    machine = hardware()
    gpus = ", ".join(machine.gpus) or "no GPU"
    memory = machine.memory_bytes / 2**30
    text = f"torch {torch.__version__}; {machine.cpu_count} cores, {memory:.0f} GiB of memory, {gpus}"
    if torch.version.cuda is None and Path("/proc/driver/nvidia/version").exists():
        return Finding(
            name="torch",
            health=Health.MISSING,
            message=f"{text}; this machine has an NVIDIA driver but torch is a CPU build",
            mend="make clean setup TARGET=gpu",
        )
    return Finding(name="torch", health=Health.OK, message=text)


def _vllm() -> Finding:
    try:
        return Finding(name="vllm", health=Health.OK, message=f"vLLM {installed_version(EngineKind.VLLM)}")
    except EvaluationError as error:
        return Finding(
            name="vllm",
            health=Health.MISSING,
            message=str(error),
            mend="make setup, or use --engine transformers",
        )


def _home(settings: Settings) -> Iterator[Finding]:
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        probe = settings.home / f".doctor-{uuid.uuid4().hex[:8]}"
        probe.write_text("mergeboard")
        probe.unlink()
    except OSError as error:
        yield Finding(
            name="home",
            health=Health.BROKEN,
            message=f"{settings.home} cannot be written ({error.strerror})",
            mend="set MERGEBOARD_HOME to a folder that you may write",
        )
        return
    yield Finding(name="home", health=Health.OK, message=str(settings.home))
    free = shutil.disk_usage(settings.home).free
    message = f"{free / 1e9:.0f} GB free under {settings.home}"
    if free < _SPARE_BYTES:
        yield Finding(
            name="disk",
            health=Health.MISSING,
            message=message,
            mend="mergeboard cache prune, or set MERGEBOARD_HOME to a larger disk",
        )
    else:
        yield Finding(name="disk", health=Health.OK, message=message)


def _store(settings: Settings) -> Finding:
    from orchestrator.store import Store

    try:
        store = Store.open(settings.database_url)
    except MergeboardError as error:
        return Finding(name="store", health=Health.BROKEN, message=str(error), mend="mergeboard db check")
    store.close()
    return Finding(name="store", health=Health.OK, message=store.label)


def _datasets(settings: Settings) -> Iterator[Finding]:
    for name in suite_names():
        suite = load_suite(name)
        states = {b.name: check(b, settings.datasets) for b in suite.benchmarks}
        absent = {n: s for n, s in states.items() if s.location is None}
        there = f"{len(states) - len(absent)} of {len(states)} benchmarks have their data"
        if absent:
            first = next(iter(absent.values()))
            yield Finding(
                name=f"data {name}",
                health=Health.MISSING,
                message=f"{there}; not: {', '.join(absent)}",
                mend=first.command,
            )
        else:
            yield Finding(name=f"data {name}", health=Health.OK, message=there)


def _token() -> Finding:
    if os.environ.get("HF_TOKEN"):
        return Finding(
            name="HF_TOKEN", health=Health.OK, message="set (its value is shown and stored nowhere)"
        )
    return Finding(
        name="HF_TOKEN",
        health=Health.MISSING,
        message="not set; gated checkpoints and GPQA cannot be downloaded",
        mend="export HF_TOKEN=... (a read token of an account that accepted the terms)",
    )


def _ray(settings: Settings, address: str | None) -> Iterator[Finding]:
    from orchestrator.executors import connect, disconnect, home_check

    try:
        facts = connect(settings, address)
    except MergeboardError as error:
        yield Finding(
            name="ray",
            health=Health.BROKEN,
            message=str(error),
            mend="export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=... (the cluster's)"
            if isinstance(error, TokenError)
            else "ray start --head, or leave --address out",
        )
        return
    try:
        cpus = sum(node.cpus for node in facts.nodes)
        gpus = sum(node.gpus for node in facts.nodes)
        where = address or settings.ray_address or "started on this machine"
        yield Finding(
            name="ray",
            health=Health.OK,
            message=f"{len(facts.nodes)} node(s), {cpus:g} CPUs, {gpus:g} GPUs ({where})",
        )
        for node, problem in home_check(settings, facts).items():
            if problem is None:
                yield Finding(
                    name=f"node {node}", health=Health.OK, message=f"reads and writes {settings.home}"
                )
            else:
                yield Finding(
                    name=f"node {node}",
                    health=Health.BROKEN,
                    message=f"cannot use {settings.home}: {problem}",
                    mend="mount the same MERGEBOARD_HOME on every node",
                )
    finally:
        disconnect()
