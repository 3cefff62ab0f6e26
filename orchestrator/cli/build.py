"""mergeboard build"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options


def build(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help='A recipe file, a catalogue name, or a layer path such as "(3, 5)" with --base.',
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Folder to write the checkpoint to; must not exist."),
    ],
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="CHECKPOINT", help="The checkpoint that a layer path is of."),
    ] = None,
    source: options.SourceMap = None,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
) -> None:
    """Write one recipe as an ordinary checkpoint directory, with its mergekit_config.yml and a README.

    \b
    Example:
      mergeboard build "(3, 5)" --base demo/SmolLM2-135M-Instruct --out my-checkpoint
    """
    from orchestrator.cli.build_progress import build_progress
    from orchestrator.cli.interrupts import interruptible, same_command
    from orchestrator.display.text_safety import line
    from orchestrator.run.build import build_to
    from orchestrator.settings import Settings

    with interruptible(lambda: f"Stopped; nothing was left at {out}. Start again with: {same_command()}"):
        built = build_to(
            recipe,
            out,
            Settings.from_environment(),
            base=base,
            sources=source or [],
            watched=build_progress,
        )
    if as_json:
        typer.echo(built.model_dump_json(indent=2))
        return
    typer.echo(
        f"{built.path}: {built.layers} layers, {built.parameters:,} parameters, {built.size_bytes:,} bytes ({built.how}, "
        f"{built.duration_s:.1f} s)"
    )
    for note in built.notes:
        typer.echo(f"Note: {line(note, 1000)}")
