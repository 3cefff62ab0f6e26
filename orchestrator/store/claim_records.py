"""What the store remembers of numbers that were made elsewhere: imported runs, cards, claims, reproductions."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import AwareDatetime, Field

from evals.claims.facts import Facts
from evals.claims.records import CardCheck, Claim, Measurement, Verdict, VerdictKind
from evals.engine import Frozen
from evals.results_files import FileFormat
from orchestrator.display.text_safety import ForeignText
from orchestrator.store.records import new_id


class ImportedResultRecord(Frozen):
    """One benchmark of an imported run under one suite."""

    suite: str = Field(description="Name of the suite.")
    benchmark_digest: str = Field(description="Digest of the benchmark's definition when it was imported.")
    measurement: Measurement = Field(description="Its scores and result with what is known of them.")
    stage: str | None = Field(default=None, description="Scoring stage, where the benchmark had several.")
    stage_reason: str | None = Field(default=None, description="How the stage is known.")
    primary: bool = Field(default=True, description="Whether it is the benchmark's main result in the file.")
    problems: tuple[str, ...] = Field(default=(), description="What is missing or doubtful, in sentences.")
    unfit: str | None = Field(
        default=None, description="Why the figure, though the board shows it, must not be compared."
    )
    samples_path: str | None = Field(
        default=None, description="Parquet file of its samples, relative to MERGEBOARD_HOME; null for none."
    )
    samples_sha256: str | None = Field(default=None, description="sha256 of that file.")

    @property
    def benchmark(self) -> str:
        """Name of the benchmark."""
        return self.measurement.result.benchmark


class ImportedRunRecord(Frozen):
    """A result file made elsewhere."""

    id: str = Field(description="First digits of the file's sha256: its name in commands.")
    source: ForeignText = Field(description="Where the file was.")
    checkpoint: ForeignText = Field(description="What was evaluated, as the file says.")
    revision: ForeignText | None = Field(
        default=None, description="Commit of the checkpoint, where the file has it."
    )
    format: FileFormat = Field(description="Kind of file.")
    measured_at: AwareDatetime | None = Field(default=None, description="When it was measured, where known.")
    imported_at: AwareDatetime | None = Field(
        default=None, description="When it was taken in, on the store's clock; null until then."
    )
    facts: Facts = Field(description="What is known of how all its tasks were run.")
    ignored: tuple[str, ...] = Field(default=(), description="Tasks that no suite knows.")
    problems: tuple[str, ...] = Field(default=(), description="What is wrong with the file as a whole.")


class CardRecord(Frozen):
    """A model card that was read."""

    id: str = Field(description="First digits of the card's sha256: its name in commands.")
    source: ForeignText = Field(description="Name of the file.")
    name: ForeignText | None = Field(default=None, description="Name of the model, as the card gives it.")
    checkpoint: ForeignText | None = Field(
        default=None, description="Its repository, as far as the card says."
    )
    text: str = Field(description="The card itself.")
    imported_at: AwareDatetime | None = Field(
        default=None, description="When it was taken in, on the store's clock; null until then."
    )
    checks: tuple[CardCheck, ...] = Field(
        default=(), description="What its figures say against each other, its recipe and published rows."
    )
    notes: tuple[str, ...] = Field(default=(), description="What to know about it, one sentence each.")
    claims: tuple[Claim, ...] = Field(default=(), description="What it claims, in the suites' order.")


class CardSummary(Frozen):
    """A card in a list: how many claims it makes and what became of them last."""

    id: str = Field(description="Name of the card in commands.")
    source: str = Field(description="Name of the file.")
    name: str | None = Field(description="Name of the model, as the card gives it.")
    checkpoint: str | None = Field(description="Its repository, as far as the card says.")
    imported_at: AwareDatetime = Field(description="When it was taken in, on the store's clock.")
    n_claims: int = Field(description="Claims that it makes.")
    reproduced_at: AwareDatetime | None = Field(
        description="When its claims were last checked; null if never."
    )
    verdicts: dict[VerdictKind, int] = Field(
        description="How many claims ended how in the last reproduction."
    )


class ReproductionRecord(Frozen):
    """One check of a card's claims against our own numbers."""

    id: str = Field(default_factory=new_id, description="Name of the reproduction; later ones sort later.")
    card_id: str = Field(description="The card.")
    run_id: str | None = Field(
        description="The run that measured what was claimed; null if nothing could run."
    )
    candidate: ForeignText = Field(description="What was measured, by its name in the run.")
    made_at: AwareDatetime | None = Field(
        default=None, description="When the verdicts were reached, on the store's clock; null until then."
    )
    checks: tuple[CardCheck, ...] = Field(
        default=(), description="The card's arithmetic, and its sizes against what was built."
    )
    notes: tuple[str, ...] = Field(default=(), description="What to know about it, one sentence each.")
    verdicts: tuple[Verdict, ...] = Field(description="One verdict per claim, in the card's order.")


def counted(verdicts: Sequence[Verdict]) -> dict[VerdictKind, int]:
    """How many verdicts are of which kind; every kind is there."""
    return {kind: sum(v.kind is kind for v in verdicts) for kind in VerdictKind}
