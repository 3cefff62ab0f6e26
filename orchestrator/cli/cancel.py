"""mergeboard cancel"""

from __future__ import annotations

import typer

from orchestrator.cli import options


def cancel(run_id: options.RunId, as_json: options.AsJson = False) -> None:
    """Stop a run within seconds; what is finished is kept.

    \b
    Example:
      mergeboard cancel my-sweep-1a2b3c4d
    """
    from orchestrator.cli.inputs import run_of
    from orchestrator.run.run import cancel_run
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    record = cancel_run(run_of(settings, run_id), settings)
    if as_json:
        typer.echo(record.model_dump_json(indent=2, include={"id", "name", "state"}))
        return
    typer.echo(
        f"Run {record.id} is cancelled; what was finished is kept. `mergeboard resume {record.id}` goes on with it."
    )
