"""scan and search: layer paths of a checkpoint through live engines, and an honest answer at the end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options

if TYPE_CHECKING:
    from orchestrator.run.scheduler import Reporter


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("scan")(scan)
    app.command("search")(search)


def scan(
    checkpoint: Annotated[str, typer.Argument(help="A directory, an embedded name, or org/name@commit.")],
    probes: Annotated[
        str | None,
        typer.Option("--probes", help="Keys of the probes, with commas; three scored ones by default."),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            "--grid",
            help='Blocks (i, j): all, none, or for example "i=0:30:5 j=1:31 max_added=8"; all by default.',
        ),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(
            "--path", help='A layer path to try, for example "blocks:3,5;7,9" (repeatable); alone, no grid.'
        ),
    ] = None,
    engine: options.EngineName = "vllm",
    dtype: options.Dtype = "bfloat16",
    batch_invariant: options.BatchInvariant = False,
    chat_template: options.Template = "auto",
    rank: Annotated[
        str, typer.Option("--rank", help="balanced_z, as published, or mean_delta.")
    ] = "balanced_z",
    top: Annotated[
        int, typer.Option("--top", min=0, help="How many of the best are confirmed on disjoint questions.")
    ] = 10,
    confirm_suite: Annotated[
        str | None, typer.Option("--confirm-suite", help="Also score the confirmed paths on this suite.")
    ] = None,
    limit: options.Limit = None,
    colours: Annotated[
        str,
        typer.Option(
            "--colours",
            help="Where the heatmaps' colours end: own, published (clipped) or full; own by default.",
        ),
    ] = "own",
    address: options.Address = None,
    as_json: options.AsJson = False,
) -> None:
    """The brain scan: every block of layers run twice, asked a few probes; the best confirmed, with null levels and intervals."""
    from orchestrator.charts import ColourScale
    from orchestrator.cli.console import wide_console
    from orchestrator.search import run_scan
    from orchestrator.search.files import write_scan
    from orchestrator.search.request import request_of
    from orchestrator.search.tables import print_report
    from orchestrator.settings import Settings

    scale = ColourScale.named(colours)
    settings = Settings.from_environment()
    request = request_of(
        checkpoint=checkpoint,
        engine=engine,
        dtype=dtype,
        batch_invariant=batch_invariant,
        chat_template=chat_template,
        rank=rank,
        top=top,
        suite=confirm_suite,
        limit=limit,
        probes=None if probes is None else probes.split(","),
        paths=path,
        grid=grid,
    )
    report = run_scan(request, settings, reporting, address=address)
    folder = settings.home / "scans" / report.run_id
    files = write_scan(report, folder, scale)
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


def search(
    checkpoint: Annotated[str, typer.Argument(help="A directory, an embedded name, or org/name@commit.")],
    seed_run: Annotated[
        str | None,
        typer.Option("--from", help="A scan in the store to begin with; without it the grid is scanned."),
    ] = None,
    probes: Annotated[
        str | None,
        typer.Option("--probes", help="Keys of the probes, with commas; three scored ones by default."),
    ] = None,
    grid: Annotated[
        str, typer.Option("--grid", help="Blocks to begin with, where there is no scan.")
    ] = "all",
    width: Annotated[int, typer.Option("--width", min=1, help="Paths that go on at each depth.")] = 8,
    depth: Annotated[int, typer.Option("--depth", min=2, help="Moves that a path may be made of.")] = 3,
    pool: Annotated[int, typer.Option("--pool", min=1, help="Best moves that paths are extended with.")] = 16,
    candidates: Annotated[
        int, typer.Option("--candidates", min=1, help="Paths that are measured at each depth.")
    ] = 32,
    max_added: Annotated[
        int | None, typer.Option("--max-added", min=0, help="Most layers beyond the checkpoint's own.")
    ] = None,
    keep: Annotated[
        int, typer.Option("--keep", min=1, help="Paths that are confirmed; each further rung keeps half.")
    ] = 8,
    engine: options.EngineName = "vllm",
    dtype: options.Dtype = "bfloat16",
    batch_invariant: options.BatchInvariant = False,
    chat_template: options.Template = "auto",
    confirm_suite: Annotated[
        str | None,
        typer.Option("--confirm-suite", help="Score the best on this suite: a part first, then all."),
    ] = None,
    limit: options.Limit = None,
    address: options.Address = None,
    as_json: options.AsJson = False,
) -> None:
    """Beyond the grid: several blocks, repeats and skips by beam search, then halving over fidelity and confirmation."""
    from orchestrator.cli.console import wide_console
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
        ),
        seed_run=seed_run,
        width=width,
        depth=depth,
        pool=pool,
        candidates=candidates,
        max_added=max_added,
        keep=keep,
    )
    request.scan.check()
    try:
        report = run_search(request, settings, reporting, ground_of(settings, address))
    finally:
        disconnect()
    if as_json:
        print(json.dumps({**report.model_dump(mode="json"), "conclusion": report.conclusion}))
        return
    print_search(report, wide_console())


@contextlib.contextmanager
def reporting(what: str) -> Iterator[Reporter]:
    """A reporter of one part's progress, announced in words, on stderr."""
    from orchestrator.cli.progress import TerminalReporter
    from orchestrator.display.text_safety import Terminal

    console = Terminal(stderr=True)
    console.print(what[0].upper() + what[1:] + ".", markup=False, soft_wrap=True)
    with TerminalReporter(console) as reporter:
        yield reporter
