"""Searches over merges of trained specialists beside random search and a grid, at equal cost, with many seeds.

    python -m benchmarks.search_methods --cache DIR [--seeds 20] [--evaluations 25] [--sampler gp] [--out DIR]
                                        [--skills arithmetic,rules,facts] [--step 0.25]

Copies of the demo model, trained on one skill each (`tests/support/specialists.py`; they are made first, some minutes), are merged by
task arithmetic with one searched weight each: of two in steps of 0.1, 256 possible merges, each measured at most once, on real weights, and
kept in --cache, so that a run that was stopped goes on; --out gets report and pictures of the first seed. Trials, grid, choice of the best and
confirmation are those of `mergeboard search`; only the merges are made in this process, without store and Ray.

All methods get the same number of evaluations. At equal seconds, random search gets further ones: as many as fit into the seconds that the
search's proposals took, where an evaluation takes the median of all that were measured (they do the same work, and others use the machine).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from evals.probes import ProbeResult, Scoring, Split, get_probe
from orchestrator.search.merges.confirmation import MergeEvidence, confirm_merges
from orchestrator.search.merges.course import Course, best_first, best_so_far, grid
from orchestrator.search.merges.files import write_merge_search
from orchestrator.search.merges.importance import importance_of
from orchestrator.search.merges.run import begun_report
from orchestrator.search.merges.sampler import PastTrial, Proposer, trial_seed
from orchestrator.search.merges.search_file import SamplerKind, SearchFile, parse_search
from orchestrator.search.merges.space import Values
from orchestrator.store.merge_report import MergeReport, ReferenceResult, SearchView
from orchestrator.store.trial_records import Arm, TrialRecord, TrialState
from recipes.demo import BASE, ensure_demo_checkpoint
from tests.support.merged_values import MergedValues
from tests.support.specialists import PROBES, ensure_specialist

KEPT = 3
"""Merges of a search that are confirmed."""
AVERAGE = "plain average"
SEARCH = """
name: specialists
base: base
recipe:
  merge_method: task_arithmetic
  base_model: base
  dtype: float32
  models:
