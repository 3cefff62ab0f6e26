"""Plan the reproduction of a card: the sweep that measures its claims, with jobs, time and disk."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from evals.claims.arithmetic import RecipeSize
from evals.claims.facts import Fact
from evals.claims.records import CardCheck, CheckKind, Claim
from evals.engine import EngineKind, Frozen
from evals.errors import EvaluationError
from evals.suite import load_suite
from orchestrator.cards import card_checks
from orchestrator.cards.survey import CardPlan, plan_card
from orchestrator.display.format import hours, size
from orchestrator.errors import MergeboardError
from orchestrator.exchange.imports import card_record
from orchestrator.plan.capacity import ClusterFacts
from orchestrator.plan.durations import Workload, work_s
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import sweep_of_values
from orchestrator.reproduce.target import Target, find_target
from orchestrator.run.cost import PlanCost, plan_cost
from orchestrator.run.run import plan_for
from orchestrator.settings import Settings
from orchestrator.store import Store
from recipes.errors import RecipeError

_OPTIONS = {
    "name": "CARD.md",
    "base": "CARD.md",
    "recipes": "CARD.md",
    "suites": "CARD.md",
    "engines": "--engine",
    "engines.0.dtype": "--dtype",
    "chat_template": "--chat-template",
}


class Options(Frozen):
    """Options of `mergeboard reproduce`."""

    sources: dict[str, str] = Field(default_factory=dict, description="Checkpoints by names in the card.")
    engine: str = Field(default="vllm", description="Kind of engine.")
    dtype: str = Field(default="bfloat16", description="Dtype of the engine.")
    chat_template: str = Field(default="auto", description="on, off, or auto.")
    limit: int | None = Field(default=None, description="Number of documents per subset; null is all.")


class ReproductionPlan(Frozen):
    """A card with the plan of its reproduction."""

    card_id: str = Field(description="Id of the card in the store.")
    card: CardPlan = Field(description="Claims, recipes and checks of the card.")
    target: Target = Field(description="What is measured.")
    plan: Plan | None = Field(description="Plan of the run; null if it cannot be planned here.")
    cost: PlanCost | None = Field(description="Cost of the run; null if it cannot be planned here.")
    sentence: str = Field(description="The cost in one sentence.")
    checks: tuple[CardCheck, ...] = Field(
        description="Checks of the card's arithmetic and of its sizes against the target."
    )
    problems: tuple[str, ...] = Field(description="Why it cannot run here, one sentence each.")
    notes: tuple[str, ...] = Field(description="Remarks, one sentence each.")


def plan_reproduction(
    path: Path, settings: Settings, options: Options, *, dry: bool, cluster: ClusterFacts | None = None
) -> ReproductionPlan:
    """Plan a reproduction without running anything; with `dry`, no file is kept."""
    card = plan_card(path, settings, options.sources)
    record = card_record(path, card)
    target = find_target(path, card.card, record.text, options.sources)
    plan, problems = None, list(target.problems)
    if card.claims and not wanted_benchmarks(card.claims):
        problems.append("no suite of ours has a benchmark that this card names")
    if not problems:
        try:
            with _recipe_file(target, record.id, settings, dry=dry) as recipe:
                file = sweep_of_values(
                    _sweep(card, target, recipe, options), origin="mergeboard reproduce", options=_OPTIONS
                )
                plan = make_plan(file, settings) if cluster is None else plan_for(file, settings, cluster)
        except (MergeboardError, RecipeError, EvaluationError) as error:
            problems.append(str(error))
    cost = plan_cost(plan, _done(plan, settings), settings) if plan is not None else None
    size = _size(plan, target)
    return ReproductionPlan(
        card_id=record.id,
        card=card,
        target=target,
        plan=plan,
        cost=cost,
        sentence=_exact(card, cost, target) if cost is not None else _rough(card, options),
        checks=_checks(card, size),
        problems=tuple(problems),
        notes=(*card.notes, *target.notes, *_hints(card.claims, plan)),
    )


def wanted_benchmarks(claims: Sequence[Claim]) -> dict[str, list[str]]:
    """Claimed benchmarks by suite, in the suite's order; all of a suite if only its average is claimed."""
    claimed: dict[str, list[str]] = {}
    for claim in claims:
        if claim.suite is None:
            continue
        claimed.setdefault(claim.suite, []).extend([claim.benchmark] if claim.benchmark else [])
    return {
        suite: [b.name for b in load_suite(suite).benchmarks if not names or b.name in names]
        for suite, names in claimed.items()
    }


