"""What is known of a recipe before it is built, as a table and sentences."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from orchestrator.display.format import parameters, size
from recipes.preflight import Preflight


def show_preflight(report: Preflight, console: Console) -> None:
    """Layers, parameters, bytes, disk and memory; problems, remarks and what cannot be report."""
    table = Table(title="Stages", title_justify="left", box=None, header_style="bold")
    for column in ("stage", "method", "layers", "parameters", "dtype", "bytes", "memory", "built by"):
        table.add_column(column)
    for stage in report.stages:
        table.add_row(
            stage.name,
            stage.method,
            str(stage.n_layers or "unknown"),
            parameters(stage.parameters),
            stage.dtype or "unknown",
            size(stage.size_bytes),
            size(stage.memory_bytes),
            "moving bytes" if stage.moves_bytes else "mergekit",
        )
    console.print(table)
    console.print(
        f"Disk at its peak {size(report.disk_bytes)}, to download {size(report.download_bytes)}; parameters from "
        f"{report.parameters_from or 'nothing that is known'}.",
        soft_wrap=True,
    )
    for label, sentences in (
        ("Problem", report.problems),
        ("Note", report.remarks),
        ("Unknown", report.unknown),
    ):
        for sentence in sentences:
            console.print(f"{label}: {sentence}", soft_wrap=True, markup=False)
