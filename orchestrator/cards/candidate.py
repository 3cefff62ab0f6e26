"""Write a candidate's stored scores, or an imported run's, in the forms that a model card takes."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from pydantic import Field

from evals.claims.facts import Fact, Facts, facts_of
from evals.engine import Frozen
from evals.normalize import suite_score
from evals.rounding import points_text, rounded
from evals.scores import SuiteScore
from evals.suite import Suite, load_suite, suite_names
from orchestrator.cards.hub_results import HubValue, hub_yaml
from orchestrator.cards.marked import marked_index
from orchestrator.cards.splice import EVAL_RESULTS, MODEL_INDEX, CardText
from orchestrator.cards.write import (
    circumstances,
    eval_results_yaml,
    improvement_table,
    markdown_table,
    model_index,
    model_index_yaml,
    padded_table,
)
from orchestrator.compare.run_comparisons import CandidateResult, weights_quantization
from orchestrator.errors import CardError
from orchestrator.store.claim_records import ImportedResultRecord, ImportedRunRecord


class CardRequest(Frozen):
    """The options of `mergeboard card`: whose scores to write, of which suite."""

    result: CandidateResult = Field(description="The candidate's scores.")
    base: CandidateResult | None = Field(
        description="The scores of its run's base with the same engine; null if there are none."
    )
    suite: str | None = Field(description="Name of the suite; null if the candidate has only one.")
    name: str = Field(description="Name of the model in the card.")


class ImportedCardRequest(Frozen):
    """The options of `mergeboard card` for an imported run."""

    run: ImportedRunRecord = Field(description="The imported run.")
    results: tuple[ImportedResultRecord, ...] = Field(description="Its benchmarks.")
    suite: str | None = Field(description="Name of the suite; null if the run has only one.")
    name: str = Field(description="Name of the model in the card.")


def written(request: CardRequest | ImportedCardRequest, form: str) -> str:
    """The text in one of the forms `table`, `eval-results`, `improvement` and `model-index`."""
    return rendered(request, form).text


def rendered(request: CardRequest | ImportedCardRequest, form: str) -> CardText:
    """The text in one of the forms, with what is left out and, for `model-index`, the metadata itself."""
    if isinstance(request, ImportedCardRequest):
        return _written_import(request, form)
    suite = _chosen(request.result.candidate.name, request.suite, request.result.suites)
    score = request.result.suite_score(load_suite(suite))
    ended = {j.benchmark: o.ended_at for j, o in request.result.evaluated if j.suite == suite}
    if form == "improvement":
        if request.base is None:
            raise CardError(f"{request.name} has no base in its run; an improvement table needs one.")
        loaded = load_suite(suite)
        table = improvement_table(loaded, score, request.base.suite_score(loaded), request.name)
        return CardText(form=form, text=table)
    facts = _facts(request.result, suite)
    return _of_suite(load_suite(suite), score, facts, (ended, request.name, "mergeboard"), form)


def _chosen(name: str, wanted: str | None, available: Sequence[str]) -> str:
    """The requested suite, or the only one. Raises CardError if there are none or several."""
    if wanted is None and len(available) != 1:
        raise CardError(
            f"{name} has scores of {', '.join(available) or 'no suite'}; choose one with --suite."
        )
    chosen = wanted or available[0]
    if chosen not in available:
        raise CardError(f"{name} has no scores of {chosen}; it has {', '.join(available)}.")
    return chosen


def _of_suite(
    suite: Suite,
    score: SuiteScore,
    facts: Facts,
    measured: tuple[Mapping[str, datetime.datetime], str, str],
    form: str,
) -> CardText:
    ended, name, tool = measured
    if form == "table":
        return CardText(form=form, text=markdown_table(suite, score, facts, tool))
    if form == EVAL_RESULTS:
        text, refused = eval_results_yaml(suite, score, facts, ended)
        return CardText(form=form, text=text, refused=refused)
    index = marked_index(suite, score, name) if suite.smoke else model_index(suite, score, name)
    # Scores of smoke data are shown, but go into no file.
    return CardText(form=form, text=model_index_yaml(index), index=None if suite.smoke else index)


def _facts(result: CandidateResult, suite: str) -> Facts:
    """Facts about how the suite's scores were measured."""
    job, outcome = next((j, o) for j, o in result.evaluated if j.suite == suite)
    origin = weights_quantization(job, result.candidate)
    return facts_of(outcome.evaluation).plus({Fact.QUANTIZATION: origin})


