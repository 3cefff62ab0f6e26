"""Plans of partial and damped visits: identity, KV slots, and what is refused where paths are built."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.engine import EngineKind, EngineSpec
from evals.scores import ChatTemplate, EvalSettings
from orchestrator.errors import SweepError
from orchestrator.plan.job import CheckpointPlace, EvalJob, job_from_json
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import parse_sweep
from orchestrator.settings import Settings
from recipes.layer_path import LayerPath
from tests.support.tiny_checkpoints import tiny_checkpoint

SWEEP = """\
name: s
base: {base}
recipes: {recipes}
suites: [{{suite: smoke, benchmarks: [musr]}}]
engines: [transformers]
{more}
"""
JOB = EvalJob(
    weights_digest="w",
    suite="smoke",
    benchmark="bbh",
    benchmark_digest="b",
    dataset_digest="d",
    engine=EngineSpec(kind=EngineKind.TRANSFORMERS, version="5.19.0"),
    settings=EvalSettings(chat_template=ChatTemplate.ON, fewshot_as_multiturn=True),
    scorer="s",
    place=CheckpointPlace(name="demo/x"),
)
DIGESTS = {
    "(1, 2)": "e69a44110875a3e5",
    "(1, 2):attention": "1d83bd9fc3318c2b",
    "(1, 2):mlp": "a725a3a3df232d7c",
    "(1, 2):damped=0.5": "8a0c3b54de74f1ec",
    "(1, 2):damped=0": "550c21395e056caf",
    "(1, 2):attention:damped=0.5": "32743dc99fb95c76",
}


def plan_of(base: Path, recipes: str, more: str = "") -> Plan:
    text = SWEEP.format(base=base, recipes=recipes, more=more)
    file = parse_sweep(text.encode(), origin="s.yaml", folder=base.parent)
    return make_plan(file, Settings.from_environment())


@pytest.mark.parametrize(("text", "digest"), DIGESTS.items())
def test_part_and_factor_are_identity(text: str, digest: str) -> None:
    """Digests that results are stored under; the first is that of a path of whole layers."""
    job = JOB.model_copy(update={"layer_path": LayerPath.parse(text, 3).layers})
    assert job.digest == digest
    assert job_from_json(job.model_dump_json()) == job


def test_finer_paths_run_live_with_slots_for_attention_only(tmp_path: Path, home: Path) -> None:
    base = tiny_checkpoint(tmp_path / "base", layers=4)
    plan = plan_of(
        base,
        '["(0, 4):mlp", "(1, 3):attention", {name: half, layer_path: [0, 1, "1:damped=0.5", 2, 3]}, {grid: "all variant=damped=0.5"}]',
    )
    jobs = {planned.candidate: planned.job for planned in plan.evals}
    assert len(plan.candidates) == 1 + 3 + 10
    assert all(candidate.build is None for candidate in plan.candidates)
    assert jobs["half"].live_layers == LayerPath.parse("repeat:1*2:damped=0.5", 4).layers
    # The longest path of the grid repeats all four layers; (0, 4):mlp alone would need no slot.
    assert {job.tuning.extra_layer_slots for job in jobs.values()} == {4}
    few = plan_of(base, '["(0, 4):mlp", "(1, 3):attention"]')
    assert {planned.job.tuning.extra_layer_slots for planned in few.evals} == {2}
    one = plan_of(base, '["(0, 4):mlp", "(0, 4):attention:damped=0"]')
    assert {(p.job.tuning.extra_layer_slots, p.job.tuning.live) for p in one.evals} == {(0, True)}


def test_damped_visits_and_halves_that_no_checkpoint_holds_are_refused_where_paths_are_built(
    tmp_path: Path, home: Path
) -> None:
    base = tiny_checkpoint(tmp_path / "base", layers=4)
    built = "materialize: true"
    plan = plan_of(base, '["(1, 3):attention", "(1, 3):mlp"]', built)
    assert [c.build is not None for c in plan.candidates] == [False, True, True]
    with pytest.raises(SweepError, match=r"recipes\.1: .*damped=0\.5 is live only"):
        plan_of(base, '["(1, 3)", "(1, 3):damped=0.5"]', built)
    experts = tiny_checkpoint(tmp_path / "experts", family="mixtral")
    with pytest.raises(SweepError, match=r"Layer 1 has no plain mlp\.down_proj\.weight"):
        plan_of(experts, '["(1, 3):attention"]', built)
