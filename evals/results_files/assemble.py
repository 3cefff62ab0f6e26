"""Maps a result file to the benchmarks of the suites that contain its tasks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

from evals.claims.facts import Fact, Facts, limit_text, versions_text
from evals.claims.labels import board_suites
from evals.claims.records import Measurement
from evals.normalize import benchmark_score, suite_score
from evals.results_files.imported_run import (
    FileFormat,
    ImportedBenchmark,
    ImportedRun,
    ResultFile,
    TaskResult,
)
from evals.results_files.rules import KeyRule, rename_task, stage_rules
from evals.scores import Score, SuiteScore
from evals.stats import estimate_from_scores
from evals.suite import Benchmark, ScoringStage, Subset, Suite


def assemble_run(file: ResultFile, suites: Sequence[Suite] | None = None) -> ImportedRun:
    """The file's benchmarks and averages under every suite that contains its tasks."""
    suites = board_suites() if suites is None else suites
    tasks_by_key = dict(_by_suite_key(task, file.format) for task in file.tasks)
    benchmarks: list[ImportedBenchmark] = []
    problems: list[str] = []
    for suite in suites:
        for benchmark in suite.benchmarks:
            tasks = {s.task: tasks_by_key[s.task] for s in benchmark.subsets if s.task in tasks_by_key}
            if tasks:
                results, reasons = _import_benchmark(file, suite, benchmark, tasks)
                benchmarks += results
                problems += reasons
    names = {s.task for suite in suites for b in suite.benchmarks for s in b.subsets}
    ignored = [t.key for t in file.tasks if rename_task(t)[0].key not in names and t.key not in file.groups]
    groups = _prefixes(names)
    return ImportedRun(
        file=file,
        benchmarks=tuple(benchmarks),
        suites=tuple(_suites(benchmarks, suites)),
        ignored=tuple(k for k in ignored if k not in groups and k != "all"),
        problems=tuple(problems),
    )


def _by_suite_key(task: TaskResult, kind: FileFormat) -> tuple[str, tuple[TaskResult, KeyRule | None]]:
    suite_task, rule = rename_task(task, kind)
    return suite_task.key, (suite_task, rule)


def _import_benchmark(
    file: ResultFile,
    suite: Suite,
    benchmark: Benchmark,
    matches: Mapping[str, tuple[TaskResult, KeyRule | None]],
) -> tuple[list[ImportedBenchmark], list[str]]:
    """The benchmark's results, one per stage in the file; or the reasons why there is none."""
    tasks, problems = _usable(benchmark, matches)
    missing = [s.task for s in benchmark.subsets if s.task not in tasks]
    if not tasks:
        return [], problems or [f"{benchmark.title}: the file has none of its metrics."]
    if missing:
        shown = ", ".join(missing[:3]) + (" and others" if len(missing) > 3 else "")
        problems.append(f"{len(missing)} of its {len(benchmark.subsets)} subsets are missing ({shown}).")
    problems += _contradictions(file, benchmark, tasks)
    differences = [
        *_differences(benchmark, tasks),
        *sorted({r.remark for _, r in matches.values() if r and r.remark}),
    ]
    shared = (file, suite, benchmark)
    results = []
    for stage, metric, reason in _stages(file, suite, benchmark, tasks):
        scores = _scores(benchmark, tasks, (metric, stage), file.limit, problems)
        if scores:
            results.append(_make_benchmark(shared, scores, (stage, reason), differences, tuple(problems)))
    unfit = next(
        (_not_a_number(t) for t in tasks.values() if set(t.nan_metrics) & set(benchmark.metrics)), None
    )
    return [m.model_copy(update={"primary": i == 0, "unfit": unfit}) for i, m in enumerate(results)], []


def _not_a_number(task: TaskResult) -> str:
    return f"{task.key}: the metric is not a number in the file; the board showed it as 0"


def _make_benchmark(
    shared: tuple[ResultFile, Suite, Benchmark],
    scores: tuple[Score, ...],
    staged: tuple[str | None, str | None],
    differences: Sequence[str],
    problems: tuple[str, ...],
) -> ImportedBenchmark:
    file, suite, benchmark = shared
    stage, reason = staged
    restored = stage is not None and benchmark.stage(stage).metric is not None
    if stage is not None and not restored:
        differences = [*differences, f"Scored at stage {stage}: {_sentence(reason)}"]
    result = benchmark_score(benchmark, scores, differences=differences, stage=stage if restored else None)
    if stage is not None and not restored:
        result = result.model_copy(update={"comparable_to_board": not differences[:-1]})
    stage_benchmark = benchmark
    if restored and stage is not None:
        stage_benchmark = benchmark.model_copy(update={"metrics": (benchmark.stage(stage).metric,)})
    measurement = Measurement(
        checkpoint=file.checkpoint,
        facts=_facts(file, suite, benchmark, scores, stage),
        scores=scores,
        result=result,
        estimate=estimate_from_scores(scores, stage_benchmark),
    )
    return ImportedBenchmark(
        suite=suite.name, measurement=measurement, stage=stage, stage_reason=reason, problems=problems
    )


