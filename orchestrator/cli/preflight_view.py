"""What is known of a recipe before it is built, as a table and sentences."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from recipes.preflight import Preflight


def show_preflight(known: Preflight, console: Console) -> None:
    """Layers, parameters, bytes, disk and memory; problems, remarks and what cannot be known."""
    table = Table(title="Stages", title_justify="left", box=None, header_style="bold")
    for column in ("stage", "method", "layers", "parameters", "dtype", "bytes", "memory", "built by"):
        table.add_column(column)
    for stage in known.stages:
        table.add_row(
            stage.name,
            stage.method,
            str(stage.n_layers or "unknown"),
            f"{stage.parameters / 1e9:.3f} B" if stage.parameters else "unknown",
            stage.dtype or "unknown",
            _gb(stage.size_bytes),
            _gb(stage.memory_bytes),
            "moving bytes" if stage.moves_bytes else "mergekit",
        )
    console.print(table)
    console.print(
        f"Disk at its peak {_gb(known.disk_bytes)}, to download {_gb(known.download_bytes)}; parameters from "
        f"{known.parameters_from or 'nothing that is known'}.",
        soft_wrap=True,
    )
    for label, sentences in (
        ("Problem", known.problems),
        ("Note", known.remarks),
        ("Unknown", known.unknown),
    ):
        for sentence in sentences:
            console.print(f"{label}: {sentence}", soft_wrap=True, markup=False)


def _gb(size_bytes: int | None) -> str:
    return "unknown" if size_bytes is None else f"{size_bytes / 1e9:.2f} GB"
