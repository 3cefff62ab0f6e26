"""Progress of a command that runs several plans, one after another: each is announced, then shown."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from orchestrator.cli.progress import TerminalReporter
from orchestrator.display.text_safety import Terminal

if TYPE_CHECKING:
    from orchestrator.run.scheduler import Reporter


def reporting(quiet: bool) -> Callable[[str], AbstractContextManager[Reporter]]:
    """What a part does, in words -> a reporter of its progress on stderr."""

    @contextlib.contextmanager
    def report(part: str) -> Iterator[Reporter]:
        console = Terminal(stderr=True)
        if not quiet:
            console.print(part[0].upper() + part[1:] + ".", markup=False, soft_wrap=True)
        with TerminalReporter(console, quiet=quiet) as reporter:
            yield reporter

    return report
