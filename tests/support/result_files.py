"""Import of every result file at a path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evals.results_files import ImportedRun, import_result, is_alone, result_files
from evals.suite import Suite


def import_results(path: Path, suites: Sequence[Suite] | None = None) -> tuple[ImportedRun, ...]:
    """Import every result file at a path, oldest first."""
    files = result_files(path)
    runs = [import_result(file, suites, alone=is_alone(file, files)) for file in files]
    return tuple(
        sorted(runs, key=lambda r: (r.file.measured_at is None, str(r.file.measured_at), r.file.source))
    )
