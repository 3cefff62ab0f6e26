"""mergeboard doctor"""

from __future__ import annotations

import json

import typer

from orchestrator.cli import options
from orchestrator.cli.ending import ExitCode


def doctor(address: options.Address = None, as_json: options.AsJson = False) -> None:
    """What this machine or cluster can do, what is missing, and the command that mends it.

    \b
    Example:
      mergeboard doctor --address head:6379
    """
    from orchestrator.display.text_safety import Terminal
    from orchestrator.doctor import Health, examine
    from orchestrator.settings import Settings

    console = Terminal()
    findings = []
    for finding in examine(Settings.from_environment(), address):
        findings.append(finding)
        if not as_json:
            mark = {Health.OK: "ok     ", Health.MISSING: "missing", Health.BROKEN: "BROKEN "}[finding.health]
            console.print(f"{mark} {finding.name}: {finding.message}", markup=False, soft_wrap=True)
            if finding.mend:
                console.print(f"        mend: {finding.mend}", markup=False, soft_wrap=True)
    if as_json:
        print(json.dumps([f.model_dump(mode="json") for f in findings], indent=2))
    if any(f.health is Health.BROKEN for f in findings):
        raise typer.Exit(ExitCode.FAILED)
