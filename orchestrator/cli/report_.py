"""mergeboard report; `orchestrator.cli.report` is the function that prints an error."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options


class ReportStyle(StrEnum):
    """How a report is written; the values of ReportFormat, whose module is too heavy for a command's help."""

    HTML = "html"
    MARKDOWN = "markdown"


def report(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|CARD|CANDIDATE...",
            help="A run by its id, a card, or candidates and imported results to compare.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FILE", help="File to write, .html or .md; - prints it.", show_default=False
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="BASE", help="What to compare candidates with, by name."),
    ] = None,
    run_id: options.FromRun = None,
    form: Annotated[
        ReportStyle | None, typer.Option("--format", help="By default that of the file's suffix.")
    ] = None,
    questions: Annotated[
        int,
        typer.Option("--questions", min=0, max=200, metavar="N", help="Flipped questions to show, at most."),
    ] = 12,
    force: Annotated[
        bool, typer.Option("--force", help="Show differences that are not like for like; stays visible.")
    ] = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Write one self-contained page, or Markdown, about a run, a comparison, a scan, a search or a card.

    \b
    Example:
      mergeboard report my-sweep --out report.html
      mergeboard report my-merge --base base --run my-sweep --out comparison.md
    """
    from orchestrator.cli.report_view import comparing
    from orchestrator.errors import MergeboardError
    from orchestrator.report import ReportFormat, ReportRequest, build_report, rendered, write_report
    from orchestrator.report.files import format_of
    from orchestrator.settings import Settings
    from orchestrator.store.pages import Pages

    chosen = ReportFormat(form.value) if form is not None else None
    printed = str(out) == "-"
    if printed and as_json:
        raise MergeboardError(
            "--out - prints the report, --json prints what was written: choose one of them."
        )
    written_as = (chosen or ReportFormat.MARKDOWN) if printed else format_of(out, chosen)
    request = ReportRequest(names=tuple(names), base=base, run=run_id, force=force, questions=questions)
    settings = Settings.from_environment()
    with (
        Pages.open(settings.database_url, create=False, read_only=True) as store,
        comparing(quiet) as progress,
    ):
        page = build_report(store, request, settings.home, progress=progress)
    if printed:
        print(rendered(page, written_as))
        return
    written = write_report(page, out, written_as)
    if as_json:
        print(json.dumps(written.model_dump(mode="json")))
    else:
        typer.echo(f"{written.verdict}\n{written.path} ({written.kind} report, {written.size_bytes:,} bytes)")
