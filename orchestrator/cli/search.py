"""mergeboard search"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from orchestrator.cli import options


def search(
    checkpoint: options.Checkpoint,
    seed_run: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="A scan in the store to begin with; without it the grid is scanned.",
        ),
    ] = None,
    probes: options.Probes = None,
    grid: Annotated[
        str, typer.Option("--grid", metavar="GRID", help="Blocks to begin with, where there is no scan.")
    ] = "all",
    variant: options.Variants = None,
    width: Annotated[
        int, typer.Option("--width", min=1, metavar="N", help="Paths that go on at each depth.")
    ] = 8,
    depth: Annotated[
        int, typer.Option("--depth", min=2, metavar="N", help="Moves that a path may be made of.")
    ] = 3,
    pool: Annotated[
        int, typer.Option("--pool", min=1, metavar="N", help="Best moves that paths are extended with.")
    ] = 16,
    candidates: Annotated[
        int, typer.Option("--candidates", min=1, metavar="N", help="Paths that are measured at each depth.")
    ] = 32,
    max_added: Annotated[
        int | None,
        typer.Option("--max-added", min=0, metavar="N", help="Most layers beyond the checkpoint's own."),
    ] = None,
    keep: Annotated[
        int,
        typer.Option(
            "--keep", min=1, metavar="N", help="Paths that are confirmed; each further rung keeps half."
        ),
    ] = 8,
    engine: options.EngineName = "vllm",
    dtype: options.Dtype = "bfloat16",
    batch_invariant: options.BatchInvariant = False,
    chat_template: options.Template = "auto",
    confirm_suite: options.ConfirmSuite = None,
    limit: options.Limit = None,
    address: options.Address = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
) -> None:
    """Beyond the grid: several blocks, repeats and skips by beam search, then halving over fidelity and confirmation.

    \b
    Example:
      mergeboard search demo/SmolLM2-135M-Instruct --from scan-smollm2-135m-instruct --width 4
    """
    from orchestrator.cli.console import wide_console
    from orchestrator.cli.inputs import run_of
    from orchestrator.cli.interrupts import interruptible, stopped
    from orchestrator.cli.progress_parts import reporting
    from orchestrator.cluster import disconnect
    from orchestrator.search.beam import SearchRequest, run_search
    from orchestrator.search.grid_scan import ground_of
    from orchestrator.search.request import request_of
    from orchestrator.search.tables import print_search
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    request = SearchRequest(
        scan=request_of(
            checkpoint=checkpoint,
            engine=engine,
            dtype=dtype,
            batch_invariant=batch_invariant,
            chat_template=chat_template,
            suite=confirm_suite,
            limit=limit,
            probes=None if probes is None else probes.split(","),
            paths=None,
            grid=grid,
            variants=("whole", *(v for v in variant if v != "whole")) if variant else (),
        ),
        seed_run=run_of(settings, seed_run) if seed_run is not None else None,
        width=width,
        depth=depth,
        pool=pool,
        candidates=candidates,
        max_added=max_added,
        keep=keep,
    )
    request.scan.check()
    with interruptible(stopped):
        try:
            report = run_search(request, settings, reporting(quiet), ground_of(settings, address))
        finally:
            disconnect()
    if as_json:
        print(json.dumps({**report.model_dump(mode="json"), "conclusion": report.conclusion}))
        return
    print_search(report, wide_console())
