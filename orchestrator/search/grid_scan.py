"""Scan a grid of layer paths: search, ranking, confirmation. Search and confirmation are resumable runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from evals.layer_visits import VisitPath
from evals.probes import (
    Confirmation,
    Level,
    PathValues,
    Ranking,
    RankMethod,
    Scoring,
    confirm,
    get_probe,
    rank,
)
from evals.probes.race import Race
from evals.stats import Delta
from orchestrator.cluster import disconnect
from orchestrator.compare import Comparison
from orchestrator.compare.races import race_of_run
from orchestrator.compare.run_comparisons import results_of_run, run_comparisons
from orchestrator.errors import RunError
from orchestrator.plan.capacity import ClusterFacts
from orchestrator.plan.plan import Confirms, Plan
from orchestrator.plan.race import part_evals
from orchestrator.plan.sweep import SweepFile
from orchestrator.run.run import GrowingRun, cluster_for, execute, plan_for
from orchestrator.run.scheduler import Reporter, RunSummary
from orchestrator.search.probe_answers import ProbesOfRun, probes_of_run
from orchestrator.search.race import PathRace, first_plan, race_run_id, survivors_plan
from orchestrator.search.report import FailedPath, ScanReport
from orchestrator.search.request import ScanRequest
from orchestrator.settings import Settings
from orchestrator.store import Store
from recipes.layer_path import LayerPath

SCORING = Scoring.CORRECTED
Reporting = Callable[[str], AbstractContextManager[Reporter]]
"""Maps the description of a step to a reporter of its progress."""


@dataclass(frozen=True)
class Ground:
    """Functions that plan and run a scan's sweeps, and where they run."""

    plan: Callable[[SweepFile], Plan]
    run: Callable[[Plan, Reporter], RunSummary]
    grow: Callable[[Plan, Reporter, GrowingRun], RunSummary]
    """Runs a plan that further candidates join while it runs."""
    cluster: ClusterFacts


def run_scan(
    request: ScanRequest, settings: Settings, reporting: Reporting, *, address: str | None = None
) -> ScanReport:
    """Run what is not in the store yet and report the result."""
    request.check()
    try:
        return scan_with(request, settings, reporting, ground_of(settings, address))
    finally:
        disconnect()


def ground_of(settings: Settings, address: str | None) -> Ground:
    """Plan and run on the named cluster, or on this machine; the caller has to disconnect."""
    cluster = cluster_for(settings, address)

    def plan(file: SweepFile) -> Plan:
        return plan_for(file, settings, cluster)

    def run(planned: Plan, reporter: Reporter) -> RunSummary:
        return execute(planned, settings, reporter, address=address, cluster=cluster, stay=True)

    def grow(planned: Plan, reporter: Reporter, grows: GrowingRun) -> RunSummary:
        return execute(planned, settings, reporter, address=address, cluster=cluster, stay=True, grows=grows)

    return Ground(plan, run, grow, cluster)


def scan_with(request: ScanRequest, settings: Settings, reporting: Reporting, ground: Ground) -> ScanReport:
    """Run a scan with the given functions for planning and running."""
    started = time.monotonic()
    plan = ground.plan(request.search_sweep())
    search = _race if request.race is not None else _search
    asked = search(request, plan, settings, reporting, ground)
    searched, ranking = asked.searched, asked.ranking
    picked = [path.layers for path in ranking.paths[: request.top]]
    confirmation, confirm_id = None, None
    if picked:
        confirmation, confirm_id = _confirm(request, asked, picked, settings, reporting, ground)
    return ScanReport(
        request=request,
        run_id=asked.run_id,
        confirmation_run_id=confirm_id,
        n_layers=searched.n_layers,
        table=tuple(table_of(searched)),
        levels={get_probe(name).key: get_probe(name).levels() for name in _names(searched)},
        ranking=ranking,
        failed=asked.failed,
        confirmation=confirmation,
        race=asked.race,
        duration_s=time.monotonic() - started,
    )


@dataclass(frozen=True)
class _Searched:
    """What the search set showed."""

    run_id: str
    searched: ProbesOfRun
    """The paths that were asked all questions."""
    ranking: Ranking
    failed: tuple[FailedPath, ...]
    n_tried: int
    race: Race | None = None


def _search(
    request: ScanRequest, plan: Plan, settings: Settings, reporting: Reporting, ground: Ground
) -> _Searched:
    """Ask every path all questions."""
    with reporting(f"searching {len(plan.candidates) - 1:,} layer paths") as reporter:
        summary = ground.run(plan, reporter)
    with Store.open(settings.database_url, create=False) as store:
        searched = probes_of_run(store, plan, settings.home)
    require_base(searched, plan, summary)
    return _Searched(
        run_id=summary.run_id,
        searched=searched,
        ranking=rank(table_of(searched), request.probes, searched.n_layers, request.rank),
        failed=tuple(_failed(searched, _failures(plan, summary))),
        n_tried=len(searched.paths) - 1 + len(searched.lacking),
    )


