"""A process of low priority that makes comparisons: beside the pages' own process they made every page slower.

    python -m dashboard.comparing_process

reads one request per line (a run and a pair, JSON) from its standard input and answers each with one line; it ends
with its input, and so with the dashboard. An error that nobody expects ends it too, with its traceback in the
dashboard's log; the next request starts it again.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Any

from pydantic import ValidationError

from evals.errors import EvaluationError
from orchestrator.compare.family import PairOfRun
from orchestrator.compare.kept import PairReader
from orchestrator.compare.run_comparisons import SideReader
from orchestrator.errors import MergeboardError
from orchestrator.settings import Settings
from orchestrator.store.comparisons import ScoredCandidate
from orchestrator.store.pages import Pages

_LOWEST_PRIORITY = 19
_MOST_EVALUATIONS = 64
EXPECTED = (EvaluationError, MergeboardError, ValidationError, OSError)
"""Errors of samples and stores, which a page shows as they are."""

Compared = tuple[str, bool]
"""A comparison as JSON, uncorrected, and whether samples could not be read."""


class ComparingProcess:
    """Starts the process on the first request, and again if it has ended. For one thread."""

    def __init__(self) -> None:
        self._command = [sys.executable, "-P", "-m", "dashboard.comparing_process"]
        self._process: subprocess.Popen[str] | None = None

    def compare(self, run_id: str, pair: PairOfRun) -> Compared:
        """Compare one pair. Raises MergeboardError if it fails or the process ends."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        request = {
            "run": run_id,
            "base": pair.base.model_dump(),
            "candidate": pair.candidate.model_dump(),
            "key": pair.key,
        }
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:
            answer = ""
        if not answer:
            raise MergeboardError(
                f"This comparison ended the process that compares, with exit code {process.wait()}; the dashboard's log says why, and "
                "`mergeboard db check` tells whether the store and its samples are whole."
            )
        fields: dict[str, Any] = json.loads(answer)
        if "failure" in fields:
            raise MergeboardError(fields["failure"])
        return fields["comparison"], fields["unread"]

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is not None:
            self.close()
            self._process = None
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
            )
        return self._process


def main() -> None:
    """Answer requests until the input ends."""
    # What a library prints must not stand among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if hasattr(os, "nice"):
        os.nice(_LOWEST_PRIORITY)
    settings = Settings.from_environment()
    pages = Pages.open(settings.database_url, create=False, read_only=True)
    assert isinstance(pages, Pages)
    reader = PairReader(pages, SideReader(settings.home, kept=_MOST_EVALUATIONS))
    defined: set[str] = set()
    # The dashboard can end while a comparison is under way.
    with contextlib.suppress(BrokenPipeError):
        for request in sys.stdin:
            fields = json.loads(request)
            if fields["run"] not in defined:
                pages.define_suites()  # a run brings suites of its own
                defined.add(fields["run"])
            answers.write(json.dumps(_answer(reader, fields)) + "\n")
            answers.flush()


def _answer(reader: PairReader, fields: dict[str, Any]) -> dict[str, Any]:
    base, candidate = (ScoredCandidate.model_validate(fields[side]) for side in ("base", "candidate"))
    try:
        comparison, unread = reader.compare(fields["run"], PairOfRun(base, candidate, fields["key"]))
    except EXPECTED as error:
        return {"failure": str(error)}
    return {"comparison": comparison.model_dump_json(), "unread": unread}


if __name__ == "__main__":
    main()
