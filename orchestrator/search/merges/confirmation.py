"""Confirmation of a merge search: the best merges and their parents on questions that the search did not ask.

A merge is called real if it beats every parent (the largest of the p-values, an intersection-union test) after the correction
for all merges that were tried, by any method; suggestive after the correction for the confirmed ones alone; worse if it loses
to the better parent. The better parent is the one of the search set, so that the confirmation chooses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from evals.probes import Gain, ProbeResult, Scoring, detectable_gain, judge_gain, measure_gain
from evals.stats import corrected, expected_after_search, shrinkage
from orchestrator.store.merge_report import ConfirmedMerge, MergeConfirmation
from orchestrator.store.trial_records import Arm, TrialRecord

ALPHA = 0.05
SCORING = Scoring.CORRECTED
Answers = tuple[ProbeResult, ...]


@dataclass(frozen=True)
class MergeEvidence:
    """Answers to the questions of the search and of the confirmation, by candidate."""

    search: Mapping[str, Answers]
    """Of every complete trial and every parent."""
    confirmation: Mapping[str, Answers]
    """Of the picked trials and every reference."""


def confirm_merges(
    ranked: Sequence[TrialRecord],
    picked: Sequence[TrialRecord],
    evidence: MergeEvidence,
    *,
    parents: Sequence[str],
    better_parent: str,
    weights: Mapping[str, float],
    n_tried: int,
    run_id: str,
    alpha: float = ALPHA,
) -> MergeConfirmation:
    """Compare the picked merges with their parents.

    `ranked` holds the search's complete trials, best first, `picked` those of them that were asked again and the best of
    rival methods; `weights` are the objectives', by name.
    """

    def gain(answers: Mapping[str, Answers], reference: str, trial: TrialRecord) -> Gain:
        return measure_gain(answers[reference], answers[trial.candidate], SCORING, weights)

    every = {t.number: t for t in (*ranked, *picked)}
    searched = {n: gain(evidence.search, better_parent, t) for n, t in every.items()}
    deltas = [searched[t.number].delta for t in ranked]
    shrunk = expected_after_search(deltas, [searched[t.number].stderr for t in ranked])
    expected = {t.number: s.expected for t, s in zip(ranked, shrunk, strict=True)}
    rank = {t.number: place for place, t in enumerate(ranked, start=1)}
    references = [name for name in evidence.confirmation if name not in {t.candidate for t in picked}]
    gains = {t.number: {r: gain(evidence.confirmation, r, t) for r in references} for t in picked}
    p_values = {n: max(by_name[parent].p for parent in parents) for n, by_name in gains.items()}
    of_search = [t for t in picked if t.arm is Arm.SEARCH]
    holm = dict(zip(p_values, corrected(list(p_values.values())), strict=True))
    merges = []
    for trial in picked:
        number, against = trial.number, gains[trial.number][better_parent]
        p_holm = holm[number]
        assert p_holm is not None
        p_tried = max(p_holm, min(1.0, p_values[number] * n_tried))
        least = min((gains[number][parent] for parent in parents), key=lambda g: g.interval.low)
        if least.interval.low > 0:
            finding = judge_gain(least, (p_tried, p_holm, 1.0), alpha)
        else:
            finding = judge_gain(against, (1.0, 1.0, min(1.0, against.p_worse * n_tried)), alpha)
        merges.append(
            ConfirmedMerge(
                number=number,
                arm=trial.arm,
                rank=rank.get(number, len(ranked) + 1),
                objectives=trial.objectives or (),
                confirmed=tuple(r.value(SCORING) for r in evidence.confirmation[trial.candidate]),
                search=searched[number],
                expected=expected.get(number, searched[number].delta),
                gains=gains[number],
                p=p_values[number],
                p_confirmed=p_holm,
                p_tried=p_tried,
                finding=finding,
            )
        )
    confirmed = [gains[t.number][better_parent] for t in of_search]
    return MergeConfirmation(
        run_id=run_id,
        n_tried=n_tried,
        n_questions=sum(len(result.items) for result in evidence.confirmation[better_parent]),
        merges=tuple(merges),
        shrinkage=shrinkage([searched[t.number].delta for t in of_search], [g.delta for g in confirmed]),
        detectable=detectable_gain([g.stderr for g in confirmed], alpha / n_tried),
    )


def mean_values(answers: Answers) -> tuple[float, ...]:
    """Value of each objective from its answers."""
    return tuple(fmean(result.credits(SCORING)) for result in answers)
