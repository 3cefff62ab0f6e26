"""mergeboard data get"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from orchestrator.cli import options


def get_data(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SUITE|SWEEP|CARD",
            help="A suite (name, file or task of lm-eval), a sweep file, or a model card.",
            show_default=False,
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be fetched, with sizes, and fetch nothing.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Fetch the data sets that a suite, a sweep or a card needs from the hub; a second call goes on where the first stopped.

    They go to MERGEBOARD_DATASETS if it is set, else to the hub's cache.

    \b
    Example:
      mergeboard data get my-sweep.yaml
    """
    from evals.errors import DatasetError
    from orchestrator.cli.console import print_rows
    from orchestrator.cli.interrupts import interruptible, same_command
    from orchestrator.display.format import size
    from orchestrator.errors import PlanError
    from orchestrator.reproduce.data_get import download, needed_data, plan_download
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    mirror = settings.datasets
    rows: list[dict[str, object]] = []
    problems: list[str] = []
    with interruptible(lambda: f"Stopped; go on with: {same_command()}"):
        for need in needed_data(source, settings, mirror=mirror):
            row: dict[str, object] = {"dataset": need.dataset, "state": "here", "size_bytes": None}
            rows.append(row)
            if need.here:
                continue
            try:
                planned = plan_download(need, mirror)
                row |= {
                    "size_bytes": planned.size_bytes,
                    "files": len(planned.files),
                    "commit": planned.commit,
                }
                if dry_run:
                    row["state"] = "missing"
                    continue
                typer.echo(
                    f"{need.dataset}: {len(planned.files)} files, {size(planned.size_bytes)}", err=True
                )
                row |= {"state": "fetched", "folder": str(download(planned))}
            except DatasetError as error:
                row["state"] = "not fetched"
                problems.append(str(error))
    if as_json:
        print(json.dumps({"datasets": rows, "problems": problems}, indent=2))
    else:
        texts = [
            (
                str(row["dataset"]),
                str(row["state"]),
                "" if row["size_bytes"] is None else size(int(str(row["size_bytes"]))),
            )
            for row in rows
        ]
        print_rows(("data set", "state", "size"), texts or [("none", "everything is part of the suite", "")])
    if problems:
        raise PlanError(" ".join(problems))
