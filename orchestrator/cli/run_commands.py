"""plan, run, submit, eval, build, resume, status, watch, cancel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options

if TYPE_CHECKING:
    from orchestrator.plan.capacity import ClusterFacts
    from orchestrator.plan.plan import Plan
    from orchestrator.plan.sweep import SweepFile
    from orchestrator.run.scheduler import RunSummary
    from orchestrator.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for name, function in (
        ("plan", plan),
        ("run", run),
        ("submit", submit),
        ("eval", evaluate),
        ("build", build),
        ("resume", resume),
        ("status", status),
        ("watch", watch),
        ("cancel", cancel),
    ):
        app.command(name)(function)


def plan(
    file: Annotated[Path, typer.Argument(help="A sweep, a recipe (mergekit YAML), or a model card.")],
    source: options.SourceMap = None,
    address: options.Address = None,
    as_json: options.AsJson = False,
) -> None:
    """Show jobs, layers, parameters, bytes, what is cached and what it will cost; touches nothing.

    With --address a sweep is planned for the cluster's nodes: their engines, their GPUs, their data.
    """
    from orchestrator.cli.plan_view import show_plan
    from orchestrator.settings import Settings

    show_plan(file, Settings.from_environment(), sources=source or [], as_json=as_json, address=address)


def run(sweep: options.SweepPath, address: options.Address = None, as_json: options.AsJson = False) -> None:
    """Plan, execute, show progress until done; what is in the store already is not run again."""
    from orchestrator.plan.sweep import load_sweep
    from orchestrator.settings import Settings

    _plan_and_execute(load_sweep(sweep), Settings.from_environment(), address, as_json)


def submit(
    sweep: options.SweepPath,
    address: Annotated[str, typer.Option("--address", help=options.ADDRESS_FORMS, metavar="ADDRESS")],
    as_json: options.AsJson = False,
) -> None:
    """Hand a sweep to a cluster and print the run's id; the run goes on without this machine."""
    from orchestrator.cluster.submit import submit as hand_over
    from orchestrator.plan.sweep import load_sweep
    from orchestrator.run.run import to_stderr
    from orchestrator.settings import Settings

    sent = hand_over(load_sweep(sweep), address, Settings.from_environment(), say=to_stderr)
    if as_json:
        typer.echo(sent.model_dump_json(indent=2))
        return
    typer.echo(sent.run_id)
    if sent.in_our_store:
        watching = f"`mergeboard watch {sent.run_id}` shows it"
    else:
        watching = (
            f"it is in the store {sent.store}, which this machine does not read: `ray job logs --follow {sent.job_id} --address "
            f"{address}` shows it from here, `mergeboard watch {sent.run_id}` where MERGEBOARD_DATABASE_URL names that store"
        )
    typer.echo(f"Ray's job {sent.job_id} drives it; {watching}.", err=True)


def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="A directory, an embedded name, or org/name@commit.")],
    suite: options.SuiteName,
    benchmark: Annotated[
        list[str] | None, typer.Option("--benchmark", help="Only this benchmark of the suite (repeatable).")
    ] = None,
    limit: options.Limit = None,
    layer_path: Annotated[
        str | None, typer.Option("--layer-path", help='Run this path of its layers, for example "(3, 5)".')
    ] = None,
    engine: options.EngineName = "vllm",
    dtype: options.Dtype = "bfloat16",
    execution: Annotated[
        str | None,
        typer.Option("--execution", help="eager, graphs or compiled; by default graphs on GPUs, else eager."),
    ] = None,
    batch_invariant: options.BatchInvariant = False,
    chat_template: options.Template = "auto",
    address: options.Address = None,
    as_json: options.AsJson = False,
) -> None:
    """Score one checkpoint, or one layer path of it; the base of the path is scored beside it."""
    from orchestrator.plan.sweep import sweep_of_values
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    file = sweep_of_values(
        {
            "name": f"eval {checkpoint} {suite}",
            "base": checkpoint,
            "recipes": [{"layer_path": layer_path}] if layer_path else [],
            "suites": [
                {
                    "suite": suite,
                    **({"benchmarks": benchmark} if benchmark else {}),
                    **({"limit": limit} if limit else {}),
                }
            ],
            "engines": [
                {
                    "kind": engine,
                    "dtype": dtype,
                    **({"execution": execution} if execution else {}),
                    **({"batch_invariant": True} if batch_invariant else {}),
                }
            ],
            "chat_template": chat_template,
        },
        origin="mergeboard eval",
    )
    _plan_and_execute(file, settings, address, as_json)


