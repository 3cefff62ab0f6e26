"""mergeboard export"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator.cli import options

ExportFormat = Literal["parquet", "eee"]


def export(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the files.")],
    run_id: options.FromRun = None,
    form: Annotated[
        ExportFormat,
        typer.Option("--format", help="Parquet tables, or results and instances of Every Eval Ever."),
    ] = "parquet",
    as_json: options.AsJson = False,
) -> None:
    """Write scores and samples as Parquet, or in the format of Every Eval Ever.

    \b
    Example:
      mergeboard export --out results --run my-sweep
    """
    from orchestrator.cli.inputs import run_of
    from orchestrator.exchange.every_eval import export_every_eval
    from orchestrator.exchange.parquet import export_parquet
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    run = run_of(settings, run_id) if run_id is not None else None
    write = export_every_eval if form == "eee" else export_parquet
    paths = [str(path) for path in write(settings, out, run_id=run)]
    typer.echo(json.dumps({"files": paths}, indent=2) if as_json else "\n".join(paths))
