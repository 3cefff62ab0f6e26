"""mergeboard plan"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options


def plan(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A sweep, a recipe (mergekit YAML, or a name of the catalogue), or a model card.",
            show_default=False,
        ),
    ],
    source: options.SourceMap = None,
    address: options.Address = None,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
) -> None:
    """Show jobs, layers, parameters, bytes, what is cached and what it will cost; touches nothing.

    With --address a sweep is planned for the cluster's nodes: their engines, their GPUs, their data.

    \b
    Example:
      mergeboard plan my-sweep.yaml --address auto
    """
    from orchestrator.cli.plan_view import show_plan
    from orchestrator.settings import Settings

    show_plan(
        file,
        Settings.from_environment(),
        sources=source or [],
        as_json=as_json,
        address=address,
        digests=verbose,
    )
