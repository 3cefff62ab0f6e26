"""A stored candidate's scores as a card's text: each entry with the date on which its evaluation ended."""

from __future__ import annotations

from datetime import UTC, datetime

import yaml
from huggingface_hub import parse_eval_result_entries

from evals.suite import load_suite
from orchestrator.cards.candidate import CardRequest, written
from orchestrator.compare.run_comparisons import CandidateResult
from orchestrator.plan.job import EvalJob
from orchestrator.store.records import EvalOutcome
from tests.support.store_data import ENGINE, candidate, eval_job, eval_outcome

V2 = load_suite("leaderboard-v2")


def evaluated(name: str, ended_at: datetime) -> tuple[EvalJob, EvalOutcome]:
    """A whole evaluation of one benchmark that ended at this time."""
    job = eval_job(name).model_copy(update={"suite": V2.name})
    outcome = eval_outcome(job)
    result = outcome.evaluation.result.model_copy(
        update={"benchmark": name, "partial": False, "alarms": (), "remark": None}
    )
    evaluation = outcome.evaluation.model_copy(update={"result": result})
    return job, outcome.model_copy(update={"evaluation": evaluation, "ended_at": ended_at})


def test_eval_results_carry_the_date_of_measurement() -> None:
    ended = {
        "bbh": datetime(2026, 3, 1, 23, 59, 58, 999, UTC),
        "gpqa": datetime(2026, 3, 2, 4, 5, 6, tzinfo=UTC),
    }
    result = CandidateResult(
        run_id="r",
        candidate=candidate(1),
        engine=ENGINE,
        evaluated=tuple(evaluated(n, t) for n, t in ended.items()),
    )
    text = written(CardRequest(result=result, base=None, suite=None, name="x"), "eval-results")
    dates = {e.task_id: e.date for e in parse_eval_result_entries(yaml.safe_load(text))}
    assert dates == {"bbh": "2026-03-01T23:59:58Z", "gpqa": "2026-03-02T04:05:06Z"}
    assert "date: '2026-03-01T23:59:58Z'" in text, "quoted, so that it stays text"
