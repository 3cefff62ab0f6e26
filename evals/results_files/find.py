"""Finds result files and their samples in the folder layouts of lm-eval and the leaderboards."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from evals.alarms import find_alarms
from evals.errors import ClaimError
from evals.results_files.assemble import assemble_run
from evals.results_files.foreign import is_foreign, read_foreign
from evals.results_files.imported_run import ImportedBenchmark, ImportedRun
from evals.results_files.parse import read_result_file
from evals.results_files.rules import rename_key
from evals.results_files.samples import read_logged_samples, stamp_of, task_of
from evals.results_files.unlisted import unlisted_benchmarks, unlisted_score
from evals.scores import Alarm, Sample
from evals.stats import documents, estimate, has_sums
from evals.suite import Benchmark, OutputKind, Suite, load_suite

_MAX_FILES = 10_000
_RESULTS = re.compile(r"results?[_-].*\.json$|results\.json$")


def import_result(path: Path, suites: Sequence[Suite] | None = None, *, alone: bool = True) -> ImportedRun:
    """Import one result file and the samples files in its folder; `alone`: there is no other result file in it."""
    other = read_foreign(path)
    if other is not None:
        return other
    return _with_samples(with_unlisted(assemble_run(read_result_file(path), suites)), path, alone=alone)


def with_unlisted(run: ImportedRun) -> ImportedRun:
    """The run with benchmarks for its tasks that no suite contains; `ignored` keeps those without a usable metric."""
    if not run.ignored:
        return run
    known = {t.key for t in run.file.tasks} - set(run.ignored) - set(run.file.groups)
    benchmarks, problems = unlisted_benchmarks(run.file, known)
    taken = {s.subset for b in benchmarks for s in b.measurement.scores}
    return run.model_copy(
        update={
            "benchmarks": (*run.benchmarks, *benchmarks),
            "ignored": tuple(key for key in run.ignored if key not in taken),
            "problems": (*run.problems, *problems),
        }
    )


def is_alone(file: Path, files: Sequence[Path]) -> bool:
    """Whether no other of the files is in the same folder."""
    return sum(other.parent == file.parent for other in files) == 1


def result_files(path: Path) -> tuple[Path, ...]:
    """The result files at a path: the file itself, or those of a folder by name, or else by content."""
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise ClaimError(f"{path} does not exist; give a results_*.json of lm-eval or a folder with some.")
    json_files = _json_files(path)
    matches = [p for p in json_files if p.suffix == ".eval" or _RESULTS.match(p.name)] or [
        p for p in json_files if _holds_results(p)
    ]
    if not matches:
        raise ClaimError(
            f"{path} holds no result file; give a results_*.json of lm-eval or a folder with some."
        )
    return tuple(matches)


def samples_of(
    run: ImportedRun, benchmark: ImportedBenchmark, suites: Sequence[Suite] | None = None
) -> tuple[Sample, ...]:
    """The samples of one benchmark of a run; empty if the run has none."""
    definition = definition_of(benchmark, suites)
    tasks = {s.task for s in definition.subsets}
    samples: list[Sample] = [s for task in run.answers if task in tasks for s in run.answers[task]]
    for text in run.samples:
        task = rename_key(_task_in(Path(text), run) or "")
        if task in tasks:
            samples += read_logged_samples(Path(text), definition, task, frozenset(benchmark.percent))
    return tuple(samples)


def definition_of(benchmark: ImportedBenchmark, suites: Sequence[Suite] | None = None) -> Benchmark:
    """The definition that came with an imported benchmark, or its suite's."""
    if benchmark.definition is not None:
        return benchmark.definition
    by_name = {s.name: s for s in suites or ()}
    suite = by_name.get(benchmark.suite) or load_suite(benchmark.suite)
    return suite.benchmark(benchmark.measurement.result.benchmark)


