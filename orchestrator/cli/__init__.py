"""The command line. Each command is a thin layer: parse, call, print; everything else lives elsewhere.

One file per command, imported when it is called (`commands.py` is the table): `mergeboard --help` imports nothing heavy.
"""

from __future__ import annotations

import errno
import io
import sys
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from evals.errors import EvaluationError
from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.ending import Ended, ExitCode, is_verbose, of_file, report, without_reader
from orchestrator.cli.interrupts import same_command
from orchestrator.cli.lazy import LazyGroup
from orchestrator.errors import MergeboardError
from recipes.errors import RecipeError


class MainGroup(LazyGroup):
    """All commands."""

    table = COMMANDS


app = typer.Typer(
    cls=MainGroup,
    name="mergeboard",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(value: bool) -> None:
    if value:
        from orchestrator.version import version_text

        typer.echo(f"mergeboard {version_text()}")
        raise typer.Exit


@app.callback()
def mergeboard(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print version and commit."),
    ] = False,
) -> None:
    """Find out which differences between language models are real.

    Each command has its options and an example in `mergeboard COMMAND -h`. `mergeboard --install-completion` makes the shell
    complete commands and options (bash, zsh, fish, PowerShell).

    \b
    Exit codes: 0 done, 1 jobs failed or NO-GO, 2 bad input, 3 INCONCLUSIVE, 130 interrupted (Ctrl-C, SIGTERM).
    With --json stdout holds one JSON document; an error is its key "error".
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Entry point: bad input ends in one sentence on stderr and exit code 2, never in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files can hold bytes that are no text
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_run())


def _run() -> int:
    """Run the command that `sys.argv` names; its exit code."""
    try:
        code: Any = get_command(app).main(prog_name="mergeboard", standalone_mode=False)
    except Ended as error:
        return report(str(error), error.code, told=error.told)
    except TyperException as error:
        return _misused(error)
    except (MergeboardError, RecipeError, EvaluationError) as error:
        if is_verbose():
            sys.excepthook(type(error), error, error.__traceback__)
        return report(str(error), ExitCode.REFUSED)
    except OSError as error:
        return _file_problem(error)
    except typer.Abort:
        code = ExitCode.INTERRUPTED
    if code == ExitCode.INTERRUPTED:  # what typer makes of Ctrl-C in a command that writes nothing
        return report(f"Stopped. Start again with: {same_command()}", ExitCode.INTERRUPTED)
    return code if isinstance(code, int) else ExitCode.DONE


def _file_problem(error: OSError) -> int:
    """A file that cannot be used, a full disk, or a reader of our output that has gone; others are raised again."""
    if error.errno == errno.EPIPE:
        return without_reader()
    sentence = of_file(error)
    if sentence is None:
        raise error
    return report(sentence, ExitCode.REFUSED)


def _misused(error: TyperException) -> int:
    """A command, option or argument that does not exist, is missing, or has a value that it cannot have."""
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "mergeboard"
    sentence = _bad_value(error) or error.format_message()
    end = "" if sentence.endswith(("?", ".")) else "."
    return report(f"{sentence}{end} `{where} -h` shows what there is.", ExitCode.REFUSED, where=where)


def _bad_value(error: TyperException) -> str | None:
    """The sentence for a value that an option does not take; None for any other mistake."""
    from pydantic import ValidationError

    if not isinstance(error, typer.BadParameter) or not isinstance(error.__cause__, ValidationError):
        return None
    first = error.__cause__.errors(include_url=False)[0]
    reason = first.get("ctx", {}).get("error", first["msg"])
    name = " / ".join(error.param.opts) if error.param is not None else "the command line"
    return f"{name}: {reason}"
