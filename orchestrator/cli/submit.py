"""mergeboard submit"""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import options


def submit(
    sweep: options.SweepPath,
    address: Annotated[str, typer.Option("--address", help=options.ADDRESS_FORMS, metavar="ADDRESS")],
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Hand a sweep to a cluster and print the run's id; the run goes on without this machine.

    \b
    Example:
      mergeboard submit my-sweep.yaml --address http://head:8265
    """
    from orchestrator.cli.inputs import sweep_file
    from orchestrator.cli.interrupts import interruptible, same_command
    from orchestrator.cluster.submit import submit as hand_over
    from orchestrator.run.run import to_stderr
    from orchestrator.settings import Settings

    file, settings = sweep_file(sweep), Settings.from_environment()
    told: list[str] = []

    def say(sentence: str) -> None:
        told.append(sentence)
        if not quiet:
            to_stderr(sentence)

    def stopped() -> str:
        if not told:
            return f"Stopped before the cluster had the sweep. Start again with: {same_command()}"
        return (
            "Stopped waiting; the cluster has the sweep and goes on with it. `mergeboard status` lists the run once it is planned, "
            f"`ray job list --address {address}` shows its driver."
        )

    with interruptible(stopped):
        sent = hand_over(file, address, settings, say=say)
    if as_json:
        typer.echo(sent.model_dump_json(indent=2))
        return
    typer.echo(sent.run_id)
    if quiet:
        return
    if sent.in_our_store:
        watching = f"`mergeboard watch {sent.run_id}` shows it"
    else:
        watching = (
            f"it is in the store {sent.store}, which this machine does not read: `ray job logs --follow {sent.job_id} --address "
            f"{address}` shows it from here, `mergeboard watch {sent.run_id}` where MERGEBOARD_DATABASE_URL names that store"
        )
    typer.echo(f"Ray's job {sent.job_id} drives it; {watching}.", err=True)
