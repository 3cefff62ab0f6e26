"""mergeboard reproduce"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options


def reproduce(
    path: Annotated[
        Path, typer.Argument(help="A model card (Markdown).", metavar="CARD.md", show_default=False)
    ],
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
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
) -> None:
    """Check a card claim by claim: build its recipe, evaluate it, and say what is reproduced; asks nothing.

    \b
    Example:
      mergeboard reproduce README.md --dry-run
    """
    from orchestrator.cli.console import wide_console
    from orchestrator.cli.ending import Ended, ExitCode, error_key, failure_of
    from orchestrator.cli.interrupts import interruptible, stopped
    from orchestrator.cli.progress import TerminalReporter
    from orchestrator.cli.reproduce_view import plan_data, show_reproduction_plan, show_verdicts
    from orchestrator.display.text_safety import Terminal
    from orchestrator.errors import CardError
    from orchestrator.reproduce import Options, plan_reproduction
    from orchestrator.reproduce import reproduce as judge
    from orchestrator.run.build import parse_source
    from orchestrator.run.run import cluster_for, execute
    from orchestrator.run.scheduler import job_labels
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    asked = Options(
        sources=dict(parse_source(text) for text in source or []),
        engine=engine,
        dtype=dtype,
        chat_template=chat_template,
        limit=limit,
    )
    with interruptible(stopped):
        cluster = cluster_for(settings, None if dry_run else address, gpus=0 if dry_run else 1)
        planned = plan_reproduction(path, settings, asked, dry=dry_run, cluster=cluster)
        if not as_json:
            show_reproduction_plan(planned, wide_console())
        if dry_run:
            if as_json:
                print(json.dumps(plan_data(planned), indent=2))
            return
        if planned.plan is None:
            raise CardError(f"{path} cannot be checked here: {planned.problems[0]}")
        with TerminalReporter(Terminal(stderr=True), quiet=quiet) as reporter:
            summary = execute(planned.plan, settings, reporter, address=address, cluster=cluster)
        record = judge(path, planned, summary.run_id, settings, force=force)
    failure = failure_of(summary, job_labels(planned.plan))
    if as_json:
        data = {**plan_data(planned), **record.model_dump(mode="json"), **error_key(failure)}
        print(json.dumps(data, indent=2))
    else:
        show_verdicts(record, wide_console())
    if failure is not None:
        raise Ended(failure, ExitCode.FAILED, told=True)
