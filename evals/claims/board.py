"""Published leaderboard rows and what they show about a claim: settings, scoring stage, confounds."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Sequence

import yaml
from pydantic import Field

from evals.claims.facts import ALL_DOCUMENTS, NOT_QUANTIZED, Fact, Facts
from evals.claims.labels import BOARD_DIR
from evals.claims.records import CardCheck, CheckKind, CheckOutcome, Figure, Unit
from evals.engine import Frozen
from evals.scores import ChatTemplate

_ROUNDING = 0.005 + 1e-9


class BoardRow(Frozen):
    """One row of a leaderboard, as published."""

    suite: str = Field(description="Suite of the board.")
    source: str = Field(description="Where the row was published.")
    checkpoint: str = Field(description="Repository on the hub.")
    dtype: str = Field(description="Precision requested by the submission.")
    chat_template: ChatTemplate = Field(description="Whether the submission requested the chat template.")
    submitted: datetime.date = Field(description="Day of the submission.")
    parameters_b: float | None = Field(
        default=None, gt=0, description="Number of parameters according to the board, in 1e9."
    )
    scores: dict[str, float | dict[str, float]] = Field(
        description="Normalized score of each benchmark; by scoring stage where the board changed it."
    )
    average: dict[str, float] = Field(description="The board's average at each scoring stage.")

    def values(self, benchmark: str | None) -> dict[str | None, float]:
        """The published values of a benchmark, or of the average for None, by stage; stage None means that there is one value."""
        column = self.average if benchmark is None else self.scores.get(benchmark, {})
        return (
            {stage: value for stage, value in column.items()} if isinstance(column, dict) else {None: column}
        )

    def stage_of(self, benchmark: str | None, value: float) -> str | None:
        """The stage at which the row has this value; None if no stage or more than one fits."""
        fits = [s for s, v in self.values(benchmark).items() if s is not None and abs(v - value) <= _ROUNDING]
        return fits[0] if len(fits) == 1 else None

    def has(self, benchmark: str | None, value: float, slack: float = _ROUNDING) -> bool:
        """Whether the board published this value at any stage."""
        return any(abs(v - value) <= max(slack, _ROUNDING) for v in self.values(benchmark).values())

    @property
    def facts(self) -> Facts:
        """The known circumstances of the row's run."""
        return Facts(
            known={
                Fact.SUITE: self.suite,
                Fact.TEMPLATE: self.chat_template.value,
                Fact.DTYPE: self.dtype,
                Fact.QUANTIZATION: NOT_QUANTIZED,
                Fact.LIMIT: ALL_DOCUMENTS,
                Fact.HARNESS: "lm-eval",
            }
        )


@functools.cache
def board_rows() -> tuple[BoardRow, ...]:
    """The rows shipped in `board/rows.yaml`."""
    data = yaml.safe_load((BOARD_DIR / "rows.yaml").read_text(encoding="utf-8"))
    shared = {"suite": data["suite"], "source": data["source"]}
    return tuple(BoardRow.model_validate({**shared, **row}) for row in data["rows"])


def rows_of(checkpoint: str, rows: Sequence[BoardRow]) -> tuple[BoardRow, ...]:
    """The rows of a repository: one for each precision at which it was submitted."""
    return tuple(row for row in rows if row.checkpoint.lower() == checkpoint.lower())


def find_row(figures: Sequence[Figure], checkpoint: str | None, rows: Sequence[BoardRow]) -> BoardRow | None:
    """The row that the figures of the card's own model were copied from: the checkpoint's, or one with four equal values.

    Figures of other models do not count: a base that the card shows for comparison has its own row.
    """
    scores = [
        f
        for f in figures
        if f.subject is None and f.suite is not None and f.unit is not Unit.CHANGE and not f.is_average
    ]
    counts = [
        (sum(f.suite == row.suite and row.has(f.benchmark, f.points, f.rounding_points) for f in scores), row)
        for row in rows
    ]
    own_rows = [
        (n, row)
        for n, row in counts
        if checkpoint is not None and row.checkpoint.lower() == checkpoint.lower()
    ]
    best = max(own_rows or counts, key=lambda c: c[0], default=(0, None))
    return best[1] if best[0] >= (1 if own_rows else 4) else None


def confounds(row: BoardRow, base: BoardRow) -> tuple[CardCheck, ...]:
    """Settings that differ between a row and its base's row, so that their scores differ not only through the recipe."""
    checks = []
    if row.chat_template is not base.chat_template:
        checks.append(
            CardCheck(
                kind=CheckKind.CONFOUND,
                outcome=CheckOutcome.FAILS,
                sentence=f"The board evaluated {row.checkpoint} {_template(row)} and its base {base.checkpoint} "
                f"{_template(base)}: the differences between them are not like for like.",
            )
        )
    if row.dtype != base.dtype:
        checks.append(
            CardCheck(
                kind=CheckKind.CONFOUND,
                outcome=CheckOutcome.FAILS,
                sentence=f"The board evaluated {row.checkpoint} in {row.dtype} and its base {base.checkpoint} in "
                f"{base.dtype}: the differences between them are not like for like.",
            )
        )
    return tuple(checks)


def _template(row: BoardRow) -> str:
    return "with a chat template" if row.chat_template is ChatTemplate.ON else "without a chat template"
