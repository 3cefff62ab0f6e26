"""compare, import, claims: what stored and imported numbers say."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from orchestrator.cli import options


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("compare")(compare)


def compare(
    candidate: Annotated[
        list[str] | None, typer.Argument(help="Names of candidates; all of a run with --run alone.")
    ] = None,
    base: Annotated[str, typer.Option("--base", help="What to compare with, by name.")] = "base",
    run_id: Annotated[str | None, typer.Option("--run", help="Take both from this run.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Print differences that are not like for like; stays visible.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Per-benchmark differences with intervals and paired tests, from stored samples."""
    from orchestrator.cli.console import wide_console
    from orchestrator.compare import print_comparisons
    from orchestrator.errors import MergeboardError
    from orchestrator.results import comparisons, find_result, results_of_run, run_comparisons
    from orchestrator.settings import Settings
    from orchestrator.store import Store

    settings = Settings.from_environment()
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        if not candidate:
            if run_id is None:
                raise MergeboardError(
                    "Name a candidate, or a whole run with --run; `mergeboard status` lists the runs."
                )
            found = run_comparisons(results_of_run(store, run_id), settings.home, force=force)
        else:
            results = [find_result(store, name, run_id) for name in candidate]
            where = run_id or results[0].run_id
            reference = find_result(store, base, where if base == "base" else run_id, results[0].engine)
            tried = sum(not c.is_base for c in store.candidates(results[0].run_id)) - len(results)
            found = comparisons(reference, results, settings.home, force=force, tried=max(0, tried))
    if as_json:
        print(json.dumps([c.model_dump(mode="json") for c in found], indent=2))
    else:
        print_comparisons(found, wide_console())
