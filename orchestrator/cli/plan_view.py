"""What `plan` prints of a sweep, a recipe or a card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evals.engine import EngineSpec
from orchestrator.cli.console import wide_console
from orchestrator.cli.decided_view import rule_lines
from orchestrator.cli.ending import Ended, ExitCode, error_key
from orchestrator.cli.inputs import CARD_SUFFIXES, unknown_recipe
from orchestrator.cli.preflight_view import show_preflight
from orchestrator.cli.race_view import race_lines
from orchestrator.display.format import parameters as parameters_text
from orchestrator.errors import StoreMissing, SweepError
from orchestrator.plan.candidate import Candidate
from orchestrator.plan.candidate_race import race_rule
from orchestrator.plan.decide import Evidence
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import load_sweep
from orchestrator.run.build import parse_source, read_recipe
from orchestrator.run.cost import PlanCost, expected_durations, plan_cost
from orchestrator.run.evidence import evidence_of
from orchestrator.settings import Settings
from orchestrator.store import Store
from recipes.artifact import ArtifactStore
from recipes.catalog import catalog_names
from recipes.errors import RecipeError
from recipes.outside_file import read_file
from recipes.preflight import Preflight, preflight
from recipes.yaml_text import MAX_BYTES, load_yaml_documents

_MOST_CANDIDATES = 60


def show_plan(
    file: Path,
    settings: Settings,
    *,
    sources: list[str],
    as_json: bool,
    address: str | None = None,
    digests: bool = False,
) -> None:
    """Tell a sweep, a recipe and a card apart by what is in the file, and show what it would take."""
    console = wide_console()
    if file.suffix.lower() in CARD_SUFFIXES:
        from orchestrator.cli.card_view import show_card_plan

        show_card_plan(file, settings, sources=sources, as_json=as_json)
    elif file.is_file() and _is_sweep(file):
        _show_sweep(file, settings, console, as_json, address, digests)
    else:
        if not file.exists() and str(file) not in catalog_names():
            raise SweepError(unknown_recipe(str(file)))
        recipe = read_recipe(str(file), None).with_sources(dict(parse_source(text) for text in sources))
        report = preflight(recipe, home=settings.home, folder=file.parent)
        refusal = _refusal(file, report)
        if as_json:
            error = error_key(refusal, ExitCode.REFUSED)
            print(json.dumps(report.model_dump(mode="json") | error, indent=2))
        else:
            show_preflight(report, console)
        if refusal is not None:
            raise Ended(refusal, ExitCode.REFUSED, told=as_json)


def _refusal(file: Path, report: Preflight) -> str | None:
    """Why a recipe cannot be built, as one sentence; None if it can."""
    if not report.problems:
        return None
    more = len(report.problems) - 1
    others = f" ({more} more problem{'s' if more > 1 else ''} above)" if more else ""
    return f"{file} cannot be built: {report.problems[0].rstrip('.')}{others}."


def _is_sweep(file: Path) -> bool:
    """A mapping with the fields that only a sweep has; what does not parse is left to the reader of recipes."""
    try:
        documents = load_yaml_documents(read_file(file, MAX_BYTES), str(file))
    except OSError as error:
        raise SweepError(
            f"{file} cannot be read ({error.strerror}); give a sweep, a recipe or a card."
        ) from error
    except RecipeError as error:
        raise SweepError(str(error)) from error
    data = documents[0].data if documents else None
    return isinstance(data, dict) and ("suites" in data or "base" in data) and "layer_path" not in data


def _show_sweep(
    file: Path, settings: Settings, console: Console, as_json: bool, address: str | None, digests: bool
) -> None:
    plan = _plan(file, settings, address)
    done = _done(plan, settings)
    cost = plan_cost(plan, done, settings)
    if as_json:
        print(json.dumps(_sweep_data(plan, done, cost), indent=2))
        return
    show_tables(plan, settings, console, digests=digests)
    show_notes(plan, console)
    for sentence in (*rule_lines(plan, _evidence(plan, settings)), *race_lines(plan)):
        console.print(sentence, soft_wrap=True, markup=False)
    console.print(_starts_line(plan), soft_wrap=True)
    console.print(cost.sentence, soft_wrap=True)


def _starts_line(plan: Plan) -> str:
    """How many engines the plan's evaluations start, if each is started once."""
    starts = plan.engine_starts
    return f"{len(plan.evals):,} evaluations on {starts:,} engine start{'s' if starts != 1 else ''}."


def _evidence(plan: Plan, settings: Settings) -> list[Evidence]:
    """The order of the benchmarks that may be decided early, from the durations and comparisons of the store."""
    durations = expected_durations(plan, settings)
    try:
        with Store.open(settings.database_url, create=False, read_only=True) as store:
            return evidence_of(plan, store, durations)
    except StoreMissing:
        return evidence_of(plan, None, durations)


def show_tables(plan: Plan, settings: Settings, console: Console, *, digests: bool) -> None:
    """Candidates and jobs of a plan; with their digests, where asked for."""
    console.print(_candidate_table(plan, settings, digests))
    console.print()
    console.print(_job_table(plan, _done(plan, settings), digests))


