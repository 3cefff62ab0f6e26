"""Benchmarks made from a result file for the tasks that no suite contains.

A group with a value of its own is one benchmark over its tasks, aggregated as the group's value shows; every other task is a
benchmark. The first metric of the task's own definition that is a share is the benchmark's metric; all others are kept as scores. A
task without a share (perplexity) has its first metric whose direction is known.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import islice

from evals.benchmark import Formula
from evals.claims.facts import Fact, limit_text, versions_text
from evals.claims.records import Measurement
from evals.normalize import benchmark_score
from evals.results_files.imported_run import ImportedBenchmark, ResultFile, TaskResult
from evals.scores import BenchmarkScore, Score
from evals.stats import estimate_from_scores, missing_error, unknown_estimate
from evals.suite import Aggregation, Benchmark, Dataset, Extraction, OutputKind, Subset

HARNESS_SUITE = "lm-eval"
"""Suite name of lm-eval's tasks that no suite contains."""
# Files before lm-eval 0.4.8 do not say which metrics are better when lower.
_LOWER = re.compile(
    r"perplexity|(?:^|_)ppl|bits_per|(?:^|_)bpb|brier|(?:^|_)(?:ter|wer|cer|mse|mae|loss)(?:$|,|_)"
)
_PERCENT = re.compile(r"^(?:bleu|chrf|sacrebleu)(?:$|,)")
_PER_CHARACTER = re.compile(r"^acc_norm(?:$|,)")
_PERPLEXITIES = ("perplexity", "word_perplexity", "byte_perplexity")
_BITS = "bits_per_byte"
_DOWN = " \u2193"
_MOST_PROBLEMS = 8
_MOST_DOCUMENTS = 10_000_000


def unlisted_benchmarks(
    file: ResultFile, listed: Collection[str], suite: str = HARNESS_SUITE
) -> tuple[tuple[ImportedBenchmark, ...], tuple[str, ...]]:
    """The benchmarks of the tasks that are not listed, in the file's order, and why other tasks give none."""
    tasks = {task.key: task for task in file.tasks if task.key not in listed and task.key != "all"}
    leaves = {key for key in tasks if key not in file.members and key not in file.groups}
    benchmarks: list[ImportedBenchmark] = []
    problems: list[str] = []
    grouped: set[str] = set()
    for key, members in _top_groups(file, tasks, leaves).items():
        benchmark = _benchmark(file, tasks[key], [tasks[m] for m in members], suite)
        if isinstance(benchmark, ImportedBenchmark):
            benchmarks.append(benchmark)
            grouped |= set(members)
    for key in (key for key in tasks if key in leaves - grouped):
        benchmark = _benchmark(file, tasks[key], [tasks[key]], suite)
        if isinstance(benchmark, ImportedBenchmark):
            benchmarks.append(benchmark)
        else:
            problems.append(benchmark)
    order = {key: position for position, key in enumerate(tasks)}
    benchmarks.sort(key=lambda b: order[b.measurement.result.benchmark])
    more = [f"{len(problems) - _MOST_PROBLEMS} more tasks have no usable metric."] * (
        len(problems) > _MOST_PROBLEMS
    )
    return tuple(benchmarks), (*problems[:_MOST_PROBLEMS], *more)


def unlisted_score(definition: Benchmark, scores: Sequence[Score]) -> BenchmarkScore:
    """The score of a task that no suite contains; it is on no board."""
    return benchmark_score(definition, scores).model_copy(update={"comparable_to_board": False})


def usable_metrics(task: TaskResult) -> dict[str, float]:
    """The divisor (1 or 100) of every metric that is a share and better when higher, the main one first."""
    lower = set(task.lower_is_better)
    names = [m for m in task.preferred if m in task.metrics]
    # lm-eval writes a metric named " " for a group without a value.
    names += [m for m in task.metrics if m not in names and m.strip()]
    usable = {}
    for name in names:
        value = task.metrics[name]
        if _is_lower(name, lower) or _is_count(name):
            continue
        if 0 <= value <= 1 and not _PERCENT.match(name):
            usable[name] = 1.0
        elif 0 <= value <= 100:
            usable[name] = 100.0
    return usable


def unbounded_metrics(task: TaskResult) -> dict[str, bool]:
    """Every metric that is no share but measures quality, and whether it is better when lower, the main one first.

    A metric whose direction in the file is not the one of its name is left out: `--metric` goes by the name alone.
    """
    lower = set(task.lower_is_better)
    shares = usable_metrics(task)
    names = [
        m for m in (*task.preferred, *task.metrics) if m in task.metrics and m.strip() and m not in shares
    ]
    return {
        name: named
        for name in dict.fromkeys(names)
        if not _is_count(name) and (named := _LOWER.search(name) is not None) == _is_lower(name, lower)
    }


