"""mergeboard status"""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import options


def status(
    run_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]", help="Id of a run, or its beginning; without it all runs are listed."
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """List runs, or tell how far one is and what failed.

    \b
    Example:
      mergeboard status my-sweep
    """
    from orchestrator.cli.inputs import run_of
    from orchestrator.cli.status_view import show_run, show_runs
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    if run_id is None:
        show_runs(settings, as_json)
    else:
        show_run(settings, run_of(settings, run_id), as_json)