def _usable(
    benchmark: Benchmark, matches: Mapping[str, tuple[TaskResult, KeyRule | None]]
) -> tuple[dict[str, TaskResult], list[str]]:
    """The tasks whose metrics are numbers from 0 to 1, and the problems of the others."""
    tasks: dict[str, TaskResult] = {}
    problems: list[str] = []
    for name, (task, rule) in matches.items():
        metrics = [m for m in _metrics(benchmark) if m in task.metrics]
        invalid = [m for m in metrics if not 0 <= task.metrics[m] <= 1]
        zero = rule is not None and rule.nan_is_zero
        nan = [m for m in benchmark.metrics if m in task.nan_metrics and not zero]
        if rule is not None and task.version in rule.skip_versions:
            problems.append(f"{task.key} has version {task.version}, which the board skipped.")
        elif nan:
            problems.append(f"{task.key}: {nan[0]} is not a number in the file.")
        elif invalid:
            problems.append(
                f"{task.key}: {invalid[0]} is {task.metrics[invalid[0]]:g}, not a share from 0 to 1."
            )
        elif task.n == 0:
            problems.append(f"{task.key} was run on 0 documents.")
        elif not all(m in task.metrics for m in benchmark.metrics):
            metric_names = " and ".join(benchmark.metrics)
            problems.append(
                f"{task.key} lacks {metric_names}; it has {', '.join(sorted(task.metrics)) or 'no metric'}."
            )
        else:
            tasks[name] = task
    return tasks, problems


def _contradictions(file: ResultFile, benchmark: Benchmark, tasks: Mapping[str, TaskResult]) -> list[str]:
    """Problems of inconsistent figures: group values that are not the mean of their tasks, shares that fit no number of answers."""
    problems = []
    metric = benchmark.metrics[0]
    keys = {rename_task(task)[0].key for task in file.tasks}
    for group in file.tasks:
        members = {name for name in tasks if name.startswith(f"{group.key}_")}
        others = {k for k in keys if k.startswith(f"{group.key}_")} - members - _prefixes(members)
        if (
            metric not in group.metrics
            or len(members) != len(benchmark.subsets)
            or len(members) < 2
            or others
        ):
            continue
        sizes = [t.n or benchmark.subset(name).n_documents or 1 for name, t in tasks.items()]
        values = [t.metrics[metric] for t in tasks.values()]
        weighted = sum(v * n for v, n in zip(values, sizes, strict=True)) / sum(sizes)
        if min(abs(group.metrics[metric] - mean) for mean in (weighted, sum(values) / len(values))) > 1e-4:
            shown = group.metrics[metric]
            problems.append(
                f"{group.key} is {shown:.4f} in the file, but the mean of its tasks is {weighted:.4f}."
            )
    for task in tasks.values():
        value, stderr, n = task.metrics[metric], task.stderrs.get(metric), task.n
        share_stderr = math.sqrt(value * (1 - value) / (n - 1)) if n and n > 1 else None
        is_share = stderr is not None and share_stderr is not None and abs(stderr - share_stderr) < 1e-6
        if is_share and n is not None and abs(value * n - round(value * n)) > 0.01:
            problems.append(f"{task.key}: {metric} {value:.4f} is not a share of {n} documents.")
    return problems[:5]


def _stages(
    file: ResultFile, suite: Suite, benchmark: Benchmark, tasks: Mapping[str, TaskResult]
) -> list[tuple[str | None, str, str | None]]:
    """Stage, the file's metric for it, and the reason for the stage; the main result first."""
    first = next(iter(tasks.values()))
    main = benchmark.metrics[0]
    if not benchmark.stages:
        return [(None, main, None)]
    rule = next((r for r in stage_rules(suite.name, benchmark.name) if r.holds(first, file)), None)
    stages: list[tuple[str | None, str, str | None]] = [
        (rule.stage if rule else None, main, rule.reason if rule else None)
    ]
    for stage in _other_stages(benchmark, main):
        if stage.metric is not None and all(stage.metric in t.metrics for t in tasks.values()):
            stages.append((stage.name, stage.metric, f"the file has {stage.metric} beside {main}"))
    return stages


def _other_stages(benchmark: Benchmark, main: str) -> list[ScoringStage]:
    return [s for s in benchmark.stages if s.metric not in (None, main)]


def _scores(
    benchmark: Benchmark,
    tasks: Mapping[str, TaskResult],
    staged: tuple[str, str | None],
    limit: int | None,
    problems: list[str],
) -> tuple[Score, ...]:
    """The subsets' scores with the suite's metric for the stage."""
    metric, stage = staged
    target = benchmark.stage(stage).metric if stage is not None else None
    scores = []
    for subset in benchmark.subsets:
        task = tasks.get(subset.task)
        if task is None:
            continue
        for name in benchmark.metrics if len(benchmark.metrics) > 1 else (metric,):
            suite_metric = target if target is not None and name == metric else name
            scores.append(_score(benchmark, subset, task, (name, suite_metric), limit, problems))
    return tuple(scores)


