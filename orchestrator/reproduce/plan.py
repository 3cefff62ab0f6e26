"""What it takes to check a card: the sweep that measures what it claims, its jobs, hours and disk."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from evals.claims.arithmetic import RecipeSize
from evals.claims.facts import Fact
from evals.claims.records import CardCheck, Claim
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
    """How a card is checked."""

    sources: dict[str, str] = Field(default_factory=dict, description="What names in the card stand for.")
    engine: str = Field(default="vllm", description="Kind of engine.")
    dtype: str = Field(default="bfloat16", description="Precision of the engine.")
    chat_template: str = Field(default="auto", description="on, off, or auto.")
    limit: int | None = Field(default=None, description="Only the first documents of each subset.")


class ReproductionPlan(Frozen):
    """A card looked through, and what checking it takes."""

    card_id: str = Field(description="Id of the card in the store.")
    card: CardPlan = Field(description="The card: claims, recipes, checks.")
    target: Target = Field(description="What is measured.")
    plan: Plan | None = Field(description="The run; null where it cannot be planned here.")
    cost: PlanCost | None = Field(description="What the run takes; null where it cannot be planned here.")
    sentence: str = Field(description="What it takes, in one sentence.")
    checks: tuple[CardCheck, ...] = Field(
        description="The card's arithmetic and sizes against what is measured."
    )
    problems: tuple[str, ...] = Field(description="Why it cannot run here, one sentence each.")
    notes: tuple[str, ...] = Field(description="What to know, one sentence each.")


def plan_reproduction(
    path: Path, settings: Settings, options: Options, *, dry: bool, cluster: ClusterFacts | None = None
) -> ReproductionPlan:
    """Everything that can be known before anything runs; `dry` leaves no file behind."""
    card = plan_card(path, settings, options.sources)
    record = card_record(path, card)
    target = find_target(path, card.card, record.text, options.sources)
    plan, problems = None, list(target.problems)
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
        checks=card_checks(card.card, size) if size is not None else card.checks,
        problems=tuple(problems),
        notes=(*card.notes, *target.notes, *_hints(card.claims, plan)),
    )


def wanted_benchmarks(claims: Sequence[Claim]) -> dict[str, list[str]]:
    """The benchmarks of each suite that the claims name, in the suite's order; all where only its average is claimed."""
    wanted: dict[str, list[str]] = {}
    for claim in claims:
        wanted.setdefault(claim.suite, []).extend([claim.benchmark] if claim.benchmark else [])
    return {
        suite: [b.name for b in load_suite(suite).benchmarks if not names or b.name in names]
        for suite, names in wanted.items()
    }


def _sweep(card: CardPlan, target: Target, recipe: Path | None, options: Options) -> dict[str, Any]:
    """The sweep that measures what is claimed: the recipe without its base, or the checkpoint itself."""
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
    """The recipe as a file that the run's sweep names; kept in the home, so that the run can be resumed."""
    if target.recipe is None:
        yield None
        return
    with tempfile.TemporaryDirectory() if dry else contextlib.nullcontext() as passing:
        folder = Path(passing) if passing else settings.home / "cards" / card_id
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "recipe.yaml"
        file.write_text(target.recipe, encoding="utf-8")
        yield file


def _done(plan: Plan, settings: Settings) -> frozenset[str]:
    """Jobs whose outcome is in the store already; a store that is not there has none."""
    try:
        with Store.open(settings.database_url, create=False, read_only=True) as store:
            return store.done(plan.jobs)
    except MergeboardError:
        return frozenset()


def _size(plan: Plan | None, target: Target) -> RecipeSize | None:
    """Layers and parameters of what is measured, where the plan knows them."""
    found = next((c for c in plan.candidates if c.name == target.name), None) if plan is not None else None
    if found is None or plan is None or found.layers is None or found.parameters is None:
        return None
    base = plan.candidates[0]
    added = found.layers - (base.layers or 0)
    more = found.parameters - (base.parameters or 0)
    return RecipeSize(
        name="The recipe" if target.recipe else (target.base or target.name),
        layers=found.layers,
        parameters=found.parameters,
        parameters_per_layer=more // added if added and more > 0 and more % added == 0 else found.parameters,
    )


def _exact(card: CardPlan, cost: PlanCost, target: Target) -> str:
    """What is left to do, with the disk that a build of the recipe takes where the plan does not know it."""
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
    """What the claims would take on a GPU, from the recipe's size alone."""
    last = next((r.preflight for r in reversed(card.recipes) if r.preflight and r.preflight.stages), None)
    wanted = wanted_benchmarks(card.claims)
    n_jobs = sum(map(len, wanted.values())) + (last is not None)
    if last is None or last.stages[-1].parameters is None:
        return f"{n_jobs} jobs; their time and disk are unknown, since nothing is known of the weights."
    seconds = sum(
        work_s(Workload(s, b, options.limit, last.stages[-1].parameters, EngineKind.VLLM), on_gpu=True)
        for s, names in wanted.items()
        for b in names
    )
    disk = size(last.disk_bytes) if last.disk_bytes is not None else "an unknown amount"
    load = f", {size(last.download_bytes)} to download" if last.download_bytes else ""
    return f"{n_jobs} jobs: about {hours(seconds)} GPU-hours (a rough model, not measured), {disk} of disk{load}."


def _hints(claims: Sequence[Claim], plan: Plan | None) -> Iterator[str]:
    """Where every claim was made in another way than the run, and the option that makes them alike."""
    if plan is None or not plan.evals:
        return
    job = plan.evals[0].job
    for fact, ours, option in (
        (Fact.TEMPLATE, job.settings.chat_template.value, "--chat-template"),
        (Fact.DTYPE, job.engine.dtype, "--dtype"),
    ):
        stated = {claim.facts.get(fact) for claim in claims}
        theirs = stated.pop() if len(stated) == 1 else None
        if theirs is not None and theirs != ours:
            yield f"Every claim was made with {fact} {theirs}, this run with {ours}: `{option} {theirs}` makes them alike."
