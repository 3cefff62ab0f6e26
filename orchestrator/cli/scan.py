"""mergeboard scan"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from orchestrator.cli import options


def scan(
    checkpoint: options.Checkpoint,
    probes: options.Probes = None,
    grid: Annotated[
        str | None,
        typer.Option(
            "--grid",
            metavar="GRID",
            help='Blocks (i, j): all, none, or for example "i=0:30:5 j=1:31 max_added=8"; all by default.',
        ),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(
            "--path",
            metavar="PATH",
            help='A layer path to try, for example "blocks:3,5;7,9" (repeatable); alone, no grid.',
        ),
    ] = None,
    variant: options.Variants = None,
    engine: options.EngineName = "vllm",
    dtype: options.Dtype = "bfloat16",
    batch_invariant: options.BatchInvariant = False,
    try_live: options.TryLive = False,
    chat_template: options.Template = "auto",
    rank: Annotated[
        options.RankChoice,
        typer.Option("--rank", help="How the probes of a path become one number; balanced_z is published."),
    ] = "balanced_z",
    top: Annotated[
        int,
        typer.Option(
            "--top", min=0, metavar="N", help="How many of the best are confirmed on disjoint questions."
        ),
    ] = 10,
    race: Annotated[
        bool,
        typer.Option(
            "--race",
            help="Stop asking paths that cannot be among the best any more; the others are asked everything.",
        ),
    ] = False,
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep", min=1, metavar="K", help="With --race: how many best paths; as --top by default."
        ),
    ] = None,
    error_rate: Annotated[
        float | None,
        typer.Option(
            "--error-rate",
            metavar="P",
            help="With --race: probability that any of the best leaves, over all paths and looks; 0.05 by default.",
        ),
    ] = None,
    confirm_suite: options.ConfirmSuite = None,
    limit: options.Limit = None,
    colours: Annotated[
        options.ColourChoice,
        typer.Option(
            "--colours", help="Where the heatmaps' colours end: the data's own, published (clipped), or full."
        ),
    ] = "own",
    address: options.Address = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
) -> None:
    """The brain scan: every block of layers run twice, asked a few probes; the best confirmed, with null levels and intervals.

    \b
    Example:
      mergeboard scan demo/SmolLM2-135M-Instruct --grid "i=0:30:5 j=0:30:5" --top 5
      mergeboard scan demo/SmolLM2-135M-Instruct --race
    """
    from orchestrator.charts import ColourScale
    from orchestrator.cli.console import wide_console
    from orchestrator.cli.interrupts import interruptible, stopped
    from orchestrator.cli.progress_parts import reporting
    from orchestrator.search import run_scan
    from orchestrator.search.files import write_scan
    from orchestrator.search.request import race_of_options, request_of
    from orchestrator.search.tables import print_report
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    request = request_of(
        checkpoint=checkpoint,
        engine=engine,
        dtype=dtype,
        batch_invariant=batch_invariant,
        try_live=try_live,
        chat_template=chat_template,
        rank=rank,
        top=top,
        race=race_of_options(race, keep, error_rate, top=top, rank=rank),
        suite=confirm_suite,
        limit=limit,
        probes=None if probes is None else probes.split(","),
        paths=path,
        grid=grid,
        variants=tuple(variant or ()),
    )
    with interruptible(stopped):
        report = run_scan(request, settings, reporting(quiet), address=address)
    folder = settings.home / "scans" / report.run_id
    files = write_scan(report, folder, ColourScale.named(colours))
    if as_json:
        print(
            json.dumps(
                {
                    **report.model_dump(mode="json"),
                    "conclusion": report.conclusion,
                    "files": [str(f) for f in files],
                }
            )
        )
        return
    console = wide_console()
    print_report(report, console)
    again = f", confirmation {report.confirmation_run_id}" if report.confirmation_run_id else ""
    console.print(f"\nRun {report.run_id}{again}; {report.duration_s:.0f} s.", markup=False, soft_wrap=True)
    console.print(
        f"Heatmaps, ranking and report: {folder / 'scan.html'} and beside it", markup=False, soft_wrap=True
    )
