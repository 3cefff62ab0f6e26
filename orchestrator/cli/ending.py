"""How a command ends: its exit code, and an error as one sentence on stderr and, with --json, as JSON on stdout.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | jobs of the run failed, `doctor` or `db check` found something broken, or `gate` says NO-GO |
| 2 | bad input, or something that the user has to mend |
| 3 | `gate` says INCONCLUSIVE |
| 130 | interrupted by Ctrl-C or SIGTERM |
| 141 | whoever read the output has gone |
"""

from __future__ import annotations

import errno
import os
import sys
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.run.scheduler import RunSummary

_LONGEST = 4_000
"""Characters of an error that are shown; names in it can be as long as their file."""


class ExitCode(IntEnum):
    """What the shell is told."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    INTERRUPTED = 130
    NO_READER = 141


class Ended(Exception):
    """A command ends before its end, with a sentence and an exit code.

    With `told` the command has printed its JSON already, this sentence included.
    """

    def __init__(self, sentence: str, code: ExitCode, *, told: bool = False) -> None:
        super().__init__(sentence)
        self.code = code
        self.told = told


def error_data(sentence: str, code: ExitCode) -> dict[str, object]:
    """An error as scripts read it, under the key `error`."""
    from orchestrator.display.text_safety import line

    return {"exit_code": int(code), "kind": code.name.lower(), "message": line(sentence, _LONGEST)}


def error_key(failure: str | None, code: ExitCode = ExitCode.FAILED) -> dict[str, object]:
    """The key `error` of a command's own JSON; nothing where nothing failed."""
    return {} if failure is None else {"error": error_data(failure, code)}


def report(sentence: str, code: ExitCode, *, where: str = "mergeboard", told: bool = False) -> int:
    """Print an error for people on stderr and, if --json was given and nothing was printed yet, for scripts on stdout."""
    from orchestrator.display.text_safety import line

    print(f"{where}: {line(sentence, _LONGEST)}", file=sys.stderr)
    if as_json() and not told:
        import json

        print(json.dumps({"error": error_data(sentence, code)}))
    return int(code)


def as_json() -> bool:
    """Whether --json stands on the command line, also on one that cannot be parsed."""
    return "--json" in _options()


def is_verbose() -> bool:
    """Whether -v stands on the command line."""
    return bool({"-v", "--verbose"} & set(_options()))


def _options() -> list[str]:
    words = sys.argv[1:]
    return words[: words.index("--")] if "--" in words else words


def of_file(error: OSError) -> str | None:
    """The sentence for a file that cannot be used; None where the error names no file and is no full disk."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full ({error.filename or 'while writing'}); free some space and run the same command again."
    if error.filename is None:
        return None
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return (
            f"{error.filename} may not be read or written; check its permissions, or choose another place with "
            "MERGEBOARD_HOME or --out."
        )
    return f"{error.filename} cannot be used ({error.strerror}); check the path."


def without_reader() -> int:
    """End quietly where the reader of stdout has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to be flushed at exit
    return int(ExitCode.NO_READER)


def failure_of(summary: RunSummary, labels: dict[str, str]) -> str | None:
    """The sentence for a run with failed jobs, by their names; None where none failed."""
    if not summary.failed:
        return None
    digest, message = next(iter(summary.failed.items()))
    first = message.splitlines()[0] if message else "no message"
    label = labels.get(digest) or summary.labels.get(digest, digest)
    return (
        f"{len(summary.failed)} job(s) of run {summary.run_id} failed and {summary.blocked} could not start; the first is "
        f"{label}: {first} (`mergeboard status {summary.run_id}` shows all with their logs; "
        f"`mergeboard resume {summary.run_id}` tries again)."
    )
