"""compare, import, claims: what stored and imported numbers say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("compare")(compare)
    app.command("import")(import_)


def compare(
    candidate: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of candidates, or imported runs by checkpoint, id or path; all of a run with --run alone."
        ),
    ] = None,
    base: Annotated[str, typer.Option("--base", help="What to compare with, by name.")] = "base",
    run_id: Annotated[str | None, typer.Option("--run", help="Take both from this run.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Print differences that are not like for like; stays visible.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Per-benchmark differences with intervals and paired tests, from stored and imported samples."""
    from orchestrator.cli.console import wide_console
    from orchestrator.compare import print_comparisons
    from orchestrator.compare.run_comparisons import results_of_run, run_comparisons
    from orchestrator.compare.sides import compare_names
    from orchestrator.errors import MergeboardError
    from orchestrator.settings import Settings
    from orchestrator.store import Store

    settings = Settings.from_environment()
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        if candidate:
            found = compare_names(store, candidate, base, settings.home, run_id=run_id, force=force)
        elif run_id is None:
            raise MergeboardError(
                "Name a candidate, or a whole run with --run; `mergeboard status` lists the runs."
            )
        else:
            found = run_comparisons(results_of_run(store, run_id), settings.home, force=force)
    if as_json:
        print(json.dumps([c.model_dump(mode="json") for c in found], indent=2))
    else:
        print_comparisons(found, wide_console())


def import_(
    path: Annotated[
        Path,
        typer.Argument(
            help="A results_*.json of lm-eval, a folder with some (and samples), or a model card."
        ),
    ],
    as_json: options.AsJson = False,
) -> None:
    """Take in results made elsewhere, or a card; print each benchmark's raw and normalized score."""
    from orchestrator.cli.import_view import show_taken
    from orchestrator.errors import MergeboardError
    from orchestrator.exchange.imports import take_in
    from orchestrator.settings import Settings

    taken = take_in(path, Settings.from_environment())
    show_taken(taken, as_json=as_json)
    if taken.refused:
        first, more = taken.refused[0], len(taken.refused) - 1
        also = f" ({more} more files could not either)" if more else ""
        raise MergeboardError(f"Not everything at {path} could be taken in{also}: {first}")