def _score(
    benchmark: Benchmark,
    subset: Subset,
    task: TaskResult,
    names: tuple[str, str],
    limit: int | None,
    problems: list[str],
) -> Score:
    file_metric, suite_metric = names
    value, stderr = task.metrics[file_metric], task.stderrs.get(file_metric)
    n_full = subset.n_documents or task.n_full or task.n
    limited = min(limit, n_full) if limit is not None and n_full is not None else None
    n = task.n or limited or _implied_documents(value, stderr, n_full) or n_full or 1
    if task.n is None and limited is None and n_full is not None and n < n_full:
        problems.append(f"{task.key}: its standard error corresponds to {n} documents, not to {n_full}.")
    return Score(
        benchmark=benchmark.name,
        subset=subset.task,
        metric=suite_metric,
        value=value,
        stderr=stderr,
        n=n,
        n_full=max(n, n_full or n),
        lower_bound=subset.lower_bound,
        task_version=task.version or "unknown",
    )


def _implied_documents(value: float, stderr: float | None, n_full: int | None) -> int | None:
    """The number of documents implied by a share's standard error; None if it implies none below `n_full`."""
    if not stderr or not 0 < value < 1:
        return None
    n_documents = round(value * (1 - value) / stderr**2 + 1)
    n_correct = value * n_documents
    is_share = n_documents > 1 and abs(n_correct - round(n_correct)) < 1e-3 * n_documents
    return n_documents if is_share and n_full is not None and n_documents < 0.98 * n_full else None


def _differences(benchmark: Benchmark, tasks: Mapping[str, TaskResult]) -> list[str]:
    """Differences of the file's tasks from the board's: shots, number of documents."""
    sentences = []
    shots = {t.shots for t in tasks.values() if t.shots is not None and t.shots != benchmark.shots}
    if shots:
        sentences.append(f"Run with {_list(shots)} few-shot examples; the board used {benchmark.shots}.")
    for subset in benchmark.subsets:
        task = tasks.get(subset.task)
        size = task.n_full or task.n if task is not None else None
        if (
            size is not None
            and subset.n_documents is not None
            and size != subset.n_documents
            and _has_full_size(task)
        ):
            sentences.append(f"{subset.task} had {size:,} documents; the board's has {subset.n_documents:,}.")
    return sentences[:3]


def _has_full_size(task: TaskResult | None) -> bool:
    return task is not None and (task.n_full is not None or task.n is None)


def _facts(
    file: ResultFile, suite: Suite, benchmark: Benchmark, scores: Sequence[Score], stage: str | None
) -> Facts:
    by_key = {rename_task(t)[0].key: t for t in file.tasks}
    tasks = [by_key[s.task] for s in benchmark.subsets if s.task in by_key]
    shots = {t.shots for t in tasks if t.shots is not None}
    hashes = [t.prompts_hash for t in tasks]
    facts = file.facts.plus(
        {
            Fact.SUITE: suite.name,
            Fact.BENCHMARK: benchmark.name,
            Fact.STAGE: stage,
            Fact.SHOTS: _list(shots) if shots else None,
            Fact.TASK_VERSION: versions_text({t.key: t.version for t in tasks if t.version is not None}),
        }
    )
    if all(hashes):
        digest = hashlib.sha256("".join(h for h in hashes if h).encode()).hexdigest()
        facts = facts.plus({Fact.PROMPTS: digest[:16]})
    if any(s.partial for s in scores) and facts.get(Fact.LIMIT) in (None, limit_text(None)):
        facts = facts.plus({Fact.LIMIT: f"{sum(s.n for s in scores)} documents"})
    return facts


def _suites(benchmarks: Sequence[ImportedBenchmark], suites: Sequence[Suite]) -> list[SuiteScore]:
    scores = []
    for suite in suites:
        results = [b.measurement.result for b in benchmarks if b.suite == suite.name and b.primary]
        if results:
            scores.append(suite_score(suite, results))
    return scores


def _metrics(benchmark: Benchmark) -> list[str]:
    return list(dict.fromkeys([*benchmark.metrics, *(s.metric for s in benchmark.stages if s.metric)]))


def _prefixes(tasks: set[str]) -> set[str]:
    """Names of groups: the task names' prefixes that end at an underscore."""
    parts = [t.split("_") for t in tasks]
    return {"_".join(p[:i]) for p in parts for i in range(1, len(p))}


def _list(values: set[int]) -> str:
    return ", ".join(map(str, sorted(values)))


def _sentence(text: str | None) -> str:
    return f"{text}." if text else "the reason is unknown."
