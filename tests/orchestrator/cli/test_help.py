"""The help of every command, the version, completion, and what `--help` may import."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from evals.engine import EngineKind, ExecutionMode
from evals.probes import RankMethod
from orchestrator import cli
from orchestrator.charts import ColourScale
from orchestrator.cli import options
from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.lazy import CommandGroup
from orchestrator.provenance import provenance
from orchestrator.version import version

# Each takes longer to import than the whole help may take; click's stand-in inside typer is all that the help needs.
HEAVY = (
    "alembic",
    "datasets",
    "numpy",
    "pandas",
    "pydantic",
    "ray",
    "rich",
    "sqlalchemy",
    "streamlit",
    "torch",
    "vllm",
    "yaml",
)


def entries() -> Iterator[tuple[str, ...]]:
    """The words of every command."""
    for section in COMMANDS.values():
        for name, entry in section.items():
            if isinstance(entry, CommandGroup):
                yield from ((name, inner) for inner in entry.entries)
            else:
                yield (name,)


def command_of(words: tuple[str, ...]) -> Any:
    """The click command of some words."""
    command: Any = get_command(cli.app)
    for word in words:
        command = command.commands[word]
    return command


def examples(words: tuple[str, ...]) -> list[list[str]]:
    """The command lines of a command's example."""
    text = command_of(words).help.partition("Example:")[2]
    return [shlex.split(line, comments=True) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("words", list(entries()), ids=" ".join)
def test_every_command_explains_itself(words: tuple[str, ...]) -> None:
    for flag in ("-h", "--help"):
        shown = CliRunner().invoke(cli.app, [*words, flag])
        assert shown.exit_code == 0
        assert "Example:\n    mergeboard " + " ".join(words) in shown.output


@pytest.mark.parametrize("words", list(entries()), ids=" ".join)
def test_every_example_is_a_command_line_that_parses(words: tuple[str, ...]) -> None:
    lines = examples(words)
    assert lines
    for line in lines:
        arguments = line[1 + len(words) :]
        if ">" in arguments:
            arguments = arguments[: arguments.index(">")]
        command = command_of(words)
        assert command.make_context(words[-1], arguments).params is not None


@pytest.mark.parametrize("words", list(entries()), ids=" ".join)
def test_arguments_and_free_text_have_field_like_names(words: tuple[str, ...]) -> None:
    for parameter in command_of(words).params:
        if parameter.param_type_name == "argument":
            assert any(letter.isupper() for letter in parameter.metavar), parameter.name


def test_the_help_has_headings_and_every_command() -> None:
    shown = CliRunner().invoke(cli.app, ["-h"])
    assert shown.exit_code == 0
    for heading, section in COMMANDS.items():
        assert f"{heading}:" in shown.output
        for name in section:
            assert f"\n  {name} " in shown.output
    assert CliRunner().invoke(cli.app, []).output == shown.output


def test_the_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from orchestrator import cli\n"
        "sys.argv = ['mergeboard', '--help']\n"
        "try:\n    cli.main()\n"
        "finally:\n    sys.stderr.write(' '.join(sys.modules))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "reproduce" in ended.stdout
    imported = set(ended.stderr.split())
    assert not imported & set(HEAVY)
    commands = {name for name in imported if name.startswith("orchestrator.cli.")}
    assert commands == {f"orchestrator.cli.{name}" for name in ("commands", "ending", "interrupts", "lazy")}


def test_the_version_is_the_one_that_provenance_keeps() -> None:
    shown = CliRunner().invoke(cli.app, ["--version"])
    kept = provenance()
    assert shown.exit_code == 0
    assert kept.versions["mergeboard"] == version()
    commit = f" (commit {kept.commit})" if kept.commit else ""
    assert shown.output == f"mergeboard {version()}{commit}\n"


def test_the_shell_completes_commands_and_options() -> None:
    def completed(line: str) -> list[str]:
        words = line.split(" ")
        asked = {
            "_MERGEBOARD_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        }
        program = "from orchestrator.cli import main; main()"
        ended = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | asked,
            capture_output=True,
            text=True,
            check=False,
        )
        return ended.stdout.split()

    assert completed("mergeboard su") == ["submit", "suite"]
    assert completed("mergeboard suite ") == ["list", "show", "init"]
    assert "--layer-path" in completed("mergeboard eval --la")


def test_the_choices_of_options_are_those_of_the_enums() -> None:
    assert set(get_args(options.EngineChoice)) == {kind.value for kind in EngineKind}
    assert set(get_args(options.ExecutionChoice)) == {mode.value for mode in ExecutionMode}
    assert set(get_args(options.RankChoice)) == {method.value for method in RankMethod}
    assert set(get_args(options.ColourChoice)) == {scale.value for scale in ColourScale}