def build(
    recipe: Annotated[
        str,
        typer.Argument(help='A recipe file, a catalogue name, or a layer path such as "(3, 5)" with --base.'),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write the checkpoint to; must not exist.")],
    base: Annotated[
        str | None, typer.Option("--base", help="The checkpoint that a layer path is of.")
    ] = None,
    source: options.SourceMap = None,
) -> None:
    """Materialise one recipe as an ordinary checkpoint directory."""
    from orchestrator.run.build import build_to
    from orchestrator.settings import Settings

    made = build_to(recipe, out, Settings.from_environment(), base=base, sources=source or [])
    typer.echo(
        f"{made.path}: {made.layers} layers, {made.parameters:,} parameters, {made.size_bytes:,} bytes ({made.how}, {made.duration_s:.1f} s)"
    )


def resume(run_id: options.RunId, address: options.Address = None, as_json: options.AsJson = False) -> None:
    """Go on with a run that was stopped, from any machine that sees its store."""
    from orchestrator.run.run import stored_plan
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    _execute(stored_plan(run_id, settings), settings, address, as_json)


def status(
    run_id: Annotated[str | None, typer.Argument(help="Id of a run; without it all runs are listed.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """List runs, or tell how far one is and what failed."""
    from orchestrator.cli.status_view import show_run, show_runs
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    if run_id is None:
        show_runs(settings, as_json)
    else:
        show_run(settings, run_id, as_json)


def watch(run_id: options.RunId, period_s: Annotated[float, typer.Option("--period", min=0.2)] = 2.0) -> None:
    """Show a run's progress until it ends; Ctrl-C leaves the run alone."""
    from orchestrator.cli.status_view import watch_run
    from orchestrator.settings import Settings

    watch_run(Settings.from_environment(), run_id, period_s)


def cancel(run_id: options.RunId) -> None:
    """Stop a run within seconds; what is finished is kept."""
    from orchestrator.run.run import cancel_run
    from orchestrator.settings import Settings

    cancel_run(run_id, Settings.from_environment())
    typer.echo(
        f"Run {run_id} is cancelled; what was finished is kept. `mergeboard resume {run_id}` goes on with it."
    )


def _plan_and_execute(file: SweepFile, settings: Settings, address: str | None, as_json: bool) -> None:
    """Plan for the cluster that the run will have, and run."""
    from orchestrator.cluster import disconnect
    from orchestrator.run.run import cluster_for, gpus_of, plan_for

    cluster = cluster_for(settings, address, gpus=gpus_of(file.sweep))
    try:
        made = plan_for(file, settings, cluster)
    except BaseException:
        disconnect()
        raise
    _execute(made, settings, address, as_json, cluster)


def _execute(
    made: Plan, settings: Settings, address: str | None, as_json: bool, cluster: ClusterFacts | None = None
) -> None:
    """Run a plan with progress on stderr, then print its results."""
    from orchestrator.cli.progress import TerminalReporter
    from orchestrator.cli.results_view import show_results
    from orchestrator.display.text_safety import Terminal
    from orchestrator.run.run import execute

    console = Terminal(stderr=True)
    for note in made.notes:
        console.print(f"Note: {note}", soft_wrap=True, markup=False)
    for missing in made.missing:
        console.print(
            f"Not run here: {missing.suite} {missing.benchmark}: {missing.reason}",
            soft_wrap=True,
            markup=False,
        )
    for candidate in made.candidates:
        for remark in candidate.remarks:
            console.print(f"{candidate.name}: {remark}", soft_wrap=True, markup=False)
    with TerminalReporter(console) as reporter:
        summary = execute(made, settings, reporter, address=address, cluster=cluster)
    show_results(summary, made, settings, as_json=as_json)
    raise_failures(summary)


def raise_failures(summary: RunSummary) -> None:
    """The sentence for jobs of a run that failed, as an error."""
    from orchestrator.errors import RunError

    if summary.failed:
        first = next(iter(summary.failed.values())).splitlines()[0]
        raise RunError(
            f"{len(summary.failed)} job(s) of run {summary.run_id} failed and {summary.blocked} could not start; the first: {first} "
            f"(`mergeboard status {summary.run_id}` shows all with their logs; `mergeboard resume {summary.run_id}` tries again)."
        )