MODELS
objectives: [OBJECTIVES]
budget: {evaluations: EVALUATIONS}
sampler: SAMPLER
seed: SEED
compare_with: RIVALS
"""
MODEL = "    - {model: SKILL, parameters: {weight: {search: [0, 1.5], step: STEP}}}"


class Setting(NamedTuple):
    """Which specialists are merged, and how finely their weights are searched."""

    skills: tuple[str, ...] = ("arithmetic", "rules")
    step: float = 0.1

    @property
    def references(self) -> dict[str, tuple[float, ...]]:
        """Parents and the plain average as weights of the task vectors."""
        n = len(self.skills)
        alone = {skill: tuple(float(other == skill) for other in self.skills) for skill in self.skills}
        return {"base": (0.0,) * n, **alone, AVERAGE: (round(1 / n, 4),) * n}

    def search_file(
        self, seed: int, evaluations: int, sampler: str, rivals: Sequence[str] = ("random", "grid")
    ) -> SearchFile:
        """The search with a seed."""
        words = {
            "MODELS": "\n".join(
                MODEL.replace("SKILL", skill).replace("STEP", str(self.step)) for skill in self.skills
            ),
            "OBJECTIVES": ", ".join(PROBES[skill] for skill in self.skills),
            "EVALUATIONS": str(evaluations),
            "SAMPLER": sampler,
            "SEED": str(seed),
            "RIVALS": f"[{', '.join(rivals)}]",
        }
        text = SEARCH
        for word, value in words.items():
            text = text.replace(word, value)
        return parse_search(text.encode(), origin="specialists.yaml", folder=Path())


TWO_SKILLS = Setting()


class MeasuredMerges:
    """Answers of merges, each measured once and kept in a file."""

    def __init__(
        self, folder: Path, split: Split, sources: Sequence[Path], setting: Setting = TWO_SKILLS
    ) -> None:
        self._base, *self._specialists = sources
        self._probes = [get_probe(f"{PROBES[skill]}-{split}") for skill in setting.skills]
        self._file = folder / f"answers-{'-'.join(setting.skills)}-{split}.jsonl"
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

    @property
    def median_s(self) -> float:
        """Median seconds of an evaluation."""
        return statistics.median(self.seconds.values())

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
    better_parent: float
    """Its value on the confirmation set."""
    overtaken: dict[Arm, int | None]
    """Evaluations after which the search is at least as good as a rival is after all of its own; null if it never is."""
    report: MergeReport


class Trials(NamedTuple):
    """All trials of a search and its rivals."""

    records: tuple[TrialRecord, ...]
    proposing_s: dict[Arm, float]
    """Seconds that the proposals of each method took."""


def run_trials(file: SearchFile, measured: MeasuredMerges) -> Trials:
    """Propose and measure all trials of a search and its rivals."""
    course = Course(file.search, file.space)
    proposing_s = dict.fromkeys(Arm, 0.0)
    while True:
        begun = time.perf_counter()
        trial = course.propose()
        if trial is None:
            return Trials(course.trials, proposing_s)
        proposing_s[trial.arm] += time.perf_counter() - begun
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


def rivals_at_equal_seconds(file: SearchFile, count: int, measured: MeasuredMerges) -> dict[Arm, float]:
    """The best values of random search and of a grid with `count` evaluations; random search draws on where the search's rival ended."""
    proposer = Proposer(file.space, SamplerKind.RANDOM, trial_seed(file.search.seed, -1))
    drawn: list[PastTrial] = []
    for number in range(count):
        drawn.append(PastTrial(parameters=proposer.propose(drawn, [0] * (number + 1)), values=None))
    points = {
        Arm.RANDOM: [past.parameters for past in drawn],
        Arm.GRID: grid(file.space, count, file.search.seed),
    }
    return {
        arm: max(file.search.together(measured.values(_weights(point))) for point in of_arm)
        for arm, of_arm in points.items()
    }


def best_values(
    file: SearchFile, trials: Sequence[TrialRecord], arms: Iterable[Arm] = Arm
) -> dict[Arm, float]:
    """The largest value of each method on the search set."""
    best = {arm: best_first(file.search, [t for t in trials if t.arm is arm])[0] for arm in arms}
    return {arm: file.search.together(trial.objectives or ()) for arm, trial in best.items()}


def overtaken(file: SearchFile, trials: Sequence[TrialRecord], rival: Arm) -> int | None:
    """Evaluations of the search until it is at least as good as a rival's best."""
    least = best_values(file, trials)[rival] - 1e-12
    steps = best_so_far(file.search, [t for t in trials if t.arm is Arm.SEARCH])
    return next((count for count, _, best in steps if best >= least), None)


def weights_of(trial: TrialRecord) -> tuple[float, ...]:
    """The weights of a trial's task vectors."""
    return _weights(trial.parameters)


def _weights(parameters: Values) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in parameters.values())


def confirmed(
    file: SearchFile,
    trials: Sequence[TrialRecord],
    searched: MeasuredMerges,
    asked: MeasuredMerges,
    setting: Setting = TWO_SKILLS,
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
        for name, weights in setting.references.items()
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
            search={n: searched.of(w) for n, w in setting.references.items()}
            | {t.candidate: searched.of(weights_of(t)) for t in [*ranked, *rivals]},
            confirmation={n: asked.of(w) for n, w in setting.references.items()}
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
        better_parent=search.together(asked.values(setting.references[parent.name])),
        overtaken={arm: overtaken(file, trials, arm) for arm in (Arm.RANDOM, Arm.GRID)},
        report=report.model_copy(
            update={
                "confirmation": confirmation,
                "winner": winner.number,
                "references": tuple(
                    r.model_copy(update={"confirmed": asked.values(setting.references[r.name])})
                    for r in references
                ),
            }
        ),
    )


