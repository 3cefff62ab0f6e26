"""Result files with their samples: in a file, or in a folder as lm-eval and the boards lay them out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from evals.claims.facts import Fact
from evals.claims.records import Measurement
from evals.errors import ClaimError
from evals.results_files.assemble import imported
from evals.results_files.parse import read_result_file
from evals.results_files.records import ImportedBenchmark, ImportedRun
from evals.results_files.rules import renamed_key
from evals.results_files.samples import read_logged_samples, stamp_of, task_of
from evals.scores import Sample
from evals.stats import documents, estimate
from evals.suite import Suite, load_suite

_MAX_FILES = 10_000
_RESULTS = re.compile(r"results?[_-].*\.json$|results\.json$")


def import_results(path: Path, suites: Sequence[Suite] | None = None) -> tuple[ImportedRun, ...]:
    """Every result file at a path, under the suites that know its tasks, oldest first."""
    files = [path] if path.is_file() else _result_files(path)
    if not files:
        raise ClaimError(
            f"{path} holds no result file; give a results_*.json of lm-eval or a folder with some."
        )
    runs = [
        _with_samples(imported(read_result_file(file), suites), file, alone=len(files) == 1) for file in files
    ]
    return tuple(
        sorted(runs, key=lambda r: (r.file.measured_at is None, str(r.file.measured_at), r.file.source))
    )


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
        task = renamed_key(task_of(Path(text)) or "")
        if task in tasks:
            found += read_logged_samples(Path(text), definition, task)
    return tuple(found)


def with_samples(benchmark: ImportedBenchmark, samples: Sequence[Sample], suite: Suite) -> ImportedBenchmark:
    """The benchmark with the interval that its samples give, and a problem where they tell another score."""
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
    own = Measurement(
        checkpoint=measurement.checkpoint,
        facts=measurement.facts,
        scores=measurement.scores,
        result=measurement.result,
        estimate=better,
    )
    return benchmark.model_copy(update={"measurement": own, "problems": problems})


def one_line(run: ImportedRun) -> str:
    """What a run is, in a line: checkpoint, template, precision, date."""
    facts = run.file.facts
    parts = [run.file.checkpoint, run.file.format.value]
    parts += [f"{f} {facts.known[f]}" for f in (Fact.TEMPLATE, Fact.DTYPE, Fact.LIMIT) if f in facts.known]
    if run.file.measured_at is not None:
        parts.append(run.file.measured_at.strftime("%Y-%m-%d"))
    return ", ".join(parts)


def _result_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ClaimError(f"{folder} does not exist; give a results_*.json of lm-eval or a folder with some.")
    found: list[Path] = []
    for i, path in enumerate(sorted(folder.rglob("*.json"))):
        if i >= _MAX_FILES:
            raise ClaimError(
                f"{folder} holds more than {_MAX_FILES:,} JSON files; give the folder of one run."
            )
        if _RESULTS.match(path.name):
            found.append(path)
    return found


def _with_samples(run: ImportedRun, file: Path, *, alone: bool) -> ImportedRun:
    """The run with the samples files beside it: those of its own time, or all where there is only one run."""
    beside = [p for p in sorted(file.parent.glob("samples_*.json*")) if task_of(p) is not None]
    own = [p for p in beside if (stamp_of(p) or "?") in file.name]
    chosen = own or (beside if alone and len({stamp_of(p) for p in beside}) == 1 else [])
    return run.model_copy(update={"samples": tuple(map(str, chosen))})
