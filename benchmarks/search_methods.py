"""Searches over merges of trained specialists beside random search and a grid, at equal cost, with many seeds.

    python -m benchmarks.search_methods --cache DIR [--seeds 20] [--evaluations 25] [--sampler gp] [--out DIR]

Two copies of the demo model, trained on one skill each (`tests/support/specialists.py`; they are made first, some minutes), are merged by
task arithmetic with two searched weights in steps of 0.1: 256 possible merges, each measured at most once, on real weights, and kept in
--cache, so that a run that was stopped goes on; --out gets report and pictures of the first seed. Trials, grid, choice of the best and
confirmation are those of `mergeboard search`; only the merges are made in this process, without store and Ray.

All methods get the same number of evaluations, which cost the same; seconds are those of the evaluations behind each method's trials.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from evals.probes import ProbeResult, Scoring, Split, get_probe
from orchestrator.search.merges.confirmation import MergeEvidence, confirm_merges
from orchestrator.search.merges.course import Course, best_first, best_so_far
from orchestrator.search.merges.files import write_merge_search
from orchestrator.search.merges.importance import importance_of
from orchestrator.search.merges.run import begun_report
from orchestrator.search.merges.search_file import SearchFile, parse_search
from orchestrator.store.merge_report import MergeReport, ReferenceResult, SearchView
from orchestrator.store.trial_records import Arm, TrialRecord, TrialState
from recipes.demo import BASE, ensure_demo_checkpoint
from tests.support.merged_values import MergedValues
from tests.support.specialists import PROBES, ensure_specialist

SKILLS = ("arithmetic", "rules")
KEPT = 3
"""Merges of a search that are confirmed."""
AVERAGE = "plain average"
REFERENCES: dict[str, tuple[float, ...]] = {
    "base": (0.0, 0.0),
    "arithmetic": (1.0, 0.0),
    "rules": (0.0, 1.0),
    AVERAGE: (0.5, 0.5),
}
"""Parents and the plain average as weights of the task vectors."""
SEARCH = """
name: specialists
base: base
recipe:
  merge_method: task_arithmetic
  base_model: base
  dtype: float32
  models:
    - {model: arithmetic, parameters: {weight: {search: [0, 1.5], step: 0.1}}}
    - {model: rules, parameters: {weight: {search: [0, 1.5], step: 0.1}}}
