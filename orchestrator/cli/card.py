"""mergeboard card"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options

if TYPE_CHECKING:
    from orchestrator.cards.candidate import CardRequest, ImportedCardRequest
    from orchestrator.cards.splice import CardText
    from orchestrator.store import Store


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
            metavar="CANDIDATE",
            help="Name of a candidate, as tables call it, or an imported run by checkpoint, id or path.",
            show_default=False,
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
        typer.Option(
            "--update", metavar="FILE", help="Splice it into this README.md, or .eval_results/NAME.yaml."
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            "--push", metavar="REPO", help="Show the change, ask, and open a pull request on the hub."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --push: do not ask.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Write model-index metadata, .eval_results, or a table of a candidate's scores.

    \b
    Example:
      mergeboard card my-merge --run my-sweep --update README.md
    """
    from orchestrator.cards.candidate import rendered
    from orchestrator.errors import CardError
    from orchestrator.settings import Settings
    from orchestrator.store import Store

    if update is not None and push is not None:
        raise CardError("Give --update or --push, not both.")
    settings = Settings.from_environment()
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        request = _request(store, candidate, suite, run_id, name)
    text = rendered(request, form.value)
    for reason in text.refused:
        typer.echo(f"Left out: {reason}.", err=True)
    if update is not None:
        _update(update, text, candidate, as_json=as_json)
    elif push is not None:
        _push(push, text, request.name, yes=yes, as_json=as_json)
    else:
        shown = {"format": form.value, "text": text.text, "left_out": list(text.refused)}
        typer.echo(json.dumps(shown) if as_json else text.text)


def _request(
    store: Store, candidate: str, suite: str | None, run_id: str | None, name: str | None
) -> CardRequest | ImportedCardRequest:
    """The candidate's request, or that of an imported run if no candidate has the name."""
    from orchestrator.cards.candidate import CardRequest, ImportedCardRequest
    from orchestrator.compare.imported import one_run
    from orchestrator.compare.lookup import find_result
    from orchestrator.compare.run_comparisons import results_of_run

    imported = None
    if run_id is None and not store.find_candidates(candidate):
        imported = one_run(store, candidate)
    if imported is not None:
        results = store.imported_results([imported.id]).get(imported.id, ())
        return ImportedCardRequest(
            run=imported, results=results, suite=suite, name=name or imported.checkpoint
        )
    result = find_result(store, candidate, store.find_run(run_id) if run_id is not None else None)
    others = results_of_run(store, result.run_id)
    base = next((r for r in others if r.candidate.is_base and r.engine == result.engine), None)
    return CardRequest(result=result, base=base, suite=suite, name=name or candidate)


def _update(path: Path, text: CardText, candidate: str, *, as_json: bool) -> None:
    from orchestrator.cards.splice import require_for_a_file, updated, write_text

    require_for_a_file(text)
    new, kept = updated(path, text)
    write_text(path, new)
    for title in kept:
        typer.echo(f"Kept as it was: {title}, which is not among these scores.", err=True)
    typer.echo(f"{path} now carries the {text.form} of {candidate}; every other byte is as it was.", err=True)
    if as_json:
        typer.echo(json.dumps({"updated": str(path), "kept": list(kept)}))


def _push(repository: str, text: CardText, name: str, *, yes: bool, as_json: bool) -> None:
    from orchestrator.cards.push import open_pull_request, propose
    from orchestrator.cards.splice import require_for_a_file
    from orchestrator.display.text_safety import plain
    from orchestrator.errors import CardError

    require_for_a_file(text)
    proposal = propose(repository, text)
    typer.echo(plain(proposal.diff), err=True)
    for title in proposal.kept:
        typer.echo(f"Kept as it was: {title}, which is not among these scores.", err=True)
    if not yes and not sys.stdin.isatty():
        raise CardError("Nothing was sent: a pull request needs a yes; run it in a terminal, or add --yes.")
    if not yes and not typer.confirm(f"Open a pull request on {repository} with this change?", err=True):
        raise CardError("Nothing was sent.")
    url = open_pull_request(proposal, f"Add evaluation results of {name}")
    typer.echo(json.dumps({"pull_request": url}) if as_json else url)
