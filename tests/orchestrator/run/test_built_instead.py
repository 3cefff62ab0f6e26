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
from evals.stats.candidate_race import CandidateRace
from orchestrator.cluster import Finished
from orchestrator.compare.candidate_races import candidate_race_of
from orchestrator.plan.job import EvalJob
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import parse_sweep
from orchestrator.run.run import execute, run_id_of, stored_plan
from orchestrator.run.scheduler import RunSummary
from orchestrator.store import Store
from orchestrator.store.records import AttemptState, EvalOutcome, FailureClass
from orchestrator.store.refusals import REFUSALS
from tests.orchestrator.search.test_grid_scan import settings_at
from tests.support import in_process
from tests.support.family_checkpoints import family_checkpoint, random_checkpoint
from tests.support.in_process import InProcess, Silent, all_runs_here, run_here
from tests.support.merge_recipes import SOURCES, method_recipe
from tests.support.other_architectures import OTHERS
from tests.support.replaced_weights import sources_of_family
from tests.support.runs_fixture import mergeboard
from tests.support.tiny_checkpoints import tiny_checkpoint

PATHS = ("(0, 1)", "(2, 3)")


@pytest.fixture(scope="module")
def minicpm3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An architecture whose layers depend on their number, so that the engine's self-check refuses layer paths."""
    return random_checkpoint(tmp_path_factory.mktemp("refused") / "base", "minicpm3", OTHERS["minicpm3"])


def planned(
    base: Path, home: Path, paths: Sequence[str] = PATHS, *, folder: Path | None = None, **values: Any
) -> Plan:
    sweep = {
        "name": "s",
        "base": str(base),
        "recipes": [{"layer_path": path} for path in paths],
        "suites": [{"suite": "smoke", "benchmarks": ["musr"], "limit": 1}],
        "engines": [{"kind": "transformers", "dtype": "float32"}],
        "try_live": True,
        **values,
    }
    return make_plan(
        parse_sweep(json.dumps(sweep).encode(), origin="s.yaml", folder=folder or base), settings_at(home)
    )


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
        counts = [failure for run in store.runs() for failure in store.failures(run.id)]
    return sum(c.count for c in counts if c.failure_class in REFUSALS)


def snapshot(home: Path) -> str:
    with Store.open(settings_at(home).database_url, create=False) as store:
        return store.snapshot().replace(str(home), "HOME")