objectives: [OBJECTIVES]
budget: {evaluations: EVALUATIONS}
sampler: SAMPLER
seed: SEED
compare_with: [random, grid]
"""


class MeasuredMerges:
    """Answers of merges, each measured once and kept in a file."""

    def __init__(self, folder: Path, split: Split, sources: Sequence[Path]) -> None:
        self._base, *self._specialists = sources
        self._probes = [get_probe(f"{PROBES[skill]}-{split}") for skill in SKILLS]
        self._file = folder / f"answers-{split}.jsonl"
        self._values: MergedValues | None = None
        self._answers: dict[tuple[float, ...], tuple[ProbeResult, ...]] = {}
        self.seconds: dict[tuple[float, ...], float] = {}
        for line in self._file.read_text().splitlines() if self._file.exists() else ():
            row = json.loads(line)
            self._keep(
                tuple(row["weights"]), [ProbeResult.model_validate(r) for r in row["answers"]], row["seconds"]
            )

    def __len__(self) -> int:
        return len(self._answers)

    def of(self, weights: tuple[float, ...]) -> tuple[ProbeResult, ...]:
        """The answers of a merge to both probes."""
        if weights not in self._answers:
            if self._values is None:
                self._values = MergedValues(self._base, self._specialists, self._probes)
            begun = time.perf_counter()
            answers = self._values.answers(weights)
            self._keep(weights, answers, time.perf_counter() - begun)
            row = {
                "weights": weights,
                "seconds": round(self.seconds[weights], 3),
                "answers": [answer.model_dump(mode="json") for answer in answers],
            }
            with self._file.open("a") as out:
                out.write(json.dumps(row) + "\n")
        return self._answers[weights]

    def values(self, weights: tuple[float, ...]) -> tuple[float, ...]:
        """The value of each probe."""
        return tuple(answer.value(Scoring.CORRECTED) for answer in self.of(weights))

    def _keep(self, weights: tuple[float, ...], answers: Sequence[ProbeResult], seconds: float) -> None:
        self._answers[weights] = tuple(answers)
        self.seconds[weights] = seconds


class Result(NamedTuple):
    """One seed."""

    best: dict[Arm, float]
    """Largest value on the search set, by method."""
    confirmed: dict[Arm, float]
    """Value of that merge on the confirmation set."""
    seconds: dict[Arm, float]
    better_parent: float
    """Its value on the confirmation set."""
    overtaken: dict[Arm, int | None]
    """Evaluations after which the search is at least as good as a rival is after all of its own; null if it never is."""
    report: MergeReport


def search_file(seed: int, evaluations: int, sampler: str) -> SearchFile:
    """The search with a seed."""
    objectives = ", ".join(PROBES[skill] for skill in SKILLS)
    text = SEARCH.replace("OBJECTIVES", objectives).replace("EVALUATIONS", str(evaluations))
    text = text.replace("SAMPLER", sampler).replace("SEED", str(seed))
    return parse_search(text.encode(), origin="specialists.yaml", folder=Path())


def run_trials(file: SearchFile, measured: MeasuredMerges) -> tuple[TrialRecord, ...]:
    """All trials of a search and its rivals."""
    course = Course(file.search, file.space)
    while (trial := course.propose()) is not None:
        weights = weights_of(trial)
        values = measured.values(weights)
        course.end(
            trial.model_copy(
                update={
                    "state": TrialState.COMPLETE,
                    "objectives": values,
                    "cost_s": measured.seconds[weights],
                    "recipe_digest": f"recipe:{weights}",
                }
            )
        )
    return course.trials


def best_values(file: SearchFile, trials: Sequence[TrialRecord]) -> dict[Arm, float]:
    """The largest value of each method on the search set."""
    best = {arm: best_first(file.search, [t for t in trials if t.arm is arm])[0] for arm in Arm}
    return {arm: file.search.together(trial.objectives or ()) for arm, trial in best.items()}


def overtaken(file: SearchFile, trials: Sequence[TrialRecord], rival: Arm) -> int | None:
    """Evaluations of the search until it is at least as good as a rival's best."""
    least = best_values(file, trials)[rival] - 1e-12
    steps = best_so_far(file.search, [t for t in trials if t.arm is Arm.SEARCH])
    return next((count for count, _, best in steps if best >= least), None)


def weights_of(trial: TrialRecord) -> tuple[float, ...]:
    """The weights of a trial's task vectors."""
    return tuple(round(float(value), 4) for value in trial.parameters.values())


def confirmed(
    file: SearchFile, trials: Sequence[TrialRecord], searched: MeasuredMerges, asked: MeasuredMerges
) -> Result:
    """Confirm the best merges of a search, and the best of each rival, on other questions."""
    search = file.search
    by_arm = {arm: best_first(search, [t for t in trials if t.arm is arm]) for arm in Arm}
    ranked = by_arm[Arm.SEARCH]
    taken = {t.recipe_digest for t in ranked[:KEPT]}
    rivals = [by_arm[arm][0] for arm in (Arm.RANDOM, Arm.GRID)]
    picked = [*ranked[:KEPT], *(t for t in rivals if t.recipe_digest not in taken)]
    references = tuple(
        ReferenceResult(name=name, is_parent=name != AVERAGE, objectives=searched.values(weights))
        for name, weights in REFERENCES.items()
    )
    importance = importance_of(file, trials)
    report = begun_report(file, "specialists", 1).model_copy(
        update={"references": references, "importance": importance}
    )
    parent = report.better_parent
    assert parent is not None
    confirmation = confirm_merges(
        ranked,
        picked,
        MergeEvidence(
            search={n: searched.of(w) for n, w in REFERENCES.items()}
            | {t.candidate: searched.of(weights_of(t)) for t in [*ranked, *rivals]},
            confirmation={n: asked.of(w) for n, w in REFERENCES.items()}
            | {t.candidate: asked.of(weights_of(t)) for t in picked},
        ),
        parents=[r.name for r in references if r.is_parent],
        better_parent=parent.name,
        weights={o.name: o.weight for o in search.objectives},
        n_tried=len({t.recipe_digest for t in trials}),
        run_id="specialists",
    )
    winner = max(
        (m for m in confirmation.merges if m.arm is Arm.SEARCH), key=lambda m: m.gains[parent.name].delta
    )
    return Result(
        best=best_values(file, trials),
        confirmed={arm: search.together(asked.values(weights_of(by_arm[arm][0]))) for arm in Arm},
        seconds={arm: sum(t.cost_s or 0.0 for t in trials if t.arm is arm) for arm in Arm},
        better_parent=search.together(asked.values(REFERENCES[parent.name])),
        overtaken={arm: overtaken(file, trials, arm) for arm in (Arm.RANDOM, Arm.GRID)},
        report=report.model_copy(
            update={
                "confirmation": confirmation,
                "winner": winner.number,
                "references": tuple(
                    r.model_copy(update={"confirmed": asked.values(REFERENCES[r.name])}) for r in references
                ),
            }
        ),
    )


