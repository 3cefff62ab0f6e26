"""mergeboard import"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options


def import_path(
    path: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Result files of lm-eval, lighteval, Inspect or Every Eval Ever, folders with some, or model cards.",
            show_default=False,
        ),
    ] = None,
    list_imports: Annotated[
        bool, typer.Option("--list", help="List the imported runs instead, the newest first.")
    ] = False,
    remove: Annotated[
        list[str] | None,
        typer.Option(
            "--remove", metavar="ID", help="Delete an imported run and its samples instead; repeatable."
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Import results made elsewhere, or a card; print each benchmark's raw and normalized score.

    \b
    Example:
      mergeboard import lm-eval-output/org__name
    """
    from orchestrator.cli.import_view import show_imports
    from orchestrator.errors import MergeboardError
    from orchestrator.exchange.stored import imported_runs, remove_imports
    from orchestrator.settings import Settings

    if sum((bool(path), list_imports, bool(remove))) != 1:
        raise MergeboardError("Give the paths of result files or cards, or --list, or --remove with an id.")
    settings = Settings.from_environment()
    if list_imports:
        show_imports(imported_runs(settings), as_json=as_json)
    elif remove:
        ids = remove_imports(remove, settings)
        typer.echo(json.dumps({"removed": ids}) if as_json else f"Removed: {', '.join(ids)}.")
    else:
        _import(path or [], as_json=as_json)


def _import(paths: list[Path], *, as_json: bool) -> None:
    from orchestrator.cli.ending import Ended, ExitCode
    from orchestrator.cli.import_view import show_taken
    from orchestrator.exchange import imports
    from orchestrator.settings import Settings

    result = imports.import_paths(paths, Settings.from_environment())
    failure = None
    if result.refused:
        first, more = result.refused[0], len(result.refused) - 1
        also = f" ({more} more files could not either)" if more else ""
        shown = paths[0] if len(paths) == 1 else f"{len(paths)} paths"
        failure = f"Not everything at {shown} could be imported{also}: {first}"
    show_taken(result, as_json=as_json, failure=failure)
    if failure is not None:
        raise Ended(failure, ExitCode.REFUSED, told=True)
