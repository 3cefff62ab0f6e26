"""Search, ranking, confirmation. Each part is a run of its own in the store, so that a scan goes on wherever it was cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

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
from evals.stats import Delta
from orchestrator.cluster import disconnect
from orchestrator.compare import Comparison
from orchestrator.compare.run_comparisons import results_of_run, run_comparisons
from orchestrator.errors import RunError
from orchestrator.plan.plan import Plan
from orchestrator.plan.sweep import SweepFile
from orchestrator.run.run import cluster_for, execute, plan_for
from orchestrator.run.scheduler import Reporter, RunSummary
from orchestrator.search.probe_answers import ProbesOfRun, probes_of_run
from orchestrator.search.report import FailedPath, ScanReport, weights_of
from orchestrator.search.request import ScanRequest
from orchestrator.settings import Settings
from orchestrator.store import Store
from recipes.layer_path import LayerPath

SCORING = Scoring.CORRECTED
Reporting = Callable[[str], AbstractContextManager[Reporter]]
"""What is being done, in words -> a reporter of its progress."""


@dataclass(frozen=True)
class Ground:
    """Where a scan's sweeps are planned and run."""

    plan: Callable[[SweepFile], Plan]
    run: Callable[[Plan, Reporter], RunSummary]


def run_scan(
    request: ScanRequest, settings: Settings, reporting: Reporting, *, address: str | None = None
) -> ScanReport:
    """Run what is not in the store yet, and tell what it shows."""
    request.check()
    try:
        return scan_with(request, settings, reporting, ground_of(settings, address))
    finally:
        disconnect()


def ground_of(settings: Settings, address: str | None) -> Ground:
    """The cluster that is named, or this machine; whoever asks for it disconnects in the end."""
    cluster = cluster_for(settings, address)

    def plan(file: SweepFile) -> Plan:
        return plan_for(file, settings, cluster)

    def run(made: Plan, reporter: Reporter) -> RunSummary:
        return execute(made, settings, reporter, address=address, cluster=cluster, stay=True)

    return Ground(plan, run)


def scan_with(request: ScanRequest, settings: Settings, reporting: Reporting, ground: Ground) -> ScanReport:
    """The scan, whoever runs its plans."""
    started = time.monotonic()
    plan = ground.plan(request.search_sweep())
    with reporting(f"searching {len(plan.candidates) - 1:,} layer paths") as reporter:
        summary = ground.run(plan, reporter)
    with Store.open(settings.database_url, create=False) as store:
        searched = probes_of_run(store, plan, settings.home)
    failures = _failures(plan, summary)
    require_base(searched, plan, summary)
    ranking = rank(table_of(searched), request.probes, searched.n_layers, request.rank)
    picked = [path.layers for path in ranking.paths[: request.top]]
    confirmation, confirmed_by = None, None
    if picked:
        confirmation, confirmed_by = _confirm(request, searched, ranking, picked, settings, reporting, ground)
    return ScanReport(
        request=request,
        run_id=summary.run_id,
        confirmation_run_id=confirmed_by,
        n_layers=searched.n_layers,
        table=tuple(table_of(searched)),
        levels={get_probe(name).key: get_probe(name).levels() for name in _names(searched)},
        ranking=ranking,
        failed=tuple(_failed(searched, failures)),
        confirmation=confirmation,
        duration_s=time.monotonic() - started,
    )


def _confirm(
    request: ScanRequest,
    searched: ProbesOfRun,
    ranking: Ranking,
    picked: Sequence[tuple[int, ...]],
    settings: Settings,
    reporting: Reporting,
    ground: Ground,
) -> tuple[Confirmation, str]:
    """Ask the picked paths what nobody picked them by."""
    paths = [LayerPath(layers=layers, n_layers=searched.n_layers) for layers in picked]
    plan = ground.plan(request.confirmation_sweep(paths))
    with reporting(f"confirming the best {len(paths)}") as reporter:
        summary = ground.run(plan, reporter)
    with Store.open(settings.database_url, create=False) as store:
        again = probes_of_run(store, plan, settings.home)
        results = results_of_run(store, summary.run_id)
    require_base(again, plan, summary)
    if len(again.paths) < 2:
        raise RunError(
            f"None of the {len(paths)} best paths could be confirmed; `mergeboard status {summary.run_id}` tells why."
        )
    found = confirm(
        searched.paths,
        again.paths,
        searched.n_layers,
        SCORING,
        weights=weights_of(ranking) if request.rank is RankMethod.BALANCED_Z else None,
        n_tried=len(searched.paths) - 1 + len(searched.lacking),
        benchmarks=benchmark_deltas(run_comparisons(results, settings.home), paths),
        levels=levels_of(searched, again),
    )
    return found, summary.run_id


def benchmark_deltas(
    compared: Sequence[Comparison], paths: Sequence[LayerPath]
) -> Mapping[tuple[int, ...], Mapping[str, Delta]]:
    """Each path's paired differences to the base on benchmarks, by the benchmark's title."""
    by_label = {path.label: path.layers for path in paths}
    found: dict[tuple[int, ...], dict[str, Delta]] = {}
    for comparison in compared:
        layers = by_label[comparison.candidate]
        rows = {row.title: row.delta for row in comparison.rows if row.delta is not None}
        found.setdefault(layers, {}).update(rows)
    return found


def table_of(found: ProbesOfRun) -> list[PathValues]:
    """Each path's value by the probe's key, the base first."""
    base = tuple(range(found.n_layers))
    ordered = sorted(found.paths, key=lambda path: path.layers != base)
    return [PathValues(layers=p.layers, values={r.key: r.value(SCORING) for r in p.results}) for p in ordered]


def _names(found: ProbesOfRun) -> tuple[str, ...]:
    return tuple(result.probe for result in found.paths[0].results)


def levels_of(*found: ProbesOfRun) -> dict[str, tuple[Level, ...]]:
    """Null levels and ceilings of the probes, by name."""
    return {name: get_probe(name).levels() for part in found for name in _names(part)}


def _failures(plan: Plan, summary: RunSummary) -> dict[tuple[int, ...] | None, str]:
    """Why layer paths have no value, by the path."""
    return {
        e.job.layer_path: summary.failed[e.job.digest] for e in plan.evals if e.job.digest in summary.failed
    }


def require_base(found: ProbesOfRun, plan: Plan, summary: RunSummary) -> None:
    """RunError with the reason where the checkpoint itself has no values."""
    base, failures = tuple(range(found.n_layers)), _failures(plan, summary)
    if not any(path.layers == base for path in found.paths):
        why = (
            failures.get(None) or failures.get(base) or next(iter(failures.values()), "nothing was measured")
        )
        raise RunError(
            f"The checkpoint itself could not be measured, and everything is compared with it: {why}"
        )


def _failed(found: ProbesOfRun, failures: Mapping[tuple[int, ...] | None, str]) -> list[FailedPath]:
    failed = []
    for layers in found.lacking:
        path = LayerPath(layers=layers, n_layers=found.n_layers)
        reason = failures.get(layers, "Its evaluation is not done.")
        failed.append(FailedPath(label=path.label, layers=layers, reason=reason.splitlines()[0]))
    return failed
