"""mergeboard search"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options

if TYPE_CHECKING:
    from orchestrator.settings import Settings

_SUFFIXES = (".yaml", ".yml")


def search(
    context: typer.Context,
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT|SEARCH.yaml",
            help="A checkpoint, to search its layer paths; or a search file, to search the numbers of a merge.",
            show_default=False,
        ),
    ],
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
    try_live: options.TryLive = False,
    chat_template: options.Template = "auto",
    confirm_suite: options.ConfirmSuite = None,
    limit: options.Limit = None,
    address: options.Address = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
) -> None:
    """Search layer paths beyond the grid, or the weights, densities and layers of a merge by a search file.

    Layer paths: several blocks, repeats and skips by beam search, then halving over fidelity and confirmation. Merges: Gaussian
    process, TPE, CMA-ES or random search, then confirmation against every parent; all that it takes is in its file.

    \b
    Example:
      mergeboard search demo/SmolLM2-135M-Instruct --from scan-smollm2-135m-instruct --width 4
      mergeboard search my-search.yaml
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
    if checkpoint.lower().endswith(_SUFFIXES):
        _refuse_options(context)
        _search_merges(Path(checkpoint), settings, address, quiet=quiet, as_json=as_json)
        return
    request = SearchRequest(
        scan=request_of(
            checkpoint=checkpoint,
            engine=engine,
            dtype=dtype,
            batch_invariant=batch_invariant,
            try_live=try_live,
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


def _refuse_options(context: typer.Context) -> None:
    """Raise SweepError for options about layer paths beside a search file."""
    from orchestrator.errors import SweepError

    general = {"context", "checkpoint", "address", "quiet", "verbose", "as_json"}
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in general and source is not None and source.name == "COMMANDLINE":
            raise SweepError(
                f"{parameter.opts[0]} is about layer paths; a search over merges takes everything from its file: `mergeboard sweep "
                "fields --search` lists its fields."
            )


def _search_merges(
    path: Path, settings: Settings, address: str | None, *, quiet: bool, as_json: bool
) -> None:
    """Run a search file, print its tables and write its folder."""
    import shlex

    from orchestrator.cli.console import wide_console
    from orchestrator.cli.interrupts import interruptible, stopped
    from orchestrator.cli.progress_parts import reporting
    from orchestrator.cluster import disconnect
    from orchestrator.search.grid_scan import ground_of
    from orchestrator.search.merges.files import write_merge_search
    from orchestrator.search.merges.run import run_merge_search
    from orchestrator.search.merges.search_file import load_search
    from orchestrator.search.merges.tables import print_merge_search

    file = load_search(path)
    with interruptible(stopped):
        try:
            view = run_merge_search(file, settings, reporting(quiet), ground_of(settings, address))
        finally:
            disconnect()
    folder = settings.home / "searches" / view.report.run_id
    files = write_merge_search(file, view, folder)
    build = f"mergeboard build {shlex.quote(str(files[0]))} --out {shlex.quote(file.search.name)}"
    c = view.report.confirmation
    card = (
        f"mergeboard card {shlex.quote(f'trial {view.report.winner}')} --run {c.suite_run_id}"
        if c and c.suite_run_id
        else None
    )
    if as_json:
        result = view.model_dump(mode="json") | {
            "conclusion": view.report.conclusion,
            "build": build,
            "card": card,
        }
        print(json.dumps(result | {"files": [str(each) for each in files]}))
        return
    console = wide_console()
    print_merge_search(view, console)
    lines = [
        f"\nRun {view.report.run_id}; trial {view.report.winner} did best on the other questions. Build it: {build}",
        f"Its card: {card}" if card else "Its card needs benchmark scores: name a suite under `confirm`.",
        f"Pictures, trials and report: {folder / 'search.html'} and beside it",
    ]
    for text in lines:
        console.print(text, markup=False, soft_wrap=True)
