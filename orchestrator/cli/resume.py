"""mergeboard resume"""

from __future__ import annotations

from orchestrator.cli import options


def resume(
    run_id: options.RunId,
    address: options.Address = None,
    whole: options.Whole = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
) -> None:
    """Go on with a run that was stopped or has failed jobs, from any machine that sees its store; with --whole, ask what stopped early to its end.

    \b
    Example:
      mergeboard resume my-sweep-1a2b3c4d
      mergeboard resume my-sweep-1a2b3c4d --whole
    """
    from orchestrator.cli.execution import Execution
    from orchestrator.cli.inputs import run_of
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    Execution(settings, address, as_json, quiet, verbose).of_run(run_of(settings, run_id), whole=whole)
