"""mergeboard audit"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options


def audit(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A folder of model cards and result files, or one card.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Write the board as one page, .html or .md.", show_default=False
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Write the board as JSON; - prints it.", show_default=False
        ),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Say of every card what it claims, what arithmetic says of it, and what checking the rest takes; runs nothing.

    \b
    Example:
      mergeboard audit cards/ --out board.html --json board.json
    """
    from orchestrator.cli.audit_view import audit_page, show_audit, written_json
    from orchestrator.cli.console import wide_console
    from orchestrator.report import write_report
    from orchestrator.report.files import format_of
    from orchestrator.reproduce.audit import audit as audit_cards
    from orchestrator.settings import Settings

    form = format_of(out, None) if out is not None else None
    board = audit_cards(path, Settings.from_environment())
    if out is not None and form is not None:
        write_report(audit_page(board), out, form)
    if json_file is not None and str(json_file) == "-":
        print(board.model_dump_json(indent=2))
        return
    if json_file is not None:
        written_json(board, json_file)
    if not quiet:
        show_audit(board, wide_console(), [p for p in (out, json_file) if p is not None])
