"""Reads result files of other tools than lm-eval: lighteval, Inspect and Every Eval Ever."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evals.errors import ClaimError
from evals.outside_file import parse_json, read_file
from evals.results_files.every_eval import is_every_eval, read_every_eval
from evals.results_files.imported_run import ImportedRun
from evals.results_files.inspect_log import is_inspect_log, read_inspect_archive, read_inspect_log
from evals.results_files.lighteval import is_lighteval, read_lighteval

MAX_BYTES = 256_000_000
"""Maximum size of such a file; an Inspect log in JSON holds its samples."""

_READERS: tuple[
    tuple[Callable[[dict[str, Any]], bool], Callable[[dict[str, Any], Path], ImportedRun]], ...
] = (
    (is_every_eval, read_every_eval),
    (is_inspect_log, read_inspect_log),
    (is_lighteval, read_lighteval),
)


def read_foreign(path: Path) -> ImportedRun | None:
    """The run in a file of another tool; None if the file is none. Raises ClaimError for a broken one."""
    if path.suffix == ".eval":
        return read_inspect_archive(path)
    data = _object(path)
    if data is None:
        return None
    read = next((reader for fits, reader in _READERS if fits(data)), None)
    return None if read is None else read(data, path)


def is_foreign(path: Path) -> bool:
    """Whether a file looks like a result of another tool; its content is not checked."""
    if path.suffix == ".eval":
        return True
    data = _object(path)
    return data is not None and any(fits(data) for fits, _ in _READERS)


def _object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if it is none, which the reader of lm-eval's files reports."""
    if path.suffix != ".json":
        return None
    try:
        data = parse_json(read_file(path, MAX_BYTES))
    except OSError as error:
        raise ClaimError(f"{path} cannot be read ({error.strerror}); give a result file.") from error
    except ValueError:
        return None
    return data if isinstance(data, dict) else None
