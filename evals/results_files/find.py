"""Result files with their samples: in a file, or in a folder as lm-eval and the boards lay them out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from evals.alarms import find_alarms
from evals.claims.facts import Fact
from evals.errors import ClaimError
from evals.results_files.assemble import imported
from evals.results_files.imported_run import ImportedBenchmark, ImportedRun
from evals.results_files.parse import read_result_file
from evals.results_files.rules import renamed_key
from evals.results_files.samples import read_logged_samples, stamp_of, task_of
from evals.scores import Alarm, Sample
from evals.stats import documents, estimate
from evals.suite import Benchmark, OutputKind, Suite, load_suite

_MAX_FILES = 10_000
_RESULTS = re.compile(r"results?[_-].*\.json$|results\.json$")


def import_results(path: Path, suites: Sequence[Suite] | None = None) -> tuple[ImportedRun, ...]:
    """Every result file at a path, under the suites that know its tasks, oldest first."""
    files = result_files(path)
    runs = [import_result(file, suites, alone=is_alone(file, files)) for file in files]
    return tuple(
        sorted(runs, key=lambda r: (r.file.measured_at is None, str(r.file.measured_at), r.file.source))
    )


def import_result(path: Path, suites: Sequence[Suite] | None = None, *, alone: bool = True) -> ImportedRun:
    """One result file with the samples files beside it; `alone` says that they can be of no other run."""
    return _with_samples(imported(read_result_file(path), suites), path, alone=alone)


def is_alone(file: Path, files: Sequence[Path]) -> bool:
    """Whether no other of the files lies in the same folder."""
    return sum(other.parent == file.parent for other in files) == 1


def result_files(path: Path) -> tuple[Path, ...]:
    """The result files at a path: itself, or those of a folder by their names, or else by what is in them."""
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise ClaimError(f"{path} does not exist; give a results_*.json of lm-eval or a folder with some.")
    there = _json_files(path)
    found = [p for p in there if _RESULTS.match(p.name)] or [p for p in there if _holds_results(p)]
    if not found:
        raise ClaimError(
            f"{path} holds no result file; give a results_*.json of lm-eval or a folder with some."
        )
    return tuple(found)


def samples_of(
    run: ImportedRun, benchmark: ImportedBenchmark, suites: Sequence[Suite] | None = None
) -> tuple[Sample, ...]:
    """The samples of one benchmark of a run; nothing where the run has none."""
    name = benchmark.measurement.result.benchmark
    by_name = {s.name: s for s in suites or ()}
    definition = (by_name.get(benchmark.suite) or load_suite(benchmark.suite)).benchmark(name)
    tasks = {s.task for s in definition.subsets}
    found: list[Sample] = []
    for text in run.samples:
        task = renamed_key(_task_in(Path(text), run) or "")
        if task in tasks:
            found += read_logged_samples(Path(text), definition, task)
    return tuple(found)


def usable_samples(
    run: ImportedRun, benchmark: ImportedBenchmark, suites: Sequence[Suite] | None = None
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """The samples of one benchmark if they are whole, and why they are not used where they are not."""
    try:
        samples = samples_of(run, benchmark, suites)
    except ClaimError as error:
        return (), (f"The samples are not used: {error}",)
    if not samples:
        return (), ()
    counts = Counter(s.subset for s in samples)
    wanted = {s.subset: s.n for s in benchmark.measurement.scores}
    short = [
        f"{counts.get(task, 0)} of {n} documents of {task}" for task, n in wanted.items() if counts[task] != n
    ]
    if short:
        more = f" and {len(short) - 1} more subsets" if len(short) > 1 else ""
        return (), (f"The samples are not used: they hold {short[0]}{more}.",)
    return samples, ()


def with_samples(benchmark: ImportedBenchmark, samples: Sequence[Sample], suite: Suite) -> ImportedBenchmark:
    """The benchmark with the interval and the alarms that its samples give, and a problem where they tell another score."""
    definition = suite.benchmark(benchmark.measurement.result.benchmark)
    metric = benchmark.measurement.result.metric
    other_stage = metric not in definition.metrics and len(definition.metrics) == 1
    if other_stage and all(metric in sample.metrics for sample in samples):
        definition = definition.model_copy(update={"metrics": (metric,)})
    better = estimate(documents([samples], definition))
    measurement = benchmark.measurement
    problems = benchmark.problems
    if abs(better.value - measurement.result.normalized) > 0.01:
        told, shown = better.value, measurement.result.normalized
        problems = (*problems, f"The samples come to {told:.2f}, the results say {shown:.2f}.")
    alarms = {(a.kind, a.share): a for task in _by_subset(samples) for a in _alarms(definition, task)}
    result = measurement.result.model_copy(update={"alarms": tuple(alarms.values())})
    own = measurement.model_copy(update={"estimate": better, "result": result})
    return benchmark.model_copy(update={"measurement": own, "problems": problems})


def one_line(run: ImportedRun) -> str:
    """What a run is, in a line: checkpoint, template, precision, date."""
    facts = run.file.facts
    parts = [run.file.checkpoint, run.file.format.value]
    parts += [f"{f} {facts.known[f]}" for f in (Fact.TEMPLATE, Fact.DTYPE, Fact.LIMIT) if f in facts.known]
    if run.file.measured_at is not None:
        parts.append(run.file.measured_at.strftime("%Y-%m-%d"))
    return ", ".join(parts)


def _by_subset(samples: Sequence[Sample]) -> list[list[Sample]]:
    subsets: dict[str, list[Sample]] = {}
    for sample in samples:
        subsets.setdefault(sample.subset, []).append(sample)
    return list(subsets.values())


def _alarms(benchmark: Benchmark, samples: Sequence[Sample]) -> tuple[Alarm, ...]:
    """The alarms of one subset, if its file has what they are found by."""
    chosen = benchmark.output is OutputKind.MULTIPLE_CHOICE
    return () if chosen and not all(s.logprobs for s in samples) else find_alarms(benchmark, samples)


def _json_files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for path in sorted(folder.rglob("*.json")):
        if task_of(path) is None and path.is_file():
            found.append(path)
        if len(found) > _MAX_FILES:
            raise ClaimError(
                f"{folder} holds more than {_MAX_FILES:,} JSON files; give the folder of one run."
            )
    return found


def _holds_results(path: Path) -> bool:
    try:
        return bool(read_result_file(path).tasks)
    except ClaimError:
        return False


def _task_in(path: Path, run: ImportedRun) -> str | None:
    """The task that a samples file is of: by its own name, or, as lm-eval 0.4.0 to 0.4.2 wrote them (the model's arguments,
    then the task), by the tasks of the run."""
    ends = (t.key for t in run.file.tasks if path.name.endswith(f"_{t.key}.jsonl"))
    return task_of(path) or max(ends, key=len, default=None)


def _with_samples(run: ImportedRun, file: Path, *, alone: bool) -> ImportedRun:
    """The run with the samples files beside it: those of its own time, or all where there is only one run."""
    beside = [p for p in sorted(file.parent.glob("*.json*")) if p != file and _task_in(p, run) is not None]
    own = [p for p in beside if (stamp_of(p) or "?") in file.name]
    chosen = own or (beside if alone and len({stamp_of(p) for p in beside}) == 1 else [])
    problems = run.problems
    if beside and not chosen:
        problems = (
            *problems,
            f"The {len(beside)} samples files beside it are of another time: they are not used.",
        )
    return run.model_copy(update={"samples": tuple(map(str, chosen)), "problems": problems})