def print_references(searched: MeasuredMerges, asked: MeasuredMerges) -> None:
    """Values of the parents and the plain average in both probes, on both sets."""
    print(f"{'':<14}{'search set':>24}{'confirmation set':>24}")
    for name, weights in REFERENCES.items():
        shown = [*searched.values(weights), *asked.values(weights)]
        print(f"{name:<14}" + "".join(f"{value:>12.4f}" for value in shown), flush=True)


def lines(results: Sequence[Result]) -> Iterator[str]:
    """The comparison over all seeds."""
    n = len(results)
    for arm in (Arm.RANDOM, Arm.GRID):
        better = sum(r.best[Arm.SEARCH] > r.best[arm] + 1e-12 for r in results)
        equal = sum(abs(r.best[Arm.SEARCH] - r.best[arm]) <= 1e-12 for r in results)
        held_out = sum(r.confirmed[Arm.SEARCH] > r.confirmed[arm] + 1e-12 for r in results)
        yield (
            f"search against {arm}: better in {better}, equal in {equal} of {n} seeds on the search set; better in {held_out} on the "
            "confirmation set"
        )
        counts = [r.overtaken[arm] or math.inf for r in results]
        yield (
            f"  as good as {arm} after all of its evaluations: after {statistics.median(counts):.0f} evaluations of the search (median), "
            f"{max(counts):.0f} at most"
        )
    for arm in Arm:
        best, after = [r.best[arm] for r in results], [r.confirmed[arm] for r in results]
        spent = statistics.fmean(r.seconds[arm] for r in results)
        yield (
            f"{arm}: mean best {statistics.fmean(best):.4f} ({min(best):.4f} to {max(best):.4f}), confirmed "
            f"{statistics.fmean(after):.4f}, {spent:.0f} s of evaluations"
        )
    below = [r for r in results if r.confirmed[Arm.SEARCH] < r.better_parent]
    silent = [r for r in below if not r.report.conclusion.startswith("No merge here beats")]
    real = sum("beat" in r.report.conclusion and "No merge" not in r.report.conclusion for r in results)
    yield f"called real after the confirmation: {real} of {n}"
    yield f"below the better parent on the confirmation set: {len(below)}, of these without saying so: {len(silent)}"


def main() -> None:
    """Run all seeds and print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=25)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sampler", choices=["gp", "tpe", "cma-es"], default="gp")
    options = parser.parse_args()
    base = ensure_demo_checkpoint(options.cache / "home", BASE)
    specialists = [ensure_specialist(skill, options.cache) for skill in SKILLS]
    folder = specialists[0].parent
    searched, asked = (MeasuredMerges(folder, split, [base, *specialists]) for split in Split)
    files = [search_file(seed, options.evaluations, options.sampler) for seed in range(options.seeds)]
    trials = []
    for seed, file in enumerate(files):
        trials.append(run_trials(file, searched))
        best = best_values(file, trials[-1])
        shown = ", ".join(f"{arm} {best[arm]:.4f}" for arm in Arm)
        print(f"seed {seed}: best on the search set: {shown}; {len(searched)} merges measured", flush=True)
    print_references(searched, asked)
    results = []
    for seed, file in enumerate(files):
        results.append(confirmed(file, trials[seed], searched, asked))
        shown = ", ".join(f"{arm} {results[-1].confirmed[arm]:.4f}" for arm in Arm)
        parent = results[-1].better_parent
        print(f"seed {seed}: confirmed: {shown}, better parent {parent:.4f}", flush=True)
    if options.out is not None:
        write_merge_search(files[0], SearchView(report=results[0].report, trials=trials[0]), options.out)
    print("\n".join(lines(results)))
    print(f"the report of the last seed: {results[-1].report.conclusion}")


if __name__ == "__main__":
    main()