def fresh(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_refused_paths_are_built_with_the_scores_of_a_sweep_that_builds(
    minicpm3: Path, tmp_path: Path, tries: list[Path]
) -> None:
    """One refusal is enough; paths of one form share an engine; nothing is evaluated twice."""
    home, other = fresh(tmp_path / "home"), fresh(tmp_path / "other")
    plan = planned(minicpm3, home)
    summary, notes = run(plan, home)
    assert (summary.failed, tries, refusals(home)) == ({}, [minicpm3], 1)
    (note,) = notes
    assert note.startswith(
        f"{minicpm3} is a MiniCPM3ForCausalLM, which cannot run live layer paths in the trans"
    )
    assert note.endswith("or on the number of layers; its layer paths are built as checkpoints instead.")
    with Store.open(settings_at(home).database_url, create=False) as store:
        jobs = {item.job.digest: item for item in store.run_jobs(summary.run_id)}
    # The build of the first path, whose engine takes over the weights of the second.
    assert [i.candidates for i in jobs.values() if not isinstance(i.job, EvalJob)] == [(1, 2)]
    built = planned(minicpm3, other, try_live=False, materialize=True)
    assert {p.job.digest for p in built.evals} == {p.job.digest for p in plan.evals}
    run(built, other)
    assert measured(plan, home) == measured(built, other)
    assert len({str(result) for result in measured(plan, home).values()}) == 3
    again, _ = run(built, home)
    assert (again.cached, again.failed) == (3, {})


def raced(plan: Plan, home: Path) -> tuple[RunSummary, CandidateRace]:
    summary = execute(plan, settings_at(home), Silent())
    with Store.open(settings_at(home).database_url, create=False) as store:
        race = candidate_race_of(store, store.run(summary.run_id))
    assert race is not None
    return summary, race


def test_a_race_of_refused_paths_has_the_looks_of_one_that_builds(
    minicpm3: Path, tmp_path: Path, tries: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal is met in the first part; the next part and the rest are planned live, and read the builds."""
    all_runs_here(monkeypatch)
    home, other = fresh(tmp_path / "home"), fresh(tmp_path / "other")
    words: dict[str, Any] = {
        "suites": [{"suite": "smoke", "benchmarks": ["musr"], "limit": 10}],
        "decide": {"race": {"keep": 1, "shares": [0.4, 0.7]}},
    }
    summary, race = raced(planned(minicpm3, home, **words), home)
    assert (summary.failed, len(summary.notes), tries, refusals(home)) == ({}, 1, [minicpm3], 1)
    built = planned(minicpm3, other, try_live=False, materialize=True, **words)
    assert raced(built, other)[1] == race
    assert (race.over, len(race.looks)) == (True, 2)
    assert len({candidate.value for candidate in race.looks[0].candidates}) == 2
    assert measured(built, home) == measured(built, other)


class Dies(BaseException):
    """What ends a driver at once."""


def test_a_run_that_is_killed_after_every_job_ends_as_an_undisturbed_one(
    minicpm3: Path, tmp_path: Path, tries: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the refusal, the base's score and the build: each driver knows the refusal from the store."""
    home, other = fresh(tmp_path / "home"), fresh(tmp_path / "other")
    run(planned(minicpm3, other, PATHS[:1]), other)
    tries.clear()
    plan = planned(minicpm3, home, PATHS[:1])

    class Killed(InProcess):
        waits = 0

        def wait(self, timeout_s: float) -> list[Finished]:
            self.waits += 1
            if self.waits > 1:
                raise Dies
            return super().wait(timeout_s)

    with monkeypatch.context() as patch:
        patch.setattr(in_process, "InProcess", Killed)
        for _ in range(3):
            with pytest.raises(Dies):
                run(plan, home)
    summary, notes = run(stored_plan(run_id_of(plan), settings_at(home)), home)
    assert (summary.failed, len(notes), tries, refusals(home)) == ({}, 1, [minicpm3], 1)
    assert snapshot(home) == snapshot(other)
    with Store.open(settings_at(home).database_url, create=False) as store:
        for item in store.run_jobs(summary.run_id):
            states = [attempt.state for attempt in store.attempts(item.job.digest)]
            assert states.count(AttemptState.SUCCEEDED) == 1


def test_a_path_that_can_neither_run_nor_be_built_fails_with_the_words_of_the_build(
    minicpm3: Path, tmp_path: Path, tries: list[Path]
) -> None:
    home = fresh(tmp_path / "home")
    damped = "layers:0-2,1:damped=0.5,3"
    plan = planned(minicpm3, home, [damped])
    summary, notes = run(plan, home)
    assert (len(notes), tries) == (1, [minicpm3])
    scored, lost = (planned_eval.job.digest for planned_eval in plan.evals)
    assert (summary.failed.keys(), measured(plan, home).keys()) == ({lost}, {scored})
    assert "damped=0.5 is live only, because no checkpoint holds it" in summary.failed[lost]
    with Store.open(settings_at(home).database_url, create=False) as store:
        (group,) = (g for g in store.failures(summary.run_id) if g.failure_class is FailureClass.BAD_INPUT)
        assert group.count == 1


def test_other_sources_of_the_sweep_stay_live(minicpm3: Path, tmp_path: Path, tries: list[Path]) -> None:
    """The base's paths run live; those of another checkpoint of the sweep, which is refused, are built."""
    home, llama = fresh(tmp_path / "home"), tiny_checkpoint(tmp_path / "llama", layers=4)
    copies = [{"sources": [{"model": str(minicpm3), "layer_range": part}]} for part in ([0, 2], [1, 4])]
    document = {"merge_method": "passthrough", "slices": copies}
    recipes = [{"layer_path": "(1, 2)"}, {"name": "other", "mergekit": document}]
    plan = planned(llama, home, try_live=False, recipes=recipes)
    assert all(p.job.live_layers is not None for p in plan.evals if p.candidate != "base")
    summary, notes = run(plan, home)
    assert (summary.failed, sorted(tries)) == ({}, sorted([llama, minicpm3]))
    (note,) = notes
    assert str(minicpm3) in note
    with Store.open(settings_at(home).database_url, create=False) as store:
        builds = [i for i in store.run_jobs(summary.run_id) if not isinstance(i.job, EvalJob)]
    assert [item.candidates for item in builds] == [(2,)]


@pytest.mark.slow
def test_one_path_that_cannot_run_live_is_built_and_the_others_stay_live(
    tmp_path: Path, tries: list[Path]
) -> None:
    """In layers of two kinds, transformers does not run a path whose first visit of a kind has no attention; a checkpoint holds it."""
    home, base = fresh(tmp_path / "home"), family_checkpoint(tmp_path / "gemma2", "gemma2")
    recipes = [{"layer_path": ["0:mlp", 1, 2, 3, 4]}, {"layer_path": "(0, 1)"}]
    plan = planned(base, home, try_live=False, recipes=recipes)
    assert plan.builds == ()
    summary, notes = run(plan, home)
    assert (summary.failed, set(tries), refusals(home)) == ({}, {base}, 1)
    (note,) = notes
    assert note.startswith(
        "Layer paths that the engine refuses to run live are built as checkpoints instead: "
    )
    with Store.open(settings_at(home).database_url, create=False) as store:
        builds = [i for i in store.run_jobs(summary.run_id) if not isinstance(i.job, EvalJob)]
    assert [item.candidates for item in builds] == [(1,)]
    assert len({str(result) for result in measured(plan, home).values()}) == 3


@pytest.mark.slow
def test_a_refused_path_over_a_live_merge_is_built_as_one_more_stage(
    tmp_path: Path, tries: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The merge itself stays live, in the engine of the base, which is opened without layer paths."""
    home, other = fresh(tmp_path / "home"), fresh(tmp_path / "other")
    folder = sources_of_family(fresh(tmp_path / "sources"), "llama")
    (folder / "slerp.yaml").write_text(method_recipe("slerp"))
    recipes = [
        {"name": "path", "file": "slerp.yaml", "layer_path": "(0, 2)"},
        {"name": "merge", "file": "slerp.yaml"},
    ]
    words: dict[str, Any] = {
        "recipes": recipes,
        "sources": {source: str(folder / source) for source in SOURCES},
    }
    monkeypatch.setattr("evals.transformers.self_check.difference", lambda *arguments: "it was told so")
    plan = planned(folder / "org/base", home, **words, folder=folder, try_live=False)
    assert plan.builds == ()
    summary, notes = run(plan, home)
    assert (summary.failed, len(notes), len(tries), refusals(home)) == ({}, 1, 1, 1)
    with Store.open(settings_at(home).database_url, create=False) as store:
        builds = [i for i in store.run_jobs(summary.run_id) if not isinstance(i.job, EvalJob)]
    assert [item.candidates for item in builds] == [(1,)]
    built = planned(folder / "org/base", other, **words, folder=folder, try_live=False, materialize=True)
    run(built, other)
    assert measured(plan, home) == measured(built, other)
    assert len({str(result) for result in measured(plan, home).values()}) == 3


@pytest.mark.slow
@pytest.mark.vllm
def test_a_listed_family_that_vllm_refuses_when_it_opens_is_built(
    tmp_path: Path, tries: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine has started when it checks itself; it is stopped, and the next one is opened without layer paths."""
    home, other = fresh(tmp_path / "home"), fresh(tmp_path / "other")
    base = family_checkpoint(tmp_path / "gemma2", "gemma2")
    words: dict[str, Any] = {"try_live": False, "engines": [{"kind": "vllm", "dtype": "float32"}]}
    plan = planned(base, home, PATHS[:1], **words)
    assert plan.notes == ()
    monkeypatch.setattr(
        "evals.vllm.path_check.PathCheck.difference", lambda self, slots, limit: "it was told so"
    )
    summary, notes = run(plan, home)
    assert (summary.failed, tries, refusals(home)) == ({}, [base], 1)
    (note,) = notes
    assert "Gemma2ForCausalLM, which cannot run live layer paths in vLLM: it was told so; its layer" in note
    built = planned(base, other, PATHS[:1], **words, materialize=True)
    run(built, other)
    assert measured(plan, home) == measured(built, other)


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
