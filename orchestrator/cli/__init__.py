"""The command line. Each command is a thin layer: parse, call, print; everything else lives elsewhere.

Heavy imports happen inside the commands, so that `mergeboard --help` answers at once.
"""

from __future__ import annotations

import errno
import io
import os
import sys

import typer

from evals.errors import EvaluationError
from orchestrator.cli.cards_commands import register as register_cards
from orchestrator.cli.data_commands import register as register_data
from orchestrator.cli.results_commands import register as register_results
from orchestrator.cli.run_commands import register as register_runs
from orchestrator.cli.scan_commands import register as register_scans
from orchestrator.errors import MergeboardError
from recipes.errors import RecipeError

_LONGEST = 4_000
"""Characters of an error that are shown; names in it can be as long as their file."""

app = typer.Typer(
    name="mergeboard",
    help="Reproduces leaderboard claims about merged and relayered language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
for register in (register_runs, register_results, register_cards, register_scans, register_data):
    register(app)


def main() -> None:
    """Entry point: bad input ends in one sentence on stderr and exit code 2, never in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files can hold bytes that are no text
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except (MergeboardError, RecipeError, EvaluationError) as error:
        sys.exit(_refuse(str(error)))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            sys.exit(
                _refuse(
                    f"The disk is full ({error.filename or 'while writing'}); free some space and run the same command again."
                )
            )
        if error.errno == errno.EPIPE:  # the reader of our output has gone
            sys.exit(_without_reader())
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM) and error.filename:
            sys.exit(
                _refuse(
                    f"{error.filename} may not be read or written; check its permissions, or choose another place with "
                    "MERGEBOARD_HOME or --out."
                )
            )
        if error.filename is None:
            raise
        sys.exit(_refuse(f"{error.filename} cannot be used ({error.strerror}); check the path."))
    except KeyboardInterrupt:
        sys.exit(_refuse("Stopped; what was finished is kept, and the same command goes on from there.", 130))


def _refuse(sentence: str, code: int = 2) -> int:
    from orchestrator.display.text_safety import line

    print(f"mergeboard: {line(sentence, _LONGEST)}", file=sys.stderr)
    return code


def _without_reader() -> int:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to be flushed at exit
    return 141