def with_column(definition: Benchmark, metrics: tuple[str, ...], scores: Sequence[Score]) -> Benchmark:
    """The definition of an imported task with other metrics as its column; `scores` show which of them are shares."""
    name = metrics[0].partition(",")[0]
    lower = _LOWER.search(metrics[0]) is not None
    is_share = not lower and all(0 <= s.value <= 1 for s in scores if s.metric in metrics)
    formula = None if is_share or name == _BITS else Formula.OTHER
    if name in _PERPLEXITIES:
        formula = Formula.PERPLEXITY
    title = definition.title.removesuffix(_DOWN) + (_DOWN if lower else "")
    return definition.model_copy(
        update={"metrics": metrics, "lower_is_better": lower, "formula": formula, "title": title}
    )


def is_lower_by_name(metric: str) -> bool:
    """Whether a metric's name says that it is better when lower."""
    return _LOWER.search(metric) is not None


def _is_lower(metric: str, stated: Collection[str]) -> bool:
    return metric in stated or metric.partition(",")[0] in stated or _LOWER.search(metric) is not None


def _is_count(metric: str) -> bool:
    return metric.partition(",")[0].endswith(("_len", "_count")) or metric == "sample_len"


def _top_groups(
    file: ResultFile, tasks: Mapping[str, TaskResult], leaves: Collection[str]
) -> dict[str, list[str]]:
    """The outermost groups that have values, each with its tasks; a group with tasks of a suite is left out."""
    members = {key: _leaves(key, file.members, leaves) for key in file.members if key in tasks}
    valued = {
        key: names
        for key, names in members.items()
        if len(names) > 1 and usable_metrics(tasks[key]) and not _has_others(key, file.members, leaves)
    }
    outermost: dict[str, list[str]] = {}
    taken: set[str] = set()
    for key in sorted(valued, key=lambda k: -len(valued[k])):
        if not taken & set(valued[key]):
            outermost[key] = valued[key]
            taken |= set(valued[key])
    return outermost


def _leaves(key: str, members: Mapping[str, tuple[str, ...]], leaves: Collection[str]) -> list[str]:
    """The tasks of a group and of the groups in it, without repetition; a group that holds itself ends there."""
    seen: set[str] = set()
    pending, names = [key], []
    while pending:
        current = pending.pop(0)
        if current in seen:
            continue
        seen.add(current)
        if current in leaves:
            names.append(current)
        pending = [*members.get(current, ()), *pending]
    return names


def _has_others(key: str, members: Mapping[str, tuple[str, ...]], leaves: Collection[str]) -> bool:
    """Whether a group has tasks that are not among these, for example a suite's."""
    everything = _leaves(key, members, {m for names in members.values() for m in names if m not in members})
    return any(name not in leaves for name in everything)


def _benchmark(
    file: ResultFile, named: TaskResult, parts: Sequence[TaskResult], suite: str
) -> ImportedBenchmark | str:
    """The benchmark of a task, or of a group over its tasks; a sentence if it has no usable metric."""
    usable = [usable_metrics(part) for part in parts]
    shared = {m: d for m, d in usable[0].items() if all(m in other for other in usable)}
    # A metric is a percentage if any of the tasks has a value above 1.
    divisors = {m: max(other[m] for other in usable) for m in shared}
    unbounded = [unbounded_metrics(part) for part in parts]
    divisors |= {m: 1.0 for m in unbounded[0] if all(m in other for other in unbounded)}
    if not divisors:
        shown = ", ".join(islice(sorted(named.metrics), 4)) or "no number"
        return f"{named.key} has no metric whose direction is known ({shown}): it is not imported."
    if any(part.n == 0 for part in parts):
        return f"{named.key} was run on 0 documents: it is not imported."
    main = next(iter(divisors))
    definition = _definition(named, parts, main, divisors[main])
    scores = tuple(_score(file, named.key, part, m, d) for part in parts for m, d in divisors.items())
    definition = with_column(definition, (main,), scores)
    facts = file.facts.plus(
        {
            Fact.SUITE: suite,
            Fact.BENCHMARK: named.key,
            Fact.SHOTS: ", ".join(map(str, sorted({p.shots for p in parts if p.shots is not None}))) or None,
            Fact.TASK_VERSION: versions_text({p.key: p.version for p in parts if p.version is not None}),
        }
    )
    if any(s.partial for s in scores) and facts.get(Fact.LIMIT) in (None, limit_text(None)):
        main_scores = [s for s in scores if s.metric == main]
        facts = facts.plus({Fact.LIMIT: f"{sum(s.n for s in main_scores)} documents"})
    counted = all(part.n is not None for part in parts)
    known = all(_documents(file, part, main)[2] for part in parts)
    result = unlisted_score(definition, scores)
    measurement = Measurement(
        checkpoint=file.checkpoint,
        facts=facts,
        scores=scores,
        result=result,
        estimate=estimate_from_scores(scores, definition)
        if missing_error(scores, definition) is None
        else unknown_estimate(result.normalized, result.n),
    )
    unknown = () if known else ("The file does not say on how many documents it was measured.",)
    return ImportedBenchmark(
        suite=suite,
        measurement=measurement,
        problems=(*unknown, *_group_problems(named, definition, measurement, main, divisors[main])),
        definition=definition,
        percent=tuple(m for m, d in divisors.items() if d == 100.0),
        counted=counted,
    )


