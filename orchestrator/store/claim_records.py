"""Records of external results: imported runs, cards, claims, reproductions."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import AwareDatetime, Field

from evals.claims.facts import Facts
from evals.claims.records import CardCheck, Claim, Measurement, Verdict, VerdictKind
from evals.engine import Frozen
from evals.results_files import FileFormat
from evals.suite import Benchmark
from orchestrator.display.text_safety import ForeignText
from orchestrator.store.ids import new_id


class ImportedResultRecord(Frozen):
    """One benchmark of an imported run under one suite."""

    suite: str = Field(description="Name of the suite.")
    benchmark_digest: str = Field(description="Digest of the benchmark's definition when it was imported.")
    measurement: Measurement = Field(description="Its scores and result, with what is known about them.")
    stage: str | None = Field(default=None, description="Scoring stage, if the benchmark has several.")
    stage_reason: str | None = Field(default=None, description="How the stage is known.")
    primary: bool = Field(default=True, description="Whether it is the benchmark's main result in the file.")
    problems: tuple[str, ...] = Field(
        default=(), description="Missing or doubtful information, one sentence each."
    )
    unfit: str | None = Field(
        default=None, description="Why the result must not be compared, although the leaderboard shows it."
    )
    definition: Benchmark | None = Field(
        default=None,
        description="Definition made from the file for tasks that no suite contains; null for a suite's benchmark.",
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
    """An imported result file."""

    id: str = Field(description="First digits of the file's sha256: its name in commands.")
    source: ForeignText = Field(description="Path of the file.")
    checkpoint: ForeignText = Field(description="The evaluated checkpoint, according to the file.")
    revision: ForeignText | None = Field(
        default=None, description="Commit of the checkpoint, if the file has it."
    )
    format: FileFormat = Field(description="Kind of file.")
    measured_at: AwareDatetime | None = Field(default=None, description="When it was measured, if known.")
    imported_at: AwareDatetime | None = Field(
        default=None, description="When it was imported, on the store's clock; null until then."
    )
    facts: Facts = Field(description="Known settings of all its tasks.")
    ignored: tuple[str, ...] = Field(default=(), description="Tasks that are in no suite.")
    problems: tuple[str, ...] = Field(
        default=(), description="Problems of the whole file, one sentence each."
    )


class CardRecord(Frozen):
    """An imported model card."""

    id: str = Field(description="First digits of the card's sha256: its name in commands.")
    source: ForeignText = Field(description="Name of the file.")
    name: ForeignText | None = Field(default=None, description="Name of the model, as the card gives it.")
    checkpoint: ForeignText | None = Field(default=None, description="Its repository, if the card names it.")
    text: str = Field(description="Text of the card.")
    imported_at: AwareDatetime | None = Field(
        default=None, description="When it was imported, on the store's clock; null until then."
    )
    checks: tuple[CardCheck, ...] = Field(
        default=(), description="Checks of its figures against each other, its recipe and published results."
    )
    notes: tuple[str, ...] = Field(default=(), description="Remarks, one sentence each.")
    claims: tuple[Claim, ...] = Field(default=(), description="Its claims, in the suites' order.")


class CardSummary(Frozen):
    """Summary of a card: its number of claims, and the verdicts of the last reproduction."""

    id: str = Field(description="Name of the card in commands.")
    source: str = Field(description="Name of the file.")
    name: str | None = Field(description="Name of the model, as the card gives it.")
    checkpoint: str | None = Field(description="Its repository, if the card names it.")
    imported_at: AwareDatetime = Field(description="When it was imported, on the store's clock.")
    n_claims: int = Field(description="Number of its claims.")
    reproduced_at: AwareDatetime | None = Field(
        description="When its claims were last checked; null if never."
    )
    verdicts: dict[VerdictKind, int] = Field(
        description="Number of claims by verdict in the last reproduction."
    )


class ReproductionRecord(Frozen):
    """A check of a card's claims against measured scores."""

    id: str = Field(default_factory=new_id, description="Id of the reproduction; later ones sort later.")
    card_id: str = Field(description="The card.")
    run_id: str | None = Field(description="The run that measured the claims; null if nothing could run.")
    candidate: ForeignText = Field(description="Name of the measured candidate in the run.")
    made_at: AwareDatetime | None = Field(
        default=None, description="When the verdicts were reached, on the store's clock; null until then."
    )
    checks: tuple[CardCheck, ...] = Field(
        default=(), description="Checks of the card's arithmetic, and of its sizes against the build."
    )
    notes: tuple[str, ...] = Field(default=(), description="Remarks, one sentence each.")
    verdicts: tuple[Verdict, ...] = Field(description="One verdict per claim, in the card's order.")


def counted(verdicts: Sequence[Verdict]) -> dict[VerdictKind, int]:
    """Number of verdicts of every kind, including 0."""
    return {kind: sum(v.kind is kind for v in verdicts) for kind in VerdictKind}
