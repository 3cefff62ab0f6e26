"""A report as one value: a verdict, then sections of tables, charts, questions and facts; both renderers read only this.

Each kind of subject (a run, a comparison, a scan, a card) has a builder that returns a `ReportPage`; a further kind needs a
builder and a `ReportKind`, and no change of the renderers.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from evals.engine import Frozen


class ReportKind(StrEnum):
    """What a report is about."""

    RUN = "run"
    COMPARISON = "comparison"
    SCAN = "scan"
    SEARCH = "search"
    CLAIMS = "claims"
    AUDIT = "audit"


class ReportTone(StrEnum):
    """What a number or sentence says; shown by colour, shape and words together."""

    BETTER = "better"
    WORSE = "worse"
    HINT = "hint"
    """The interval excludes 0, but not after the correction for all that was tried."""
    HOLDS = "holds"
    """A claim or check that holds."""
    FAILS = "fails"
    """A claim or check that does not hold."""
    PLAIN = "plain"
    REFUSED = "refused"
    WARNING = "warning"


class ReportLine(Frozen):
    """A sentence with its tone."""

    text: str = Field(description="The sentence.")
    tone: ReportTone = Field(default=ReportTone.PLAIN, description="What it says.")
    strong: bool = Field(default=False, description="Whether it heads the lines below it.")


class ReportVerdict(Frozen):
    """The result in one sentence, with the sentences that carry it."""

    headline: str = Field(description="The result in one sentence.")
    tone: ReportTone = Field(default=ReportTone.PLAIN, description="What it says.")
    lines: tuple[ReportLine, ...] = Field(default=(), description="Effects, counts and refusals.")


class DeltaLine(Frozen):
    """One row of a forest plot: a difference with its interval, or why there is none."""

    label: str = Field(description="Benchmark, recipe or claim.")
    base: str = Field(default="", description="Value of the base, or the claimed one.")
    candidate: str = Field(default="", description="Value of the candidate, or the measured one.")
    delta: float | None = Field(default=None, description="Difference; null if there is none.")
    low: float | None = Field(default=None, description="Lower end of its 95 % interval.")
    high: float | None = Field(default=None, description="Upper end of its 95 % interval.")
    p: str = Field(default="", description="p-value after the correction, as text.")
    flips: str = Field(default="", description="Questions gained and lost, or the number of questions.")
    tone: ReportTone = Field(default=ReportTone.PLAIN, description="What the difference shows.")
    word: str = Field(default="", description="The same in a word or two.")
    note: str = Field(default="", description="Reason of a refusal, or a remark.")
    strong: bool = Field(default=False, description="Whether the row is an average.")


class DeltaTable(Frozen):
    """A forest plot as a table: one difference per row, drawn on one scale."""

    type: Literal["deltas"] = "deltas"
    caption: str = Field(description="What it shows.")
    first: str = Field(default="Benchmark", description="Heading of the first column.")
    headings: tuple[str, str] = Field(
        default=("Base", "Candidate"), description="Headings of the two value columns."
    )
    flips: str = Field(default="Flips", description="Heading of the flips' column.")
    p_heading: str = Field(default="p", description="Heading of the p-values' column.")
    decimals: int = Field(default=1, description="Decimals of differences.")
    unit: str = Field(default="points", description="Unit of the differences.")
    rows: tuple[DeltaLine, ...] = Field(description="The rows, in order.")
    notes: tuple[str, ...] = Field(default=(), description="Remarks below, one sentence each.")


class LookPoint(Frozen):
    """One look at a comparison."""

    n: int = Field(ge=1, description="Questions asked so far.")
    delta: float = Field(description="Difference, in points.")
    low: float = Field(description="Lower end of its interval.")
    high: float = Field(description="Upper end of its interval.")


class SequenceLine(Frozen):
    """The looks at one comparison as a line of small plots."""

    candidate: str = Field(description="Display name of the candidate.")
    benchmark: str = Field(description="Display name of the benchmark.")
    text: str = Field(description="The decision in words.")
    tone: ReportTone = Field(default=ReportTone.PLAIN, description="What it shows.")
    early: bool = Field(description="Whether it stopped before its end.")
    score: str = Field(
        description="Score of the questions asked, marked as early; or that it was asked whole."
    )
    n_whole: int = Field(ge=1, description="Questions of the whole benchmark.")
    looks: tuple[LookPoint, ...] = Field(description="The looks, in order.")


class SequenceList(Frozen):
    """Comparisons that were looked at while they were asked."""

    type: Literal["sequences"] = "sequences"
    caption: str = Field(description="What is compared.")
    lines: tuple[SequenceLine, ...] = Field(description="One per comparison.")
    notes: tuple[str, ...] = Field(default=(), description="Remarks below, one sentence each.")


class ReportCell(Frozen):
    """A cell: a value, and a difference below it."""

    text: str = Field(description="The value as text.")
    value: float | None = Field(default=None, description="Sort key; null sorts last.")
    delta: str = Field(default="", description="Difference to the base with its sign, as text.")
    tone: ReportTone = Field(default=ReportTone.PLAIN, description="What the difference shows.")
    hint: str = Field(default="", description="Interval and p-value, or the reason of a refusal.")


class ReportColumn(Frozen):
    """A column of a table."""

    title: str = Field(description="Heading.")
    help: str = Field(default="", description="What it holds, in one sentence.")
    numeric: bool = Field(default=True, description="Whether its values are numbers.")
    narrow: bool = Field(default=False, description="Whether it stays on a page of 390 pixels.")


class ReportRow(Frozen):
    """A row of a table with its details."""

    name: str = Field(description="Name in the first column.")
    cells: tuple[ReportCell, ...] = Field(description="One per column after the first.")
    remark: str = Field(default="", description="A word below the name, for example `partial`.")
    group: str = Field(default="", description="Key of the filter that the row belongs to.")
    pinned: bool = Field(default=False, description="Whether it stays on top, as the base does.")
    details: DeltaTable | None = Field(default=None, description="What the opened row shows.")
    printed: bool = Field(default=False, description="Whether its details are printed.")


class ReportFilter(Frozen):
    """A filter of a table's rows."""

    key: str = Field(description="Group of the rows that it keeps.")
    label: str = Field(description="Name on its button.")
    count: int = Field(ge=0, description="Number of those rows.")


