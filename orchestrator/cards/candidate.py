"""Write a candidate's stored scores in the forms that a model card takes."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from evals.claims.facts import Fact, Facts, facts_of
from evals.engine import Frozen
from evals.suite import Suite, load_suite
from orchestrator.cards import (
    eval_results_yaml,
    improvement_table,
    markdown_table,
    model_index,
    model_index_yaml,
    update_readme_file,
)
from orchestrator.cards.marked import marked_index
from orchestrator.compare.run_comparisons import CandidateResult, weights_quantization
from orchestrator.errors import CardError


class CardRequest(Frozen):
    """The options of `mergeboard card`: whose scores to write, of which suite."""

    result: CandidateResult = Field(description="The candidate's scores.")
    base: CandidateResult | None = Field(
        description="The scores of its run's base with the same engine; null if there are none."
    )
    suite: str | None = Field(description="Name of the suite; null if the candidate has only one.")
    name: str = Field(description="Name of the model in the card.")


def chosen_suite(request: CardRequest) -> Suite:
    """The requested suite, or the only one. Raises CardError if there are none or several."""
    names = request.result.suites
    if request.suite is None and len(names) != 1:
        raise CardError(
            f"{request.result.candidate.name} has scores of {', '.join(names) or 'no suite'}; choose one with --suite."
        )
    name = request.suite or names[0]
    if name not in names:
        raise CardError(
            f"{request.result.candidate.name} has no scores of {name}; it has {', '.join(names)}."
        )
    return load_suite(name)


def written(request: CardRequest, form: str) -> str:
    """The text in one of the forms `table`, `eval-results`, `improvement` and `model-index`."""
    suite = chosen_suite(request)
    score = request.result.suite_score(suite)
    facts = _facts(request.result, suite)
    if form == "table":
        return markdown_table(suite, score, facts)
    if form == "eval-results":
        ended = {j.benchmark: o.ended_at for j, o in request.result.evaluated if j.suite == suite.name}
        return eval_results_yaml(suite, score, facts, ended)
    if form == "improvement":
        if request.base is None:
            raise CardError(f"{request.name} has no base in its run; an improvement table needs one.")
        return improvement_table(suite, score, request.base.suite_score(suite), request.name)
    index = (
        marked_index(suite, score, request.name) if suite.smoke else model_index(suite, score, request.name)
    )
    return model_index_yaml(index)


def _facts(result: CandidateResult, suite: Suite) -> Facts:
    """Facts about how the suite's scores were measured."""
    job, outcome = next((j, o) for j, o in result.evaluated if j.suite == suite.name)
    origin = weights_quantization(job, result.candidate)
    return facts_of(outcome.evaluation).plus({Fact.QUANTIZATION: origin})


def update_file(path: Path, request: CardRequest) -> None:
    """Write the model-index into a README.md. Raises CardError for smoke, partial and alarmed scores."""
    suite = chosen_suite(request)
    update_readme_file(path, model_index(suite, request.result.suite_score(suite), request.name))
