"""Records of searches over merge parameters."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime, Field

from evals.engine import Frozen


class Arm(StrEnum):
    """Method that proposed a trial."""

    SEARCH = "search"
    RANDOM = "random"
    GRID = "grid"


class TrialState(StrEnum):
    """State of a trial."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    STOPPED = "stopped"
    """It left before the whole objectives were measured; it has step values and no objectives."""


class TrialRecord(Frozen):
    """One merge of a search."""

    number: int = Field(ge=0, description="Number in the search, from 0, over all methods.")
    arm: Arm = Field(description="Method that proposed it.")
    parameters: dict[str, bool | int | float | str] = Field(description="Value of each searched parameter.")
    candidate: str = Field(description="Name of its candidate in the search's run.")
    recipe_digest: str | None = Field(
        default=None, description="Digest of its weights; null before it is planned, or if it cannot be."
    )
    state: TrialState = Field(default=TrialState.RUNNING, description="State.")
    objectives: tuple[float, ...] | None = Field(
        default=None, description="Value of each objective, in the file's order; null without them."
    )
    steps: tuple[tuple[float, ...], ...] = Field(
        default=(),
        description="Value of each objective at each smaller step of the search, in order: for choosing what goes on, never a score.",
    )
    message: str | None = Field(default=None, description="Why it failed or stopped, in one sentence.")
    cost_s: float | None = Field(
        default=None,
        description="Seconds of its build and evaluations that no earlier trial had paid; null while it runs.",
    )


class SearchRecord(Frozen):
    """A search over merge parameters."""

    run_id: str = Field(description="The run that evaluates its merges.")
    text: str = Field(description="Text of the search file.")
    folder: str = Field(description="Folder that its checkpoints are relative to.")
    parallel: int = Field(ge=1, description="Trials in work at once when it was begun.")
    created_at: AwareDatetime = Field(description="When it was begun, on the store's clock.")
    report: str | None = Field(description="What it ended with, as JSON; null while it goes on.")
