"""mergeboard import"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options


def import_path(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A results_*.json of lm-eval, a folder with some (and samples), or a model card.",
            show_default=False,
        ),
    ],
    as_json: options.AsJson = False,
) -> None:
    """Import results made elsewhere, or a card; print each benchmark's raw and normalized score.

    \b
    Example:
      mergeboard import lm-eval-output/org__name
    """
    from orchestrator.cli.ending import Ended, ExitCode
    from orchestrator.cli.import_view import show_taken
    from orchestrator.exchange import imports
    from orchestrator.settings import Settings

    result = imports.import_path(path, Settings.from_environment())
    failure = None
    if result.refused:
        first, more = result.refused[0], len(result.refused) - 1
        also = f" ({more} more files could not either)" if more else ""
        failure = f"Not everything at {path} could be imported{also}: {first}"
    show_taken(result, as_json=as_json, failure=failure)
    if failure is not None:
        raise Ended(failure, ExitCode.REFUSED, told=True)
