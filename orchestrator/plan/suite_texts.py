"""The users' suites of a sweep as one file of definitions, for a driver that has none of the user's files."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from evals.suite import Suite, suite_names
from evals.suite_file import SuiteRequest
from orchestrator.errors import SweepError
from orchestrator.plan.benchmarks import resolve_suites
from orchestrator.plan.sweep import SweepFile

SUITES_NAME = "suites.json"


def write_suites(file: SweepFile, folder: Path) -> None:
    """Resolve the sweep's suites here and write those of the user's to `folder`; nothing if there are none."""
    resolved = resolve_suites(file.sweep, Path(file.folder), {})
    own = [[r.model_dump(mode="json"), s.text] for r, s in resolved.items() if s.name not in suite_names()]
    if own:
        (folder / SUITES_NAME).write_text(json.dumps(own), encoding="utf-8")


def read_suites(folder: Path) -> dict[SuiteRequest, Suite]:
    """The suites in a folder, by what names them in the sweep; SweepError if the file cannot be read."""
    path = folder / SUITES_NAME
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {SuiteRequest.model_validate(r): Suite.model_validate_json(text) for r, text in entries}
    except (ValueError, TypeError, ValidationError) as error:
        raise SweepError(
            f"{path} holds no definitions of suites; submit the sweep again with this version."
        ) from error
