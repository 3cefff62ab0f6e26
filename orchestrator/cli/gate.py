"""mergeboard gate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator.cli import options

FormatChoice = Literal["text", "json", "markdown", "junit"]


def gate(
    candidate: Annotated[
        str,
        typer.Argument(
            metavar="CANDIDATE",
            help="Name of a candidate, or an imported run by checkpoint, id or path; with --run a checkpoint.",
            show_default=False,
        ),
    ],
    base: Annotated[
        str,
        typer.Option(
            "--base", metavar="BASE", help="What to compare with, by name; with --run a checkpoint."
        ),
    ] = "base",
    policy: Annotated[
        Path, typer.Option("--policy", metavar="FILE", help="Policy file (docs/gate.md).", show_default=False)
    ] = Path("gate.yaml"),
    run_id: Annotated[
        str | None,
        typer.Option(
            "--from-run", metavar="RUN", help="Only this run, by its id or the beginning of its id."
        ),
    ] = None,
    evaluate: Annotated[
        bool,
        typer.Option(
            "--run", help="Evaluate what is missing, within the policy's budget, until it is decided."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Compare what is not like for like; stays visible.")
    ] = False,
    form: Annotated[FormatChoice, typer.Option("--format", help="Format of the report.")] = "text",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Write the report to this file; stdout then has the verdict alone."
        ),
    ] = None,
    engine: options.EngineName = "vllm",
    dtype: options.Dtype = "bfloat16",
    chat_template: options.Template = "auto",
    address: options.Address = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """GO, NO-GO or INCONCLUSIVE: whether a candidate holds a policy against its base.

    Exit codes: 0 GO, 1 NO-GO, 3 INCONCLUSIVE, 2 bad input.

    \b
    Example:
      mergeboard gate my-merge --base base --policy gate.yaml --format junit --out gate.xml
    """
    from orchestrator.compare.gate_formats import GateFormat, render
    from orchestrator.compare.gate_policy import load_policy
    from orchestrator.compare.gate_stored import gate_of_names
    from orchestrator.settings import Settings
    from orchestrator.store import Store

    rules = load_policy(policy)
    settings = Settings.from_environment()
    if evaluate:
        from orchestrator.cli.gate_run import Evaluator, gate_with_runs

        evaluator = Evaluator(settings, engine, dtype, chat_template, address, quiet)
        report = gate_with_runs(rules, candidate, base, evaluator, force=force)
    else:
        with Store.open(settings.database_url, create=False, read_only=True) as store:
            run = store.find_run(run_id) if run_id is not None else None
            report = gate_of_names(store, rules, candidate, base, settings.home, run_id=run, force=force)
    text = render(report, GateFormat.JSON if as_json else GateFormat(form))
    if out is not None:
        out.write_text(text, encoding="utf-8")
        typer.echo(report.verdict)
    else:
        typer.echo(text, nl=False)
    raise typer.Exit(report.exit_code)