def _sweep(card: CardPlan, target: Target, recipe: Path | None, options: Options) -> dict[str, Any]:
    """The sweep that measures the claims: the recipe without its base, or the checkpoint itself."""
    limit = {"limit": options.limit} if options.limit else {}
    return {
        "name": f"reproduce {card.card.name or card.card.source}"[:120],
        "base": target.base,
        "recipes": [{"name": target.name, "file": str(recipe)}] if recipe else [],
        "score_base": recipe is None,
        "suites": [
            {"suite": suite, "benchmarks": names, **limit}
            for suite, names in wanted_benchmarks(card.claims).items()
        ],
        "engines": [{"kind": options.engine, "dtype": options.dtype}],
        "chat_template": options.chat_template,
    }


@contextlib.contextmanager
def _recipe_file(target: Target, card_id: str, settings: Settings, *, dry: bool) -> Iterator[Path | None]:
    """Write the recipe to a file for the sweep; it is kept in the home folder so that the run can resume."""
    if target.recipe is None:
        yield None
        return
    with tempfile.TemporaryDirectory() if dry else contextlib.nullcontext() as temporary:
        folder = Path(temporary) if temporary else settings.home / "cards" / card_id
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "recipe.yaml"
        file.write_text(target.recipe, encoding="utf-8")
        yield file


def _done(plan: Plan, settings: Settings) -> frozenset[str]:
    """Digests of jobs with a stored outcome; empty if there is no store."""
    try:
        with Store.open(settings.database_url, create=False, read_only=True) as store:
            return store.done(plan.jobs)
    except MergeboardError:
        return frozenset()


def _size(plan: Plan | None, target: Target) -> RecipeSize | None:
    """Layers and parameters of the target; None if the plan does not know them."""
    candidate = (
        next((c for c in plan.candidates if c.name == target.name), None) if plan is not None else None
    )
    if candidate is None or plan is None or candidate.layers is None or candidate.parameters is None:
        return None
    base = plan.candidates[0]
    added = candidate.layers - (base.layers or 0)
    extra = candidate.parameters - (base.parameters or 0)
    return RecipeSize(
        name="The recipe" if target.recipe else (target.base or target.name),
        layers=candidate.layers,
        parameters=candidate.parameters,
        parameters_per_layer=extra // added
        if added and extra > 0 and extra % added == 0
        else candidate.parameters,
    )


def _checks(card: CardPlan, size: RecipeSize | None) -> tuple[CardCheck, ...]:
    """The card's checks, with those of its sizes against the target if that is known."""
    if size is None:
        return card.checks
    of_recipes = (check for check in card.checks if check.kind is CheckKind.RECIPE)
    return (*card_checks(card.card, size), *of_recipes)


def _exact(card: CardPlan, cost: PlanCost, target: Target) -> str:
    """The plan's cost, with the disk for a build from the recipe's preflight if the plan does not know it."""
    last = next((r.preflight for r in reversed(card.recipes) if r.preflight is not None), None)
    if (
        target.recipe is None
        or cost.build_bytes
        or cost.jobs_left == 0
        or last is None
        or not last.disk_bytes
    ):
        return cost.sentence
    return f"{cost.sentence} A build takes {size(last.disk_bytes)} of disk at its peak."


def _rough(card: CardPlan, options: Options) -> str:
    """Rough cost of the claims on a GPU, from the recipe's size alone."""
    last = next((r.preflight for r in reversed(card.recipes) if r.preflight and r.preflight.stages), None)
    claimed = wanted_benchmarks(card.claims)
    n_jobs = sum(map(len, claimed.values())) + (last is not None)
    if last is None or last.stages[-1].parameters is None:
        return f"{n_jobs} jobs; their time and disk are unknown, since nothing is known of the weights."
    seconds = sum(
        work_s(Workload(s, b, options.limit, last.stages[-1].parameters, EngineKind.VLLM), on_gpu=True)
        for s, names in claimed.items()
        for b in names
    )
    disk = size(last.disk_bytes) if last.disk_bytes is not None else "an unknown amount"
    load = f", {size(last.download_bytes)} to download" if last.download_bytes else ""
    return f"{n_jobs} jobs: about {hours(seconds)} GPU-hours (a rough model, not measured), {disk} of disk{load}."


def _hints(claims: Sequence[Claim], plan: Plan | None) -> Iterator[str]:
    """Conditions in which all claims differ from the run, each with the option that matches them."""
    if plan is None or not plan.evals:
        return
    job = plan.evals[0].job
    for fact, planned, option in (
        (Fact.TEMPLATE, job.settings.chat_template.value, "--chat-template"),
        (Fact.DTYPE, job.engine.dtype, "--dtype"),
    ):
        stated = {claim.facts.get(fact) for claim in claims}
        claimed = stated.pop() if len(stated) == 1 else None
        if claimed is not None and claimed != planned:
            yield f"Every claim was made with {fact} {claimed}, this run with {planned}: `{option} {claimed}` makes them alike."
