"""mergeboard card"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options


class CardFormat(StrEnum):
    """What `card` writes."""

    MODEL_INDEX = "model-index"
    EVAL_RESULTS = "eval-results"
    TABLE = "table"
    IMPROVEMENT = "improvement"


def card(
    candidate: Annotated[
        str,
        typer.Argument(
            metavar="CANDIDATE", help="Name of a candidate, as tables call it.", show_default=False
        ),
    ],
    suite: Annotated[
        str | None,
        typer.Option(
            "--suite", metavar="SUITE", help="Its scores of this suite; the only one it has by default."
        ),
    ] = None,
    run_id: options.FromRun = None,
    form: Annotated[CardFormat, typer.Option("--format", help="What to write.")] = CardFormat.MODEL_INDEX,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="Name of the model in the card; the candidate's by default."
        ),
    ] = None,
    update: Annotated[
        Path | None,
        typer.Option("--update", metavar="README.md", help="Splice the metadata into this file."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Write model-index metadata, .eval_results, or a table of a candidate's scores.

    \b
    Example:
      mergeboard card my-merge --run my-sweep --update README.md
    """
    from orchestrator.cards.candidate import CardRequest, update_file, written
    from orchestrator.compare.lookup import find_result
    from orchestrator.compare.run_comparisons import results_of_run
    from orchestrator.settings import Settings
    from orchestrator.store import Store

    settings = Settings.from_environment()
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        result = find_result(store, candidate, store.find_run(run_id) if run_id is not None else None)
        others = results_of_run(store, result.run_id)
    base = next((r for r in others if r.candidate.is_base and r.engine == result.engine), None)
    request = CardRequest(result=result, base=base, suite=suite, name=name or candidate)
    if update is not None:
        update_file(update, request)
        typer.echo(
            f"{update} now carries the model-index of {candidate}; every other byte is as it was.", err=True
        )
        if as_json:
            typer.echo(json.dumps({"updated": str(update)}))
        return
    text = written(request, form.value)
    typer.echo(json.dumps({"format": form.value, "text": text}) if as_json else text)
