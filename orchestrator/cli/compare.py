"""mergeboard compare"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from orchestrator.cli import options


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
    as_json: options.AsJson = False,
) -> None:
    """Per-benchmark differences with intervals and paired tests, from stored and imported samples.

    \b
    Example:
      mergeboard compare my-merge --base base --run my-sweep
    """
    from orchestrator.cli.console import wide_console
    from orchestrator.compare import print_comparisons
    from orchestrator.compare.run_comparisons import results_of_run, run_comparisons
    from orchestrator.compare.sides import compare_names
    from orchestrator.errors import MergeboardError
    from orchestrator.settings import Settings
    from orchestrator.store import Store

    settings = Settings.from_environment()
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        run = store.find_run(run_id) if run_id is not None else None
        if candidate:
            comparisons = compare_names(store, candidate, base, settings.home, run_id=run, force=force)
        elif run is None:
            raise MergeboardError(
                "Name a candidate, or a whole run with --run; `mergeboard status` lists the runs."
            )
        else:
            results = results_of_run(store, run)
            comparisons = run_comparisons(results, settings.home, force=force)
            scored = list(dict.fromkeys(result.candidate.name for result in results))
            if len(scored) == 1:
                raise MergeboardError(
                    f"Run {run} scored {scored[0]} alone: name what to compare it with, `mergeboard compare {scored[0]} --base OTHER`."
                )
    if as_json:
        print(json.dumps([c.model_dump(mode="json") for c in comparisons], indent=2))
    else:
        print_comparisons(comparisons, wide_console())
