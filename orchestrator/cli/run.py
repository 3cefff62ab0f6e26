"""mergeboard run"""

from __future__ import annotations

from orchestrator.cli import options


def run(
    sweep: options.SweepPath,
    address: options.Address = None,
    whole: options.Whole = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
) -> None:
    """Plan, execute, show progress until done; what is in the store already is not run again.

    Ctrl-C stops it at any moment: what is finished is kept, and `mergeboard resume` goes on from there.

    \b
    Example:
      mergeboard run my-sweep.yaml
    """
    from orchestrator.cli.execution import Execution
    from orchestrator.cli.inputs import sweep_file
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    Execution(settings, address, as_json, quiet, verbose).of_sweep(sweep_file(sweep), whole=whole)
