"""How far an evaluation is."""

from __future__ import annotations

import time
from collections.abc import Callable

from pydantic import Field

from evals.engine import Frozen

REPORT_EVERY_S = 0.5


class Progress(Frozen):
    """Progress of an evaluation at one moment."""

    benchmark: str = Field(description="Benchmark that is being evaluated.")
    n_done: int = Field(description="Number of answered requests.")
    n_total: int = Field(description="Number of requests of the benchmark.")
    n_replayed: int = Field(description="Number of requests answered from the journal.")
    n_tokens: int = Field(
        description="Prompt and generated tokens of the engine so far, without answers from the journal."
    )
    elapsed_s: float = Field(description="Seconds since the first request went to the engine.")
    share_done: float = Field(
        description="Share of the engine's work that is done, by tokens; what the journal held is no work."
    )


class ProgressTracker:
    """Counts answers and reports them, at most every `REPORT_EVERY_S` seconds."""

    def __init__(self, benchmark: str, report: Callable[[Progress], None] | None) -> None:
        self._benchmark = benchmark
        self._report = report
        self._begun_at: float | None = None
        self._reported_at = float("-inf")
        self.n_total = self.n_done = self.n_replayed = 0
        self._n_expected = 0
        self._n_tokens = 0
        self._cost_total = self._cost_done = 0

    def expect(self, n_requests: int) -> None:
        """Announce requests that will be added part by part, all of them at most."""
        self._n_expected += n_requests

    def plan(self, n_requests: int, cost_tokens: int, n_replayed: int) -> None:
        """Add requests, some of them already answered; `cost_tokens` is the cost of the others."""
        self.n_total += n_requests
        self.n_done += n_replayed
        self.n_replayed += n_replayed
        self._cost_total += cost_tokens
        self._begun_at = self._begun_at or time.monotonic()
        self.show()

    def add_answers(self, n_requests: int, n_tokens: int, cost_tokens: int) -> None:
        """Count answers of the engine."""
        self.n_done += n_requests
        self._n_tokens += n_tokens
        self._cost_done += cost_tokens
        if time.monotonic() - self._reported_at >= REPORT_EVERY_S:
            self.show()

    def add_shared(self, n_requests: int, cost_tokens: int) -> None:
        """Count answers that another process has written to the journal."""
        self.n_replayed += n_requests
        self.add_answers(n_requests, 0, cost_tokens)

    def show(self) -> None:
        """Report now."""
        if self._report is None or self._begun_at is None:
            return
        self._reported_at = time.monotonic()
        share = min(1.0, self._cost_done / self._cost_total) if self._cost_total else 1.0
        n_total = max(self.n_total, self._n_expected)
        self._report(
            Progress(
                benchmark=self._benchmark,
                n_done=self.n_done,
                n_total=n_total,
                n_replayed=self.n_replayed,
                n_tokens=self._n_tokens,
                elapsed_s=self._reported_at - self._begun_at,
                share_done=share * self.n_total / n_total if n_total else 1.0,
            )
        )
