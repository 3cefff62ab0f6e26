"""Layer paths that an engine refuses to run live are built while the run goes on, with the scores of a sweep that builds them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evals.samples import read_samples
from evals.scores import PROBE_SUITE
from orchestrator.cluster import Finished
from orchestrator.plan.job import EvalJob
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import parse_sweep
from orchestrator.provenance import provenance
from orchestrator.run.run import run_id_of, stored_plan
from orchestrator.run.scheduler import RunSummary
from orchestrator.store import Store
from orchestrator.store.records import AttemptState, EvalOutcome, FailureClass
from tests.orchestrator.search.test_grid_scan import settings_at
from tests.support import in_process
from tests.support.family_checkpoints import random_checkpoint
from tests.support.in_process import InProcess, Silent, run_here
from tests.support.other_architectures import OTHERS
from tests.support.runs_fixture import mergeboard
from tests.support.tiny_checkpoints import tiny_checkpoint

PROBE = "reasoning-easy-scored-search"
PATHS: list[Any] = ["(0, 1)", "(2, 3)", [0, 2, 1, 3]]
REASON = "residual_scale of layer 3 depends on its place"


@pytest.fixture(scope="module")
def minicpm3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An architecture whose layers depend on their number, so that the engine's self-check refuses layer paths."""
    return random_checkpoint(tmp_path_factory.mktemp("refused") / "base", "minicpm3", OTHERS["minicpm3"])


def planned(base: Path, home: Path, paths: Sequence[Any] = PATHS, **values: Any) -> Plan:
    sweep = {
        "name": "s",
        "base": str(base),
        "recipes": [{"layer_path": path} for path in paths],
        "suites": [
            {"suite": PROBE_SUITE, "benchmarks": [PROBE]},
            {"suite": "smoke", "benchmarks": ["musr"], "limit": 1},
        ],
        "engines": [{"kind": "transformers", "dtype": "float32"}],
        "try_live": True,
        **values,
    }
    return make_plan(parse_sweep(json.dumps(sweep).encode(), origin="s.yaml", folder=base), settings_at(home))


def run(plan: Plan, home: Path) -> tuple[RunSummary, tuple[str, ...]]:
    """How a run ends, and its notes."""
    summary = run_here(plan, settings_at(home), Silent())
    return summary, summary.notes


def measured(plan: Plan, home: Path) -> dict[str, object]:
    """Results, scores and samples of a run's evaluations, by digest."""
    with Store.open(settings_at(home).database_url, create=False) as store:
        outcomes = store.outcomes({p.job.digest for p in plan.evals})
    return {
        digest: (
            o.evaluation.result,
            o.evaluation.scores,
            [s.model_dump() for s in read_samples(home / o.samples_path)],
        )
        for digest, o in outcomes.items()
        if isinstance(o, EvalOutcome)
    }


def refusals(home: Path) -> int:
    """How many attempts an engine refused in all runs of a store."""
    with Store.open(settings_at(home).database_url, create=False) as store:
        return sum(
            failure.count
            for run in store.runs()
            for failure in store.failures(run.id)
            if failure.failure_class in (FailureClass.LIVE_REFUSED, FailureClass.PATH_REFUSED)
        )


def snapshot(home: Path) -> str:
    with Store.open(settings_at(home).database_url, create=False) as store:
        return store.snapshot().replace(str(home), "HOME")