def usable_samples(
    run: ImportedRun, benchmark: ImportedBenchmark, suites: Sequence[Suite] | None = None
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """The samples of one benchmark if they are complete, else the reason why they are not used."""
    if benchmark.complete:
        return tuple(s for answers in run.answers.values() for s in answers), ()
    try:
        samples = samples_of(run, benchmark, suites)
    except ClaimError as error:
        return (), (f"The samples are not used: {error}",)
    if not samples:
        return (), ()
    counts = Counter(s.subset for s in samples)
    scores = benchmark.measurement.scores
    expected = {s.subset: s.n if benchmark.counted else max(1, counts[s.subset]) for s in scores}
    incomplete = [
        f"{counts.get(task, 0)} of {n} documents of {task}"
        for task, n in expected.items()
        if counts[task] != n
    ]
    if incomplete:
        more = f" and {len(incomplete) - 1} more subsets" if len(incomplete) > 1 else ""
        return (), (f"The samples are not used: they hold {incomplete[0]}{more}.",)
    return samples, ()


def with_samples(
    benchmark: ImportedBenchmark, samples: Sequence[Sample], suite: Suite | None = None
) -> ImportedBenchmark:
    """The benchmark with interval and alarms from its samples, and a problem if the samples give another score."""
    definition = definition_of(benchmark, (suite,) if suite is not None else None)
    if benchmark.complete:
        return benchmark
    if not benchmark.counted:
        benchmark = _counted(benchmark, samples, definition)
    metric = benchmark.measurement.result.metric
    other_stage = metric not in definition.metrics and len(definition.metrics) == 1
    if other_stage and all(metric in sample.metrics for sample in samples):
        definition = definition.model_copy(update={"metrics": (metric,)})
    if not has_sums(samples, definition):
        return benchmark
    from_samples = estimate(documents([samples], definition))
    measurement = benchmark.measurement
    problems = benchmark.problems
    stated = measurement.result.normalized
    if abs(from_samples.value - stated) > 0.01:
        problems = (*problems, f"The samples give {from_samples.value:.2f}, the results {stated:.2f}.")
    alarms = {(a.kind, a.share): a for task in _by_subset(samples) for a in _alarms(definition, task)}
    result = measurement.result.model_copy(update={"alarms": tuple(alarms.values())})
    measurement = measurement.model_copy(update={"estimate": from_samples, "result": result})
    return benchmark.model_copy(update={"measurement": measurement, "problems": problems})


def _counted(
    benchmark: ImportedBenchmark, samples: Sequence[Sample], definition: Benchmark
) -> ImportedBenchmark:
    """The benchmark with the number of documents of its samples, which its file does not give."""
    counts = Counter(s.subset for s in samples)
    scores = tuple(
        s.model_copy(update={"n": counts[s.subset], "n_full": counts[s.subset]})
        for s in benchmark.measurement.scores
    )
    measurement = benchmark.measurement.model_copy(
        update={"scores": scores, "result": unlisted_score(definition, scores)}
    )
    return benchmark.model_copy(update={"measurement": measurement, "problems": (), "counted": True})


def _by_subset(samples: Sequence[Sample]) -> list[list[Sample]]:
    subsets: dict[str, list[Sample]] = {}
    for sample in samples:
        subsets.setdefault(sample.subset, []).append(sample)
    return list(subsets.values())


def _alarms(benchmark: Benchmark, samples: Sequence[Sample]) -> tuple[Alarm, ...]:
    """The alarms of one subset; none for multiple choice without log-probabilities."""
    chosen = benchmark.output is OutputKind.MULTIPLE_CHOICE
    return () if chosen and not all(s.logprobs for s in samples) else find_alarms(benchmark, samples)


def _json_files(folder: Path) -> list[Path]:
    paths: list[Path] = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".eval")):
        if task_of(path) is None and path.is_file():
            paths.append(path)
        if len(paths) > _MAX_FILES:
            raise ClaimError(
                f"{folder} holds more than {_MAX_FILES:,} JSON files; give the folder of one run."
            )
    return paths


def _holds_results(path: Path) -> bool:
    try:
        return is_foreign(path) or bool(read_result_file(path).tasks)
    except ClaimError:
        return False


def _task_in(path: Path, run: ImportedRun) -> str | None:
    """The task of a samples file, by its name; lm-eval 0.4.0 to 0.4.2 named it by the model's arguments, then the task."""
    ends = (t.key for t in run.file.tasks if path.name.endswith(f"_{t.key}.jsonl"))
    return task_of(path) or max(ends, key=len, default=None)


def _with_samples(run: ImportedRun, file: Path, *, alone: bool) -> ImportedRun:
    """The run with the samples files in its folder: those with its timestamp, or all if there is only one run."""
    beside = [p for p in sorted(file.parent.glob("*.json*")) if p != file and _task_in(p, run) is not None]
    same_time = [p for p in beside if (stamp_of(p) or "?") in file.name]
    chosen = same_time or (beside if alone and len({stamp_of(p) for p in beside}) == 1 else [])
    problems = run.problems
    if beside and not chosen:
        problems = (
            *problems,
            f"The {len(beside)} samples files in its folder have another timestamp: they are not used.",
        )
    return run.model_copy(update={"samples": tuple(map(str, chosen)), "problems": problems})