class ReportTable(Frozen):
    """A table that can be sorted, searched and filtered in the page."""

    type: Literal["table"] = "table"
    caption: str = Field(description="What it shows.")
    first: str = Field(description="Heading of the first column.")
    columns: tuple[ReportColumn, ...] = Field(description="The columns after the first.")
    rows: tuple[ReportRow, ...] = Field(description="The rows, in their first order.")
    filters: tuple[ReportFilter, ...] = Field(default=(), description="Filters of the rows.")
    sorted_by: int | None = Field(
        default=None, description="Index of the column that orders the rows, descending."
    )
    notes: tuple[str, ...] = Field(default=(), description="Remarks below, one sentence each.")


class MapCell(Frozen):
    """One block (i, j) of a heatmap."""

    i: int = Field(ge=0, description="First layer.")
    j: int = Field(ge=0, description="Layer after the last.")
    delta: float | None = Field(default=None, description="Difference to the base; null if it failed.")
    text: str = Field(default="", description="Value with its difference, as text.")
    mark: ReportTone | None = Field(default=None, description="Outline of a confirmed cell, by its finding.")


class ReportMap(Frozen):
    """A heatmap of the differences of all blocks (i, j) to the base."""

    type: Literal["map"] = "map"
    title: str = Field(description="The measure.")
    subtitle: str = Field(default="", description="Base, best and null levels.")
    n_layers: int = Field(ge=1, description="Layers of the base.")
    low: float = Field(description="Lower colour limit, below 0.")
    high: float = Field(description="Upper colour limit, above 0.")
    ends: tuple[str, str] = Field(description="The limits as text.")
    cells: tuple[MapCell, ...] = Field(description="The measured and failed cells.")
    best: tuple[int, int] | None = Field(default=None, description="Cell with the largest value.")
    large: bool = Field(default=True, description="Whether it is drawn large, with a text per cell.")


class ResponsePart(Frozen):
    """A part of a response."""

    text: str = Field(description="The text.")
    changed: bool = Field(default=False, description="Whether the other response does not have it.")


class FlippedQuestion(Frozen):
    """A question that one side answered right and the other wrong, with both responses."""

    candidate: str = Field(description="Display name of the candidate.")
    place: str = Field(description="Benchmark, subset and document.")
    gained: bool = Field(description="Whether the candidate is right; else the base is.")
    question: str | None = Field(description="Text of the question; null if it is not stored.")
    target: str = Field(description="The right answer.")
    base: tuple[ResponsePart, ...] = Field(description="Response of the base.")
    response: tuple[ResponsePart, ...] = Field(description="Response of the candidate.")


class QuestionList(Frozen):
    """Chosen questions that flipped."""

    type: Literal["questions"] = "questions"
    base: str = Field(description="Display name of the base.")
    questions: tuple[FlippedQuestion, ...] = Field(description="The questions.")


class ReportFact(Frozen):
    """A name with its value."""

    name: str = Field(description="What it is.")
    value: str = Field(description="Its value, in words.")


class FactList(Frozen):
    """Names with values."""

    type: Literal["facts"] = "facts"
    facts: tuple[ReportFact, ...] = Field(description="The facts, in order.")


class LineList(Frozen):
    """Sentences, one item each."""

    type: Literal["lines"] = "lines"
    lines: tuple[ReportLine, ...] = Field(description="The sentences.")


class ReportPicture(Frozen):
    """An image."""

    type: Literal["picture"] = "picture"
    title: str = Field(description="What it shows, also for readers who do not see it.")
    png: str = Field(description="The image as PNG, base64.")


class CodeText(Frozen):
    """Text to copy: a command or a file."""

    type: Literal["code"] = "code"
    title: str = Field(description="What it is.")
    text: str = Field(description="The text.")
    folded: bool = Field(default=False, description="Whether it is folded until it is opened.")


ReportBlock = Annotated[
    DeltaTable
    | SequenceList
    | ReportTable
    | ReportMap
    | ReportPicture
    | QuestionList
    | FactList
    | LineList
    | CodeText,
    Field(discriminator="type"),
]


class ReportSection(Frozen):
    """A section with its heading."""

    key: str = Field(pattern="^[a-z0-9-]+$", description="Anchor in the page.")
    title: str = Field(description="Heading.")
    intro: str = Field(default="", description="One or two sentences below the heading.")
    blocks: tuple[ReportBlock, ...] = Field(description="What it shows, in order.")


class ReportPage(Frozen):
    """A whole report."""

    kind: ReportKind = Field(description="What it is about.")
    title: str = Field(description="Title of the page.")
    subtitle: str = Field(default="", description="Checkpoint, suite and engine in one line.")
    made_at: datetime = Field(description="When the report was made.")
    notices: tuple[ReportLine, ...] = Field(
        default=(), description="What a reader has to know first: smoke, partial, live or forced results."
    )
    verdict: ReportVerdict = Field(description="The result.")
    sections: tuple[ReportSection, ...] = Field(description="The sections, in order.")
    made_by: str = Field(default="", description="Version of mergeboard that made the report.")