def fresh(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_refused_paths_are_built_with_the_scores_of_a_sweep_that_builds(
    minicpm3: Path, tmp_path: Path
) -> None:
    """One refusal is enough; paths of one form share an engine; nothing is evaluated twice."""
    home, other = fresh(tmp_path / "home"), fresh(tmp_path / "other")
    plan = planned(minicpm3, home)
    summary, notes = run(plan, home)
    assert summary.failed == {}
    assert refusals(home) == 1
    (note,) = notes
    assert note.startswith(
        f"{minicpm3} is a MiniCPM3ForCausalLM, which cannot run live layer paths in the transformers engine: {REASON}"
    )
    assert note.endswith("; its layer paths are built as checkpoints instead.")
    with Store.open(settings_at(home).database_url, create=False) as store:
        stored = {item.job.digest: item for item in store.run_jobs(summary.run_id)}
        starts = [o.engine_start_s for o in store.outcomes(stored).values() if isinstance(o, EvalOutcome)]
    builds = [item for item in stored.values() if not isinstance(item.job, EvalJob)]
    assert [item.candidates for item in builds] == [
        (1,),
        (3,),
    ]  # the second path is loaded into the first one's engine
    assert len(starts) - starts.count(None) == 3
    built = planned(minicpm3, other, try_live=False, materialize=True)
    assert {p.job.digest for p in built.evals} == {p.job.digest for p in plan.evals}
    run(built, other)
    assert measured(plan, home) == measured(built, other)
    assert len({str(result) for result in measured(plan, home).values()}) == 8
    again, _ = run(built, home)
    assert (again.cached, again.failed) == (8, {})


class Dies(BaseException):
    """What ends a driver at once."""


@pytest.mark.parametrize("dies_at", [1, 2, 3, 4])
def test_a_run_that_was_killed_ends_as_an_undisturbed_one(
    dies_at: int, minicpm3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the refusal, a score, a build: the next driver knows the refusal from the store."""
    home, other = fresh(tmp_path / "home"), fresh(tmp_path / "other")
    paths = PATHS[:1]
    run(planned(minicpm3, other, paths), other)
    plan = planned(minicpm3, home, paths)

    class Killed(InProcess):
        left = dies_at

        def wait(self, timeout_s: float) -> list[Finished]:
            if self.left == 0:
                raise Dies
            Killed.left -= 1
            return super().wait(timeout_s)

    with monkeypatch.context() as patch:
        patch.setattr(in_process, "InProcess", Killed)
        with pytest.raises(Dies):
            run(plan, home)
    summary, notes = run(stored_plan(run_id_of(plan), settings_at(home)), home)
    assert (summary.failed, len(notes), refusals(home)) == ({}, 1, 1)
    assert snapshot(home) == snapshot(other)
    with Store.open(settings_at(home).database_url, create=False) as store:
        for planned_eval in plan.evals:
            states = [attempt.state for attempt in store.attempts(planned_eval.job.digest)]
            assert states.count(AttemptState.SUCCEEDED) == 1


def test_a_later_run_does_not_try_again(
    minicpm3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one run was refused, another one builds at once; a run of another version of mergeboard asks again."""
    home = fresh(tmp_path / "home")
    run(planned(minicpm3, home, PATHS[:1]), home)
    later = planned(minicpm3, home, PATHS[1:2], suites=[{"suite": PROBE_SUITE, "benchmarks": [PROBE]}])
    summary, notes = run(later, home)
    assert (summary.failed, len(notes), refusals(home)) == ({}, 1, 1)
    other = provenance().model_copy(update={"commit": "another"})
    monkeypatch.setattr("orchestrator.run.built_instead.provenance", lambda: other)
    run(planned(minicpm3, home, PATHS[2:], suites=[{"suite": PROBE_SUITE, "benchmarks": [PROBE]}]), home)
    assert refusals(home) == 2


def test_a_path_that_can_neither_run_nor_be_built_fails_with_the_words_of_the_build(
    minicpm3: Path, tmp_path: Path
) -> None:
    home = fresh(tmp_path / "home")
    damped = "layers:0-2,1:damped=0.5,3"
    plan = planned(minicpm3, home, [PATHS[0], damped])
    summary, notes = run(plan, home)
    assert len(notes) == refusals(home) == 1
    lost = {p.job.digest for p in plan.evals if p.candidate == plan.candidates[2].name}
    assert summary.failed.keys() == lost
    assert all(
        "damped=0.5 is live only, because no checkpoint holds it" in m for m in summary.failed.values()
    )
    assert measured(plan, home).keys() == {p.job.digest for p in plan.evals} - lost
    with Store.open(settings_at(home).database_url, create=False) as store:
        (group,) = (g for g in store.failures(summary.run_id) if g.failure_class is FailureClass.BAD_INPUT)
        assert group.count == 2


def test_other_sources_of_the_sweep_stay_live(
    minicpm3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base's paths run live; those of another checkpoint of the sweep, which is refused, are built."""
    home, llama = fresh(tmp_path / "home"), tiny_checkpoint(tmp_path / "llama", layers=4)
    copies = [{"sources": [{"model": str(minicpm3), "layer_range": part}]} for part in ([0, 2], [1, 4])]
    document = {"merge_method": "passthrough", "slices": copies}
    recipes = [{"layer_path": "(1, 2)"}, {"name": "other", "mergekit": document}]
    plan = planned(llama, home, try_live=False, recipes=recipes)
    assert all(p.job.live_layers is not None for p in plan.evals if p.candidate != "base")
    summary, notes = run(plan, home)
    assert (summary.failed, refusals(home)) == ({}, 1)
    (note,) = notes
    assert str(minicpm3) in note
    with Store.open(settings_at(home).database_url, create=False) as store:
        builds = [i for i in store.run_jobs(summary.run_id) if not isinstance(i.job, EvalJob)]
    assert [item.candidates for item in builds] == [(2,)]


# Runs the real command, and dies when the store has taken the n-th call of a method.
DIES_AFTER = """
import os, signal, sys
from orchestrator.store import Store
method, left = sys.argv.pop(1), int(sys.argv.pop(1))
real = getattr(Store, method)
def called(self, *args, **kwargs):
    global left
    result = real(self, *args, **kwargs)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(Store, method, called)
sys.argv[0] = "mergeboard"
from orchestrator.cli import main
main()
"""


@pytest.mark.slow
def test_kill_9_at_every_step_of_a_refused_run(minicpm3: Path, tmp_path: Path) -> None:
    """`mergeboard run` on Ray, killed after the refusal, after the builds are stored, and after two scores; then it ends by itself."""
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        f"name: s\nbase: {minicpm3}\ntry_live: true\nrecipes: [{{layer_path: '(0, 1)'}}, {{layer_path: '(2, 3)'}}]\n"
        "suites: [{suite: smoke, benchmarks: [musr], limit: 1}]\nengines: [{kind: transformers, dtype: float32}]\n"
    )
    home, other = fresh(tmp_path / "home"), fresh(tmp_path / "other")
    undisturbed = mergeboard("run", str(sweep), home=other)
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert undisturbed.stderr.count("its layer paths are built as checkpoints instead") == 1
    env = {**os.environ, "MERGEBOARD_HOME": str(home), "OMP_NUM_THREADS": "2"}
    steps = [("fail_attempt", 1), ("add_builds", 1), ("finish_attempt", 2), ("finish_attempt", 1)]
    for method, count in steps:
        command = [sys.executable, "-c", DIES_AFTER, method, str(count), "run", str(sweep)]
        killed = subprocess.run(command, env=env, capture_output=True, timeout=300, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    ended = mergeboard("run", str(sweep), home=home)
    assert ended.returncode == 0, ended.stderr
    assert refusals(home) == 1
    assert snapshot(home) == snapshot(other)
