"""What a search over merge parameters is and ended with: kept as JSON beside its trials, for reports, pages and pictures."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from evals.engine import Frozen
from evals.probes import Finding, Gain
from evals.stats import Delta, Shrinkage
from orchestrator.store.trial_records import Arm, TrialRecord, TrialState


class SearchedParameter(Frozen):
    """A searched parameter, as pictures need it."""

    name: str = Field(description="Its place in the recipe, or its name.")
    label: str | None = Field(
        default=None, description="What tables and pictures call it; null in reports of older versions."
    )
    low: float | None = Field(default=None, description="Lower end of its range; null for a choice.")
    high: float | None = Field(default=None, description="Upper end of its range.")
    log: bool = Field(default=False, description="Whether it was searched on a logarithmic scale.")


class SearchedObjective(Frozen):
    """An objective with its weight in the weighted mean."""

    name: str = Field(description="Name of the probe or suite.")
    weight: float = Field(gt=0, description="Weight.")


class ReferenceResult(Frozen):
    """A checkpoint that the merges are compared with."""

    name: str = Field(description="Its name in the run.")
    is_parent: bool = Field(description="Whether a merge has to beat it; not so for the plain average.")
    objectives: tuple[float, ...] | None = Field(
        description="Value of each objective on the search set; null if it failed."
    )
    confirmed: tuple[float, ...] | None = Field(
        default=None, description="The same on the questions of the confirmation; null if not asked."
    )
    message: str | None = Field(default=None, description="Why it has no values, in one sentence.")


class ConfirmedMerge(Frozen):
    """A merge picked on the search set, and what became of it on other questions."""

    number: int = Field(description="Number of its trial.")
    arm: Arm = Field(description="Method that proposed it.")
    rank: int = Field(ge=1, description="Rank among all trials of the search by the value on the search set.")
    objectives: tuple[float, ...] = Field(description="Value of each objective on the search set.")
    confirmed: tuple[float, ...] = Field(description="The same on the questions of the confirmation.")
    search: Gain = Field(description="Gain over the better parent on the search set, by which it was picked.")
    expected: float = Field(description="Expected gain, given the search gains of all trials.")
    gains: dict[str, Gain] = Field(
        description="Gain over each reference on the questions of the confirmation."
    )
    p: float = Field(
        ge=0, le=1, description="One-sided p of 'not better than every parent': the largest over the parents."
    )
    p_confirmed: float = Field(ge=0, le=1, description="p corrected for the confirmed merges (Holm).")
    p_tried: float = Field(ge=0, le=1, description="p corrected for all merges tried (Bonferroni).")
    finding: Finding = Field(description="Verdict against the parents.")


class MergeConfirmation(Frozen):
    """The confirmation of a search's best merges."""

    run_id: str = Field(description="Run that asked the questions.")
    n_tried: int = Field(ge=1, description="Merges tried, by every method.")
    n_questions: int = Field(
        ge=1, description="Questions of the confirmation, disjoint from those of the search."
    )
    merges: tuple[ConfirmedMerge, ...] = Field(
        description="The confirmed merges, by rank; then rivals' best."
    )
    shrinkage: Shrinkage = Field(description="Share of the search gains that was kept.")
    detectable: float = Field(ge=0, description="Smallest true gain that is called real in 80 % of cases.")
    suite: str | None = Field(default=None, description="Suite of the last step; null if none.")
    suite_run_id: str | None = Field(default=None, description="Run that scored it.")
    benchmarks: dict[str, dict[str, Delta]] = Field(
        default_factory=dict, description="Candidate to benchmark to its difference to the base, in points."
    )


