"""`python -m tests.support.slow_search SEARCH.yaml ...`: the real `mergeboard search`, whose engines pause before each answer.

So it can be killed in the middle of evaluations, and four engines are worth their start for a search of a minute.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from orchestrator.cli import main
from orchestrator.cluster import RayExecutor
from orchestrator.run import run as runs
from tests.support.slow_host import PausingHost

START_S = 1.0
"""What the executor takes for the time of an engine's start."""


class SlowExecutor(RayExecutor):
    """Opens engines that pause."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options | {"host": PausingHost, "start_s": lambda job: START_S})


if __name__ == "__main__":
    sys.argv[0:1] = ["mergeboard", "search"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "RayExecutor", SlowExecutor)
        main()
