"""Where commands print."""

from __future__ import annotations

from rich.console import Console


def wide_console() -> Console:
    """The terminal, or 110 columns where the output goes to a file."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=110)
