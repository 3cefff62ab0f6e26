"""Outcomes that cannot be those of their job."""

from __future__ import annotations

import pytest

from evals.engine import EngineSpec
from evals.execution import AUTO_ATTENTION
from orchestrator.store.records import EvalOutcome
from tests.support.store_data import eval_job, eval_outcome

JOB = eval_job()


def planned_and_measured(planned: dict[str, object], measured: dict[str, object]) -> str | None:
    """What an outcome measured with one engine says about a job that was planned for another."""
    job = JOB.model_copy(update={"engine": JOB.engine.model_copy(update=planned)})
    return with_engine(eval_outcome(job), job.engine.model_copy(update=measured)).contradiction(job)


def with_engine(outcome: EvalOutcome, engine: EngineSpec) -> EvalOutcome:
    return outcome.model_copy(update={"evaluation": outcome.evaluation.model_copy(update={"engine": engine})})


@pytest.mark.parametrize("chosen", ["sdpa", "FLASH_ATTN", "TORCH_SDPA", AUTO_ATTENTION])
def test_where_the_plan_leaves_the_attention_backend_open_the_engine_chooses_it(chosen: str) -> None:
    """Every job of the transformers engine was refused: `auto` planned, `sdpa` reported."""
    assert planned_and_measured({"attention_backend": AUTO_ATTENTION}, {"attention_backend": chosen}) is None


@pytest.mark.parametrize("planned", ["FLASH_ATTN", None])
def test_a_backend_that_was_planned_is_not_exchanged(planned: str | None) -> None:
    said = planned_and_measured({"attention_backend": planned}, {"attention_backend": "TRITON_ATTN"})
    assert said == "The result was measured with another engine than the job asks for."


@pytest.mark.parametrize("field", [{"version": "0"}, {"dtype": "float16"}, {"batch_invariant": True}])
def test_an_open_backend_opens_nothing_else(field: dict[str, object]) -> None:
    said = planned_and_measured({"attention_backend": AUTO_ATTENTION}, {"attention_backend": "sdpa", **field})
    assert said == "The result was measured with another engine than the job asks for."


def test_other_settings_and_scores_that_are_no_numbers() -> None:
    other = JOB.model_copy(update={"settings": JOB.settings.model_copy(update={"limit": 3})})
    assert eval_outcome(other).contradiction(JOB) == (
        "The result was measured with another settings than the job asks for."
    )
    assert "not a number" in str(eval_outcome(JOB, value=float("nan")).contradiction(JOB))
