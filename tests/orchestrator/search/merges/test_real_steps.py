"""Steps, early stops and a searched block together, in a real engine on real questions."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.search.merges.run import run_merge_search
from orchestrator.search.merges.search_file import load_search
from orchestrator.store import Store
from orchestrator.store.records import EarlyOutcome, EvalOutcome
from orchestrator.store.trial_records import TrialState
from tests.orchestrator.search.test_grid_scan import settings_at
from tests.support.in_process import ground_here, silently
from tests.support.tiny_checkpoints import tiny_checkpoint

SEARCH = """\
name: steps
base: base
recipe:
  merge_method: linear
  dtype: float32
  models:
    - {model: ./base, parameters: {weight: {search: [0.1, 1]}}}
    - {model: ./first, parameters: {weight: {search: [0, 1]}}}
layer_path: {block: [{search: [0, 2]}, {search: [1, 3]}]}
objectives: [{suite: smoke, benchmarks: [bbh], limit: 12, confirm_limit: 16}]
fidelity: {anchors: 4, subset: 0.5, keep: 0.6}
stop: {error_rate: 0.25, smallest_share: 0.2, slice: 0.2}
budget: {evaluations: 8}
sampler: random
engine: {kind: transformers, dtype: float32}
confirm: {keep: 2}
"""


@pytest.mark.slow
def test_steps_stops_and_a_block_in_a_real_engine(tmp_path: Path) -> None:
    for seed, name in enumerate(("base", "first")):
        tiny_checkpoint(tmp_path / name, layers=3, hidden=32, seed=seed, dtype="float32")
    (tmp_path / "search.yaml").write_text(SEARCH)
    settings = settings_at(tmp_path / "home")
    file = load_search(tmp_path / "search.yaml")
    view = run_merge_search(file, settings, silently, ground_here(settings))
    states = [trial.state for trial in view.trials]
    assert set(states) <= {TrialState.COMPLETE, TrialState.STOPPED}, [t.message for t in view.trials]
    assert states.count(TrialState.COMPLETE) >= 2
    with Store.open(settings.database_url) as store:
        jobs = [i.job for i in store.run_jobs(view.report.run_id) if i.job.kind == "eval"]
        outcomes = store.outcomes([job.digest for job in jobs])
    assert len(outcomes) == len(jobs)
    assert {job.settings.limit for job in jobs} == {4, 6, 12}
    decided = [job for job in jobs if job.decide is not None]
    assert decided
    for job in decided:
        outcome = outcomes[job.digest]
        assert isinstance(outcome, EarlyOutcome) or (isinstance(outcome, EvalOutcome) and outcome.sequence)
    steps = [trial.steps for trial in view.trials]
    assert all(0 < value[0] < 1 for each in steps for value in each[:1]), "likelihoods"
    assert len({each[0] for each in steps}) == len({t.recipe_digest for t in view.trials})
    again = run_merge_search(file, settings, silently, ground_here(settings))
    assert again == view
    print([(t.state.value, t.steps, t.objectives, t.message) for t in view.trials])