def _race(
    request: ScanRequest, plan: Plan, settings: Settings, reporting: Reporting, ground: Ground
) -> _Searched:
    """Ask every path a part of the questions, and all of them those that can still be among the best."""
    rule = request.race
    assert rule is not None
    run_id = race_run_id(plan, rule)

    def begin(store: Store) -> PathRace:
        return PathRace(plan, rule, store, settings.home)

    with reporting(f"racing {len(plan.candidates) - 1:,} layer paths") as reporter:
        summary = ground.grow(first_plan(plan, rule), reporter, GrowingRun(run_id, begin))
    with Store.open(settings.database_url, create=False) as store:
        race = race_of_run(store, store.run(run_id), settings.home)
        asked = survivors_plan(plan, race.contenders if race is not None else ())
        searched = probes_of_run(store, asked, settings.home)
    require_base(searched, asked, summary)
    if race is None:
        raise RunError(f"No path was asked anything; `mergeboard status {run_id}` tells why.")
    lost = [layers for look in race.looks for layers in look.failed]
    failures = _failures(asked, summary)
    for look in range(len(race.looks)):
        parts = plan.model_copy(update={"evals": part_evals(plan, rule, look)})
        failures = {**_failures(parts, summary), **failures}
    searched = searched.model_copy(update={"lacking": (*searched.lacking, *lost)})
    table = table_of(searched)
    return _Searched(
        run_id=run_id,
        searched=searched,
        ranking=rank(table, request.probes, searched.n_layers, request.rank, race.spreads),
        failed=tuple(_failed(searched, failures)),
        n_tried=race.n_paths,
        race=race,
    )


def _confirm(
    request: ScanRequest,
    asked: _Searched,
    picked: Sequence[VisitPath],
    settings: Settings,
    reporting: Reporting,
    ground: Ground,
) -> tuple[Confirmation, str]:
    """Evaluate the picked paths on probe items that were not used to pick them."""
    searched, ranking = asked.searched, asked.ranking
    paths = [LayerPath(layers=layers, n_layers=searched.n_layers) for layers in picked]
    confirms = Confirms(runs=(asked.run_id,), rank=request.rank)
    plan = ground.plan(request.confirmation_sweep(paths)).model_copy(update={"confirms": confirms})
    with reporting(f"confirming the best {len(paths)}") as reporter:
        summary = ground.run(plan, reporter)
    with Store.open(settings.database_url, create=False) as store:
        confirmed = probes_of_run(store, plan, settings.home)
        results = results_of_run(store, summary.run_id)
    require_base(confirmed, plan, summary)
    if len(confirmed.paths) < 2:
        raise RunError(
            f"None of the {len(paths)} best paths could be confirmed; `mergeboard status {summary.run_id}` tells why."
        )
    confirmation = confirm(
        searched.paths,
        confirmed.paths,
        searched.n_layers,
        SCORING,
        weights=ranking.weights if request.rank is RankMethod.BALANCED_Z else None,
        n_tried=asked.n_tried,
        benchmarks=benchmark_deltas(run_comparisons(results, settings.home), paths),
        levels=levels_of(searched, confirmed),
        early=asked.race.early_gains if asked.race is not None else (),
    )
    return confirmation, summary.run_id


def benchmark_deltas(
    compared: Sequence[Comparison], paths: Sequence[LayerPath]
) -> Mapping[VisitPath, Mapping[str, Delta]]:
    """Paired differences to the base by layer path and benchmark title."""
    by_label = {path.label: path.layers for path in paths}
    deltas: dict[VisitPath, dict[str, Delta]] = {}
    for comparison in compared:
        layers = by_label[comparison.candidate]
        rows = {row.title: row.delta for row in comparison.rows if row.delta is not None}
        deltas.setdefault(layers, {}).update(rows)
    return deltas


def table_of(probes: ProbesOfRun) -> list[PathValues]:
    """Each path's values by probe key, the base first."""
    base = tuple(range(probes.n_layers))
    ordered = sorted(probes.paths, key=lambda path: path.layers != base)
    return [PathValues(layers=p.layers, values={r.key: r.value(SCORING) for r in p.results}) for p in ordered]


def _names(probes: ProbesOfRun) -> tuple[str, ...]:
    return tuple(result.probe for result in probes.paths[0].results)


def levels_of(*probes: ProbesOfRun) -> dict[str, tuple[Level, ...]]:
    """Null levels and ceilings of the probes, by name."""
    return {name: get_probe(name).levels() for part in probes for name in _names(part)}


def _failures(plan: Plan, summary: RunSummary) -> dict[VisitPath | None, str]:
    """Error messages of failed layer paths; the key None is the checkpoint itself."""
    return {
        e.job.layer_path: summary.failed[e.job.digest] for e in plan.evals if e.job.digest in summary.failed
    }


def require_base(probes: ProbesOfRun, plan: Plan, summary: RunSummary) -> None:
    """Raise RunError with the reason if the checkpoint itself has no values."""
    base, failures = tuple(range(probes.n_layers)), _failures(plan, summary)
    if not any(path.layers == base for path in probes.paths):
        why = (
            failures.get(None) or failures.get(base) or next(iter(failures.values()), "nothing was measured")
        )
        raise RunError(
            f"The checkpoint itself could not be measured, and everything is compared with it: {why}"
        )


def _failed(probes: ProbesOfRun, failures: Mapping[VisitPath | None, str]) -> list[FailedPath]:
    failed = []
    for layers in probes.lacking:
        path = LayerPath(layers=layers, n_layers=probes.n_layers)
        reason = failures.get(layers, "Its evaluation is not done.")
        failed.append(FailedPath(label=path.label, layers=layers, reason=reason.splitlines()[0]))
    return failed
