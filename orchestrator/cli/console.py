"""Where commands print."""

from __future__ import annotations

from orchestrator.display.text_safety import Terminal


def wide_console() -> Terminal:
    """The terminal, or 110 columns where the output goes to a file."""
    console = Terminal()
    return console if console.is_terminal else Terminal(width=110)
