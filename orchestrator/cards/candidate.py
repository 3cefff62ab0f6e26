"""A candidate's stored scores as what a card takes: which suite, which form, and what may be written at all."""

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
    """What to write of whom."""

    result: CandidateResult = Field(description="The candidate with its scores.")
    base: CandidateResult | None = Field(
        description="The base of its run, where it was scored with the same engine."
    )
    suite: str | None = Field(description="The suite; null where the candidate has only one.")
    name: str = Field(description="Name of the model in the card.")


def chosen_suite(request: CardRequest) -> Suite:
    """The suite that is asked for, or the only one; CardError where that is not clear."""
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
    """The text in one of the four forms."""
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
    """What the scores of the suite were measured with."""
    job, outcome = next((j, o) for j, o in result.evaluated if j.suite == suite.name)
    origin = weights_quantization(job, result.candidate)
    return facts_of(outcome.evaluation).plus({Fact.QUANTIZATION: origin})


def update_file(path: Path, request: CardRequest) -> None:
    """Splice the model-index into a README.md; smoke, partial and alarmed scores are refused by the writer."""
    suite = chosen_suite(request)
    update_readme_file(path, model_index(suite, request.result.suite_score(suite), request.name))
