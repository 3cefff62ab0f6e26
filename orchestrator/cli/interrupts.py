"""Ctrl-C and SIGTERM: what is kept, and the command that goes on."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from orchestrator.cli.ending import Ended, ExitCode


@contextlib.contextmanager
def interruptible(sentence: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C and SIGTERM inside the block end the command with exit code 130 and this sentence.

    The block sees both as KeyboardInterrupt, so that leases, engines and Ray are given back on the way.
    """
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _interrupt) if in_main else None
    try:
        yield
    except KeyboardInterrupt as error:
        raise Ended(sentence(), ExitCode.INTERRUPTED) from error
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)


def same_command() -> str:
    """This command line, to be pasted into a shell; tokens and passwords are left out."""
    from orchestrator.provenance import without_secrets

    return without_secrets(shlex.join(["mergeboard", *sys.argv[1:]]))


def stopped() -> str:
    """The sentence for a command that goes on where it was cut short when it is given again."""
    return f"Stopped. Finished jobs and the answers of unfinished ones are kept. Go on with: {same_command()}"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
