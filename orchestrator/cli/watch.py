"""mergeboard watch"""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import options


def watch(
    run_id: options.RunId,
    period_s: Annotated[
        float, typer.Option("--period", min=0.2, metavar="SECONDS", help="Seconds between two looks.")
    ] = 2.0,
) -> None:
    """Show a run's progress until it ends; Ctrl-C leaves the run alone.

    \b
    Example:
      mergeboard watch my-sweep-1a2b3c4d
    """
    from orchestrator.cli.inputs import run_of
    from orchestrator.cli.interrupts import interruptible
    from orchestrator.cli.status_view import watch_run
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    run = run_of(settings, run_id)
    with interruptible(lambda: _left(run)):
        watch_run(settings, run, period_s)


def _left(run_id: str) -> str:
    return (
        f"Stopped watching; run {run_id} goes on. Watch it again with: mergeboard watch {run_id}; stop it with: "
        f"mergeboard cancel {run_id}"
    )