def _written_import(request: ImportedCardRequest, form: str) -> CardText:
    if form == "improvement":
        raise CardError(
            f"{request.name} is an imported run without a base of its own; `mergeboard compare {request.run.id} --base "
            "BASE` shows its differences."
        )
    primary = [r for r in request.results if r.primary and not r.unfit]
    name = _chosen(request.name, request.suite, tuple(dict.fromkeys(r.suite for r in primary)))
    results = [r for r in primary if r.suite == name]
    facts = results[0].measurement.facts
    if name in suite_names():
        suite = load_suite(name)
        score = suite_score(suite, [r.measurement.result for r in results])
        ended = dict.fromkeys((r.benchmark for r in results), request.run.measured_at)
        dated = {benchmark: moment for benchmark, moment in ended.items() if moment is not None}
        return _of_suite(suite, score, facts, (dated, request.name, _tool(facts)), form)
    _require_whole(results)
    if form == "table":
        return CardText(form=form, text=_task_table(results, facts))
    if form == EVAL_RESULTS:
        text, refused = hub_yaml([_hub_value(request.run, r) for r in results])
        return CardText(form=form, text=text, refused=refused)
    index = _task_index(results, request.name)
    return CardText(form=form, text=model_index_yaml(index), index=index)


def _require_whole(results: Sequence[ImportedResultRecord]) -> None:
    """Raise CardError for partial scores and for those with an alarm, as for a suite's."""
    for score in (r.measurement.result for r in results):
        if score.partial:
            raise CardError(
                f"{score.title} is partial ({score.n} documents); a card takes whole evaluations."
            )
        if score.alarms:
            alarm = score.alarms[0]
            raise CardError(
                f"{score.title} raised an alarm ({alarm.share:.0%} of its responses are {alarm.kind}); look at its samples "
                "before it goes in a card."
            )


def _hub_value(run: ImportedRunRecord, result: ImportedResultRecord) -> HubValue:
    if result.definition is None:
        raise CardError(f"{result.benchmark} has no definition; import its file again.")
    facts = result.measurement.facts
    return HubValue(
        result=result.measurement.result,
        definition=result.definition,
        facts=facts,
        of_suite=False,
        measured_at=run.measured_at,
        notes=tuple(circumstances(facts)),
    )


def _task_index(results: Sequence[ImportedResultRecord], name: str) -> list[dict[str, Any]]:
    """A model-index of tasks that no suite has: the raw score in per cent, under the task's and metric's own names."""
    entries = [
        EvalResult(
            task_type="text-generation",
            task_name="Text Generation",
            dataset_type=_dataset_type(result),
            dataset_name=_task_label(result),
            dataset_config=result.benchmark,
            dataset_args={"num_few_shot": int(shots)} if (shots := _shots(result)) is not None else None,
            metric_type=score.metric.partition(",")[0],
            metric_name=score.metric,
            metric_value=rounded(_value(result)),
        )
        for result, score in ((r, r.measurement.result) for r in results)
    ]
    index: list[dict[str, Any]] = ModelCardData(model_name=name, eval_results=entries).to_dict()[MODEL_INDEX]
    return index


def _task_table(results: Sequence[ImportedResultRecord], facts: Facts) -> str:
    rows = [(_task_label(r), r.measurement.result.metric, points_text(_value(r))) for r in results]
    table = padded_table(("Task", "Metric", "Value"), rows, right=(2,))
    below = f"Measured with {_tool(facts)}: {'; '.join(circumstances(facts)) or 'no circumstances stated'}."
    return "\n".join([*table, "", below]) + "\n"


def _value(result: ImportedResultRecord) -> float:
    """The raw score in per cent; of a metric without bounds, as perplexity, the value itself."""
    score = result.measurement.result
    lower = result.definition is not None and result.definition.lower_is_better
    return score.raw if lower or abs(score.raw) > 1 else 100 * score.raw


def _tool(facts: Facts) -> str:
    return f"{facts.get(Fact.HARNESS) or 'another tool'}, read with mergeboard"


def _shots(result: ImportedResultRecord) -> str | None:
    shots = result.measurement.facts.get(Fact.SHOTS)
    return shots if shots is not None and shots.isdigit() else None


def _task_label(result: ImportedResultRecord) -> str:
    shots = _shots(result)
    return f"{result.benchmark} ({shots}-shot)" if shots is not None else result.benchmark


def _dataset_type(result: ImportedResultRecord) -> str:
    path = result.definition.dataset.path.partition(" (")[0] if result.definition is not None else "unknown"
    return path if path != "unknown" else result.benchmark
