"""card: scores as model-card metadata."""

from __future__ import annotations

import json
from datetime import UTC, datetime
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


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("card")(card)


def card(
    candidate: Annotated[str, typer.Argument(help="Name of a candidate, as tables call it.")],
    suite: Annotated[
        str | None, typer.Option("--suite", help="Its scores of this suite; the only one it has by default.")
    ] = None,
    run_id: Annotated[str | None, typer.Option("--run", help="Take the scores from this run.")] = None,
    form: Annotated[CardFormat, typer.Option("--format", help="What to write.")] = CardFormat.MODEL_INDEX,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the model in the card; the candidate's by default.")
    ] = None,
    update: Annotated[
        Path | None, typer.Option("--update", help="Splice the metadata into this README.md.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Write model-index metadata, .eval_results, or a table of a candidate's scores."""
    from orchestrator.card_output import CardRequest, update_file, written
    from orchestrator.results import find_result, results_of_run
    from orchestrator.settings import Settings
    from orchestrator.store import Store

    settings = Settings.from_environment()
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        result = find_result(store, candidate, run_id)
        others = results_of_run(store, result.run_id)
    base = next((r for r in others if r.candidate.is_base and r.engine == result.engine), None)
    request = CardRequest(
        result=result, base=base, suite=suite, name=name or candidate, written_at=datetime.now(UTC)
    )
    if update is not None:
        update_file(update, request)
        typer.echo(
            f"{update} now carries the model-index of {candidate}; every other byte is as it was.", err=True
        )
        return
    text = written(request, form.value)
    typer.echo(json.dumps({"format": form.value, "text": text}) if as_json else text)