def print_references(searched: MeasuredMerges, asked: MeasuredMerges, setting: Setting) -> None:
    """Values of the parents and the plain average in all probes, on both sets."""
    width = 12 * len(setting.skills)
    print(f"{'':<14}{'search set':>{width}}{'confirmation set':>{width}}")
    for name, weights in setting.references.items():
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
        yield (
            f"{arm}: mean best {statistics.fmean(best):.4f} ({min(best):.4f} to {max(best):.4f}), confirmed "
            f"{statistics.fmean(after):.4f}"
        )
    below = [r for r in results if r.confirmed[Arm.SEARCH] < r.better_parent]
    silent = [r for r in below if not r.report.conclusion.startswith("No merge here beats")]
    real = sum("beat" in r.report.conclusion and "No merge" not in r.report.conclusion for r in results)
    yield f"called real after the confirmation: {real} of {n}"
    yield f"below the better parent on the confirmation set: {len(below)}, of these without saying so: {len(silent)}"


def lines_at_equal_seconds(
    results: Sequence[Result], rivals: Sequence[Mapping[Arm, float]], counts: Sequence[int]
) -> Iterator[str]:
    """The search against rivals that had further evaluations for the seconds of its proposals."""
    shown = f"{min(counts)} to {max(counts)} evaluations"
    for arm in (Arm.RANDOM, Arm.GRID):
        pairs = [(r.best[Arm.SEARCH], other[arm]) for r, other in zip(results, rivals, strict=True)]
        better = sum(ours > theirs + 1e-12 for ours, theirs in pairs)
        equal = sum(abs(ours - theirs) <= 1e-12 for ours, theirs in pairs)
        yield (
            f"at equal seconds ({shown}) against {arm}: better in {better}, equal in {equal} of {len(pairs)} seeds; mean best of the rival "
            f"{statistics.fmean(theirs for _, theirs in pairs):.4f}"
        )


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
    parser.add_argument("--skills", default=",".join(TWO_SKILLS.skills))
    parser.add_argument("--step", type=float, default=TWO_SKILLS.step)
    options = parser.parse_args()
    setting = Setting(tuple(options.skills.split(",")), options.step)
    base = ensure_demo_checkpoint(options.cache / "home", BASE)
    specialists = [ensure_specialist(skill, options.cache) for skill in setting.skills]
    folder = specialists[0].parent
    searched, asked = (MeasuredMerges(folder, split, [base, *specialists], setting) for split in Split)
    files = [setting.search_file(seed, options.evaluations, options.sampler) for seed in range(options.seeds)]
    trials = []
    for seed, file in enumerate(files):
        trials.append(run_trials(file, searched))
        best = best_values(file, trials[-1].records)
        shown = ", ".join(f"{arm} {best[arm]:.4f}" for arm in Arm)
        print(f"seed {seed}: best on the search set: {shown}; {len(searched)} merges measured", flush=True)
    print_references(searched, asked, setting)
    results = []
    for seed, file in enumerate(files):
        results.append(confirmed(file, trials[seed].records, searched, asked, setting))
        shown = ", ".join(f"{arm} {results[-1].confirmed[arm]:.4f}" for arm in Arm)
        parent = results[-1].better_parent
        print(f"seed {seed}: confirmed: {shown}, better parent {parent:.4f}", flush=True)
    if options.out is not None:
        view = SearchView(report=results[0].report, trials=trials[0].records)
        write_merge_search(files[0], view, options.out)
    print("\n".join(lines(results)))
    counts = [options.evaluations + math.ceil(t.proposing_s[Arm.SEARCH] / searched.median_s) for t in trials]
    proposing = statistics.fmean(t.proposing_s[Arm.SEARCH] for t in trials)
    print(
        f"an evaluation takes {searched.median_s:.1f} s in the median, the proposals of a search {proposing:.1f} s"
    )
    rivals = [
        rivals_at_equal_seconds(file, count, searched) for file, count in zip(files, counts, strict=True)
    ]
    print("\n".join(lines_at_equal_seconds(results, rivals, counts)))
    print(f"the report of the last seed: {results[-1].report.conclusion}")


if __name__ == "__main__":
    main()