def show_notes(plan: Plan, console: Console) -> None:
    """What is not run here, and what to know of the plan and its candidates."""
    lines = [f"Not run here: {m.suite} {m.benchmark}: {m.reason}" for m in plan.missing]
    if plan.missing:
        lines.append(
            "Fetch missing data with `mergeboard data get`, which takes the sweep file, a suite or a card."
        )
    lines += [f"Note: {note}" for note in plan.notes]
    lines += [f"{c.name}: {remark}" for c in plan.candidates for remark in c.remarks]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


def _plan(file: Path, settings: Settings, address: str | None) -> Plan:
    """The plan for this machine, or for the cluster as it is now."""
    sweep = load_sweep(file)
    if not (address or settings.ray_address):
        return make_plan(sweep, settings)
    from orchestrator.cluster import Growth, disconnect
    from orchestrator.run.run import cluster_for, gpus_of, plan_for, to_stderr

    try:
        cluster = cluster_for(settings, address, gpus=0)
        if not cluster.has_gpus and Growth().may_come(gpus_of(sweep.sweep)):
            to_stderr(
                "The cluster has no GPU now and an autoscaler, which `mergeboard run` asks for one: this plan is for the nodes that "
                "are there, and a run on GPUs has other jobs."
            )
        return plan_for(sweep, settings, cluster)
    finally:
        disconnect()


def _done(plan: Plan, settings: Settings) -> frozenset[str]:
    """Jobs whose outcome is in the store already; a store that is not there has none."""
    try:
        with Store.open(settings.database_url, create=False, read_only=True) as store:
            return store.done(plan.jobs)
    except StoreMissing:
        return frozenset()


def _candidate_table(plan: Plan, settings: Settings, digests: bool) -> Table:
    artifacts = ArtifactStore(settings.artifacts)
    columns = ["candidate", "layers", "parameters", "how", *(["weights"] if digests else [])]
    table = _table(
        f"{plan.sweep.name}: {len(plan.candidates)} candidates", columns, right=("layers", "parameters")
    )
    for candidate in plan.candidates[:_MOST_CANDIDATES]:
        how = _how(candidate, artifacts)
        parameters = parameters_text(candidate.parameters)
        layers = str(candidate.layers) if candidate.layers else "unknown"
        table.add_row(
            candidate.name, layers, parameters, how, *([candidate.weights_digest] if digests else [])
        )
    if len(plan.candidates) > _MOST_CANDIDATES:
        table.add_row(f"... and {len(plan.candidates) - _MOST_CANDIDATES} more")
    return table


def _how(candidate: Candidate, artifacts: ArtifactStore) -> str:
    """How an engine comes to hold a candidate."""
    shares = candidate.layer_path is not None and candidate.live_merge is not None
    if candidate.build is not None:
        how = "built already" if artifacts.lookup(candidate.build.digest) else "build"
        return f"{how}, shared engine" if shares else how
    if shares:
        return "shared engine"
    if candidate.live_merge is not None:
        return "live merge"
    return "live layer path" if candidate.layer_path else "as it is"


def _job_table(plan: Plan, done: frozenset[str], digests: bool) -> Table:
    """Jobs by suite, benchmark and engine: how many, and how many are in the store."""
    columns = ["job", "engine", "number", "cached", *(["digests"] if digests else [])]
    table = _table(f"{len(plan.jobs)} jobs, {len(done)} in the store", columns, right=("number", "cached"))
    builds = [job.digest for job in plan.builds]
    groups: dict[tuple[str, str], list[str]] = {("build", "mergekit or bytes"): builds} if builds else {}
    for planned in plan.evals:
        job = planned.job
        key = (f"{job.suite} {job.benchmark}", engine_words(job.engine))
        groups.setdefault(key, []).append(job.digest)
    for (name, engine), jobs in groups.items():
        unique = list(dict.fromkeys(jobs))
        cached = sum(d in done for d in unique)
        table.add_row(name, engine, str(len(unique)), str(cached), *([", ".join(unique)] if digests else []))
    return table


def _table(title: str, columns: list[str], *, right: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def engine_words(engine: EngineSpec) -> str:
    """An engine as a table shows it: kind, dtype, and how it runs on what."""
    words = [engine.kind.value, engine.dtype]
    words += [value for value in (engine.execution, engine.device) if value is not None]
    if engine.batch_invariant:
        words.append("batch-invariant")
    return " ".join(words)


def _sweep_data(plan: Plan, done: frozenset[str], cost: PlanCost) -> dict[str, Any]:
    return {
        "candidates": [c.model_dump(mode="json", exclude={"build", "live_merge"}) for c in plan.candidates],
        "jobs": [
            {"digest": digest, "kind": job.kind, "cached": digest in done, "needs": list(job.needs)}
            for digest, job in plan.jobs.items()
        ],
        "engine_starts": plan.engine_starts,
        "notes": list(plan.notes),
        "may_stop_early": sum(planned.job.decide is not None for planned in plan.evals),
        "race": rule.model_dump(mode="json") if (rule := race_rule(plan)) is not None else None,
        "missing": [m.model_dump(mode="json") for m in plan.missing],
        "cost": cost.model_dump(mode="json"),
    }
