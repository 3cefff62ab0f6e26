"""Whether a plan runs layer paths live or builds them, and what it says about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evals.engine import DeviceKind, EngineKind, InstalledEngine
from orchestrator.errors import SweepError
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import sweep_of_values
from orchestrator.settings import Settings
from tests.support.tiny_checkpoints import tiny_checkpoint

MIXTRAL: dict[str, Any] = {"family": "mixtral"}
NEMOTRON: dict[str, Any] = {"config": {"model_type": "nemotron", "architectures": ["NemotronForCausalLM"]}}


def planned(
    folder: Path,
    checkpoint: dict[str, Any],
    *,
    device: DeviceKind = DeviceKind.CPU,
    kind: str = "vllm",
    **sweep: Any,
) -> Plan:
    base = tiny_checkpoint(folder / "base", **checkpoint)
    values = {
        "name": "s",
        "base": str(base),
        "recipes": [{"layer_path": [0, 1, 2, 1, 2, 3], "name": "path"}],
        "suites": ["smoke"],
        "engines": [{"kind": kind}],
        **sweep,
    }
    here = InstalledEngine(kind=EngineKind(kind), version="0.32.0", device=device)
    return make_plan(
        sweep_of_values(values, origin="s.yaml"),
        Settings.from_environment(),
        installed=lambda kind: here.model_copy(update={"kind": kind}),
    )


def is_live(plan: Plan) -> bool:
    lives = {job.job.live_layers is not None for job in plan.evals if job.candidate == "path"}
    assert len(lives) == 1
    assert bool(plan.builds) is (lives == {False})
    return lives.pop()


def test_families_that_tests_compare_run_live(tmp_path: Path, home: Path) -> None:
    plan = planned(tmp_path, MIXTRAL)
    assert is_live(plan)
    assert plan.notes == ()


@pytest.mark.parametrize(
    ("checkpoint", "device", "place"),
    [
        (NEMOTRON, DeviceKind.CPU, "NemotronForCausalLM in vLLM with"),
        (MIXTRAL, DeviceKind.CUDA, "in vLLM on GPUs"),
    ],
)
def test_the_plan_says_why_paths_are_built(
    tmp_path: Path, home: Path, checkpoint: dict[str, Any], device: DeviceKind, place: str
) -> None:
    plan = planned(tmp_path, checkpoint, device=device)
    assert not is_live(plan)
    (note,) = plan.notes
    assert place in note
    assert "try_live: true" in note


def test_any_architecture_can_be_tried_live(tmp_path: Path, home: Path) -> None:
    plan = planned(tmp_path, NEMOTRON, try_live=True)
    assert is_live(plan)
    (note,) = plan.notes
    assert note.startswith(
        "Layer paths are tried live: no test compares live layer paths of NemotronForCausalLM in vLLM"
    )
    assert note.endswith(
        "if the engine's self-check refuses them, they are built as checkpoints while the run goes on."
    )
    listed = planned(tmp_path / "listed", MIXTRAL, try_live=True)
    assert (is_live(listed), listed.notes) == (True, ())


def test_a_plan_refuses_a_path_that_no_checkpoint_can_hold(tmp_path: Path, home: Path) -> None:
    rule = {"config": {"moe_layer_freq": 2}}
    with pytest.raises(SweepError, match=r"moe_layer_freq = 2.*try_live: true"):
        planned(tmp_path, rule, materialize=True)
    assert is_live(planned(tmp_path, rule))
