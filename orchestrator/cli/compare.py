"""mergeboard compare"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options

if TYPE_CHECKING:
    from orchestrator.compare import Comparison
    from orchestrator.settings import Settings
    from orchestrator.store import Store


def compare(
    candidate: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CANDIDATE]...",
            help="Names of candidates, or imported runs by checkpoint, id or path; all of a run with --run alone.",
        ),
    ] = None,
    base: Annotated[
        str, typer.Option("--base", metavar="BASE", help="What to compare with, by name.")
    ] = "base",
    run_id: options.FromRun = None,
    force: Annotated[
        bool, typer.Option("--force", help="Print differences that are not like for like; stays visible.")
    ] = False,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="METRIC",
            help="Metric of imported tasks that no suite has, e.g. acc_norm; their main one by default.",
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            "--margin",
            min=0.01,
            max=100,
            metavar="M",
            help="Test non-inferiority and equivalence within M points too.",
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Per-benchmark differences with intervals and paired tests, from stored and imported samples.

    \b
    Example:
      mergeboard compare my-merge --base base --run my-sweep
    """
    from orchestrator.cli.console import wide_console
    from orchestrator.cli.decided_view import show_decided
    from orchestrator.cli.race_view import show_candidate_race
    from orchestrator.compare import print_comparisons
    from orchestrator.compare.candidate_races import candidate_race_of, n_left_out
    from orchestrator.compare.correction import with_margin
    from orchestrator.compare.run_comparisons import results_of_run, run_comparisons
    from orchestrator.compare.sides import compare_names
    from orchestrator.errors import MergeboardError
    from orchestrator.settings import Settings
    from orchestrator.store import Store

    settings = Settings.from_environment()
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        run = store.find_run(run_id) if run_id is not None else None
        if candidate:
            comparisons = compare_names(
                store, candidate, base, settings.home, run_id=run, force=force, metric=metric
            )
        elif run is None:
            raise MergeboardError(
                "Name a candidate, or a whole run with --run; `mergeboard status` lists the runs."
            )
        elif force:
            results = results_of_run(store, run)
            tried = n_left_out(store, run, {result.candidate.position for result in results})
            comparisons = run_comparisons(results, settings.home, force=True, tried=tried)
        else:
            comparisons = _of_run(store, run, settings)
            if not comparisons and not store.sequences(run):
                _require_two(store, run)
        decided = [] if run is None or candidate else store.sequences(run)
        savings = None if run is None or candidate else store.savings(run)
        race = None if run is None or candidate else candidate_race_of(store, store.run(run))
    if margin is not None:
        comparisons = with_margin(comparisons, margin)
    if as_json:
        print(json.dumps([c.model_dump(mode="json") for c in comparisons], indent=2))
    else:
        print_comparisons(comparisons, wide_console())
        show_decided(decided, savings, run or "", wide_console())
        show_candidate_race(race, run or "", wide_console())


def _require_two(store: Store, run_id: str) -> None:
    """Raise RunError if a run scored one candidate alone, so that it has nothing to compare with."""
    from orchestrator.compare.run_comparisons import results_of_run
    from orchestrator.errors import RunError

    scored = list(dict.fromkeys(result.candidate.name for result in results_of_run(store, run_id)))
    if len(scored) == 1:
        raise RunError(
            f"Run {run_id} scored {scored[0]} alone: name what to compare it with, `mergeboard compare {scored[0]} --base OTHER`."
        )


def _of_run(store: Store, run_id: str, settings: Settings) -> tuple[Comparison, ...]:
    """All comparisons of a run; those that the store does not keep yet are computed and kept, if it can be written."""
    from rich.console import Console

    from orchestrator.cli.console import counter
    from orchestrator.compare.kept import family_of_run
    from orchestrator.errors import StoreError
    from orchestrator.store import Store
    from orchestrator.store.comparisons import KeptComparison

    def keep(records: list[KeptComparison]) -> None:
        with (
            contextlib.suppress(StoreError),
            Store.open(settings.database_url, create=False, patience_s=5.0) as writable,
        ):
            writable.keep_comparisons(records)

    with counter(Console(stderr=True), quiet=False) as show:
        return family_of_run(
            store, run_id, settings.home, keep=keep, show=lambda done, total: show("Comparing", done, total)
        ).comparisons()