class MergeReport(Frozen):
    """A search over merge parameters. Values are fractions of 1."""

    name: str = Field(description="Name of the search.")
    run_id: str = Field(description="The run that evaluates its merges.")
    base: str = Field(description="The base.")
    sampler: str = Field(description="How merges were proposed.")
    seed: int = Field(description="Seed of the proposals.")
    parallel: int = Field(description="Merges in work at once.")
    budget: str = Field(description="What it may cost, in words.")
    pareto: bool = Field(description="Whether it searches a Pareto front.")
    objectives: tuple[SearchedObjective, ...] = Field(description="What is made as large as possible.")
    parameters: tuple[SearchedParameter, ...] = Field(description="The searched parameters.")
    gradients: dict[str, tuple[str, ...]] = Field(
        description="Name of each gradient to its points' parameters, first layer first."
    )
    layers: int | None = Field(default=None, description="Layers of the base; null before it is measured.")
    references: tuple[ReferenceResult, ...] = Field(
        default=(), description="Base, parents and plain average; empty before they are measured."
    )
    importance: dict[str, float] = Field(
        default_factory=dict, description="Share of the values' variance by parameter (fANOVA)."
    )
    confirmation: MergeConfirmation | None = Field(
        default=None, description="The confirmation; null before the search has ended."
    )
    winner: int | None = Field(
        default=None, description="Number of the trial that did best on the confirmation; null before."
    )

    def together(self, values: Sequence[float]) -> float:
        """Weighted mean of the objectives' values."""
        weights = [objective.weight for objective in self.objectives]
        return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)

    @property
    def better_parent(self) -> ReferenceResult | None:
        """The parent, or the base, with the largest value on the search set."""
        parents = [r for r in self.references if r.is_parent and r.objectives is not None]
        return max(parents, key=lambda r: self.together(r.objectives or ()), default=None)

    @property
    def winning(self) -> ConfirmedMerge | None:
        """The confirmed merge that did best."""
        merges = self.confirmation.merges if self.confirmation else ()
        return next((merge for merge in merges if merge.number == self.winner), None)

    @property
    def conclusion(self) -> str:
        """The result in one to three sentences."""
        c, parent = self.confirmation, self.better_parent
        if c is None or parent is None:
            return "The search goes on: nothing is confirmed yet, and the best so far is the best by luck as well."
        of_search = [merge for merge in c.merges if merge.arm is Arm.SEARCH]
        kept = (
            f"the mean gain of the confirmed went from {c.shrinkage.search_mean:+z.3f} on the search set to "
            f"{c.shrinkage.confirmation_mean:+z.3f} on {c.n_questions} other questions"
        )
        tried = f"the {len(of_search)} best of {c.n_tried:,} merges"
        real = [merge for merge in of_search if merge.finding is Finding.REAL]
        if real:
            best = max(real, key=lambda merge: merge.gains[parent.name].delta)
            gain = best.gains[parent.name]
            verb = "beats" if len(real) == 1 else "beat"
            return (
                f"{len(real)} of {tried} {verb} every parent after the correction for all of them. The best, trial {best.number}, "
                f"gains {gain.delta:+.3f} over the better parent, {parent.name} (95 % interval {gain.interval.low:+.3f} to "
                f"{gain.interval.high:+.3f}); {kept}."
            )
        mild = sum(merge.finding is Finding.SUGGESTIVE for merge in of_search)
        hint = f" {mild} of them would pass a milder test and may be worth more questions." if mild else ""
        return (
            f"No merge here beats its better parent, {parent.name}: of {tried} none keeps a gain over every parent that survives the "
            f"correction for all of them; {kept}. A true gain of less than about {c.detectable:.3f} would have been missed.{hint}"
        )


class SearchView(Frozen):
    """A search with its trials so far."""

    report: MergeReport = Field(description="What it is and ended with.")
    trials: tuple[TrialRecord, ...] = Field(description="Its trials by number.")

    @property
    def stopped(self) -> str | None:
        """How many merges left before they were asked everything, in one sentence; None if none did."""
        stopped = [trial for trial in self.trials if trial.state is TrialState.STOPPED]
        if not stopped:
            return None
        return (
            f"{len(stopped):,} of {len(self.trials):,} merges left before they were asked everything, and have no value: the last, "
            f"{stopped[-1].candidate}. {stopped[-1].message or ''}"
        ).strip()

    def value(self, trial: TrialRecord) -> float | None:
        """The weighted mean of a trial's objectives; None without them."""
        return None if trial.objectives is None else self.report.together(trial.objectives)

    def best(self, arm: Arm = Arm.SEARCH) -> TrialRecord | None:
        """The trial of a method with the largest value on the search set."""
        complete = [t for t in self.trials if t.arm is arm and t.objectives is not None]
        return max(complete, key=lambda t: self.report.together(t.objectives or ()), default=None)
