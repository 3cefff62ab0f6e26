"""mergeboard export"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options


def export(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the Parquet files.")],
    run_id: options.FromRun = None,
    as_json: options.AsJson = False,
) -> None:
    """Write scores and samples as Parquet.

    \b
    Example:
      mergeboard export --out results --run my-sweep
    """
    from orchestrator.cli.inputs import run_of
    from orchestrator.exchange.parquet import export_parquet
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    run = run_of(settings, run_id) if run_id is not None else None
    paths = [str(path) for path in export_parquet(settings, out, run_id=run)]
    typer.echo(json.dumps({"files": paths}, indent=2) if as_json else "\n".join(paths))