def _definition(named: TaskResult, parts: Sequence[TaskResult], main: str, divisor: float) -> Benchmark:
    output = parts[0].output or (OutputKind.GENERATION if "," in main else OutputKind.MULTIPLE_CHOICE)
    if output is OutputKind.MULTIPLE_CHOICE:
        per_character = _PER_CHARACTER.match(main)
        extraction = Extraction.CHOICE_PER_CHARACTER if per_character else Extraction.CHOICE
    else:
        extraction = Extraction.FILTER if "," in main else Extraction.NONE
    return Benchmark(
        name=named.key,
        title=named.key,
        tasks="",
        shots=parts[0].shots or 0,
        metrics=(main,),
        aggregation=_aggregation(named, parts, main, divisor),
        output=output,
        extraction=extraction,
        dataset=Dataset(path=parts[0].dataset or "unknown"),
        subsets=tuple(Subset(task=part.key) for part in parts),
    )


def _aggregation(named: TaskResult, parts: Sequence[TaskResult], main: str, divisor: float) -> Aggregation:
    """The plain mean over the tasks if only that gives the group's value, else all documents pooled."""
    value = named.metrics.get(main)
    counts = [part.n for part in parts]
    if len(parts) == 1 or value is None:
        return Aggregation.POOLED
    values = [part.metrics[main] for part in parts]
    plain = sum(values) / len(values)
    sizes = [n for n in counts if n]
    if len(sizes) != len(parts):
        return Aggregation.SUBSET_MEAN
    pooled = sum(v * n for v, n in zip(values, sizes, strict=True)) / sum(sizes)
    is_plain = abs(value - plain) < abs(value - pooled) and abs(value - plain) < 1e-4 * divisor
    return Aggregation.SUBSET_MEAN if is_plain else Aggregation.POOLED


def _group_problems(
    named: TaskResult, definition: Benchmark, measurement: Measurement, main: str, divisor: float
) -> tuple[str, ...]:
    """A problem if a group's value in the file is not the one that its tasks give."""
    stated = named.metrics.get(main)
    if len(definition.subsets) == 1 or stated is None:
        return ()
    raw = measurement.result.raw
    if abs(raw - stated / divisor) <= 1e-4:
        return ()
    return (f"{named.key} is {stated / divisor:.4f} in the file, but its tasks give {raw:.4f}.",)


def _score(file: ResultFile, benchmark: str, part: TaskResult, metric: str, divisor: float) -> Score:
    n, n_full, _ = _documents(file, part, metric)
    stderr = part.stderrs.get(metric)
    return Score(
        benchmark=benchmark,
        subset=part.key,
        metric=metric,
        value=part.metrics[metric] / divisor,
        stderr=None if stderr is None else stderr / divisor,
        n=n,
        n_full=n_full,
        lower_bound=0.0,
        task_version=part.version or "unknown",
    )


def _documents(file: ResultFile, part: TaskResult, metric: str) -> tuple[int, int, bool]:
    """Evaluated and all documents of a task, and whether the number is known; 1 if nothing tells it."""
    n = part.n
    if n is None and file.limit is not None and file.limit < _MOST_DOCUMENTS:
        n = min(file.limit, part.n_full or file.limit)
    if n is None:
        n = part.n_full or _implied(part.metrics[metric], part.stderrs.get(metric))
    return (n, max(n, part.n_full or n), True) if n else (1, 1, False)


def _implied(value: float, stderr: float | None) -> int | None:
    """The number of documents that the standard error of a share implies; None if it implies none."""
    if not stderr or not 0 < value < 1:
        return None
    n = round(value * (1 - value) / stderr**2 + 1)
    return n if 1 < n < _MOST_DOCUMENTS and abs(value * n - round(value * n)) < 1e-3 * n**0.5 else None
