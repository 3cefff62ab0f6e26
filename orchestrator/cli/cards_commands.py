"""card, reproduce: scores as model-card metadata, and the claims of a card checked."""

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


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("card")(card)
    app.command("reproduce")(reproduce_)


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
    from orchestrator.cards.candidate import CardRequest, update_file, written
    from orchestrator.compare.lookup import find_result
    from orchestrator.compare.run_comparisons import results_of_run
    from orchestrator.settings import Settings
    from orchestrator.store import Store

    settings = Settings.from_environment()
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        result = find_result(store, candidate, run_id)
        others = results_of_run(store, result.run_id)
    base = next((r for r in others if r.candidate.is_base and r.engine == result.engine), None)
    request = CardRequest(result=result, base=base, suite=suite, name=name or candidate)
    if update is not None:
        update_file(update, request)
        typer.echo(
            f"{update} now carries the model-index of {candidate}; every other byte is as it was.", err=True
        )
        return
    text = written(request, form.value)
    typer.echo(json.dumps({"format": form.value, "text": text}) if as_json else text)


def reproduce_(
    path: Annotated[Path, typer.Argument(help="A model card (Markdown).", metavar="CARD.md")],
    source: options.SourceMap = None,
    engine: options.EngineName = "vllm",
    dtype: options.Dtype = "bfloat16",
    chat_template: options.Template = "auto",
    limit: options.Limit = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the claims and what it takes to check them.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Judge claims that were made in another way, too; stays visible.")
    ] = False,
    address: options.Address = None,
    as_json: options.AsJson = False,
) -> None:
    """Check a card claim by claim: build its recipe, evaluate it, and say what is reproduced; asks nothing."""
    from orchestrator.cli.console import wide_console
    from orchestrator.cli.progress import TerminalReporter
    from orchestrator.cli.reproduce_view import plan_data, show_reproduction_plan, show_verdicts
    from orchestrator.cli.run_commands import raise_failures
    from orchestrator.display.text_safety import Terminal
    from orchestrator.errors import CardError
    from orchestrator.reproduce import Options, plan_reproduction, reproduce
    from orchestrator.run.build import parse_source
    from orchestrator.run.run import cluster_for, execute
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    wanted = Options(
        sources=dict(parse_source(text) for text in source or []),
        engine=engine,
        dtype=dtype,
        chat_template=chat_template,
        limit=limit,
    )
    cluster = cluster_for(settings, None if dry_run else address, gpus=0 if dry_run else 1)
    made = plan_reproduction(path, settings, wanted, dry=dry_run, cluster=cluster)
    if not as_json:
        show_reproduction_plan(made, wide_console())
    if dry_run:
        if as_json:
            print(json.dumps(plan_data(made), indent=2))
        return
    if made.plan is None:
        raise CardError(f"{path} cannot be checked here: {made.problems[0]}")
    console = Terminal(stderr=True)
    with TerminalReporter(console) as reporter:
        summary = execute(made.plan, settings, reporter, address=address, cluster=cluster)
    record = reproduce(path, made, summary.run_id, settings, force=force)
    if as_json:
        print(json.dumps({**plan_data(made), **record.model_dump(mode="json")}, indent=2))
    else:
        show_verdicts(record, wide_console())
    raise_failures(summary)
