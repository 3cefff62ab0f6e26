"""Makes a suite of lm-eval tasks and groups by name, lm-eval's own or of a user's folder, from their files alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.benchmark import (
    FILES_PREFIX,
    Aggregation,
    Benchmark,
    CardEntry,
    Extraction,
    OutputKind,
    Subset,
)
from evals.errors import SuiteError
from evals.suite import BoardSettings, Suite
from evals.task_data import TaskData, dataset_of
from evals.task_files import lm_eval_tasks
from evals.task_metrics import formula_of, lower_is_better, main_metrics, metric_labels
from evals.task_yaml import (
    FunctionReference,
    TaskFile,
    TaskIndex,
    TaskLeaf,
    lm_eval_index,
    python_of,
    read_task,
    with_folder,
)

_OUTPUTS = {
    "multiple_choice": OutputKind.MULTIPLE_CHOICE,
    "generate_until": OutputKind.GENERATION,
    "loglikelihood": OutputKind.LOGLIKELIHOOD,
    "loglikelihood_rolling": OutputKind.PERPLEXITY,
}
_GROUP_FIELDS = {"group", "group_alias", "task", "aggregate_metric_list", "metadata", "tag", "include"}


@dataclass
class _Column:
    """The tasks of one benchmark, and the aggregation of their group if it has one."""

    name: str
    title: str
    leaves: list[TaskLeaf]
    metric: Mapping[str, Any] | None = None
    remark: str | None = field(default=None)


def suite_of_tasks(
    names: Sequence[str],
    *,
    name: str,
    include: Path | None = None,
    allow_code: Collection[str] = (),
) -> Suite:
    """A suite of these tasks, groups and tags; `include` is a folder of the user's own task files.

    A task whose file brings Python of its own runs only if `allow_code` names it; lm-eval's own functions are part of the
    installed lm-eval. A group with an aggregation becomes one benchmark per data set; one without becomes its tasks, as do tags.
    Raises SuiteError for unknown tasks, code that was not allowed, and tasks of kinds that cannot run.
    """
    index = with_folder(lm_eval_index(), include) if include else lm_eval_index()
    columns = [column for task in names for column in _columns(task, index)]
    unused = set(allow_code) - {leaf.file.name for c in columns for leaf in c.leaves} - set(names)
    if unused:
        raise SuiteError(
            f"allow_code names {sorted(unused)[0]}, which is none of the suite's tasks; correct the name."
        )
    allowed = set(allow_code)
    _refuse_repeats(columns, names)
    return Suite(
        name=name,
        title=name,
        settings=BoardSettings(),
        benchmarks=tuple(_with_cards([_benchmark(column, allowed) for column in columns])),
    )


def _refuse_repeats(columns: Sequence[_Column], names: Sequence[str]) -> None:
    """SuiteError if a task is in the suite twice: its score would have two meanings."""
    tasks = Counter(leaf.file.name for column in columns for leaf in column.leaves)
    for task, count in tasks.items():
        if count > 1:
            raise SuiteError(
                f"The task '{task}' is {count} times in {', '.join(names)}: a suite has each task once. Leave out the name that repeats it, "
                "or make a second suite."
            )


def travelling_files(
    tasks: Sequence[str], include: Path, allow_code: Collection[str]
) -> tuple[TaskData, tuple[str, ...]]:
    """The data and files of tasks in a user's folder, and which of them have Python."""
    index = with_folder(TaskIndex(), include)
    for task in tasks:
        if task not in index.files:
            raise SuiteError(f"{include} has no task '{task}'; {index.names_like(task)}")
    leaves = [_leaf(index.files[task], {}) for task in tasks]
    code = tuple(leaf.file.name for leaf in leaves if _needs_permission(leaf, set(allow_code), ""))
    return dataset_of(leaves, own=True), code


def metrics_of_tasks(names: Sequence[str], include: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Every metric, by benchmark of `suite_of_tasks`."""
    index = with_folder(lm_eval_index(), include) if include else lm_eval_index()
    return {c.name: metric_labels(c.leaves[0].fields) for task in names for c in _columns(task, index)}


def folder_tasks(folder: Path) -> list[str]:
    """Names of the tasks that a folder's files define, groups first and without their members."""
    index = with_folder(TaskIndex(), folder)
    groups = [file for file in index.files.values() if file.is_group]
    members = {
        leaf.file.name
        for group in groups
        for leaf in _leaves(read_task(group.path, group.root), {}, index, group)
    }
    names = [
        *(g.name for g in groups),
        *(n for n, f in index.files.items() if not f.is_group and n not in members),
    ]
    if not names:
        raise SuiteError(
            f"{folder} has no task files (*.yaml with a `task:`); give a folder of lm-eval tasks."
        )
    return names


def _columns(name: str, index: TaskIndex) -> Iterator[_Column]:
    file = index.files.get(name)
    if file is None:
        if name not in index.tags:
            raise SuiteError(f"There is no lm-eval task or group '{name}'; {index.names_like(name)}")
        for task in index.tags[name]:
            yield from _columns(task, index)
        return
    if not file.is_group:
        leaf = _leaf(file, {})
        yield _Column(name, str(leaf.fields.get("task_alias") or name), [leaf])
        return
    fields = read_task(file.path, file.root)
    leaves = list(_leaves(fields, {}, index, file))
    listed = fields.get("aggregate_metric_list") or ()
    aggregated = listed if isinstance(listed, Mapping) else next(iter(listed), None)
    if aggregated is None:
        for leaf in leaves:
            yield _Column(leaf.file.name, str(leaf.fields.get("task_alias") or leaf.file.name), [leaf])
        return
    sources = list(dict.fromkeys(leaf.dataset for leaf in leaves))
    for source in sources:
        of_source = [leaf for leaf in leaves if leaf.dataset == source]
        alone = len(sources) == 1
        yield _Column(
            name if alone else f"{name}/{source.rpartition('/')[2]}",
            str(fields.get("group_alias") or name) + ("" if alone else f" ({source})"),
            of_source,
            aggregated,
            None if alone else f"A part of the group {name}, whose tasks read {len(sources)} data sets.",
        )


def _leaf(file: TaskFile, overrides: dict[str, Any]) -> TaskLeaf:
    seen: list[Path] = []
    fields = read_task(file.path, file.root, seen)
    return TaskLeaf(file, fields | overrides, overrides, tuple(seen))


def _leaves(
    group: Mapping[str, Any], inherited: dict[str, Any], index: TaskIndex, file: TaskFile
) -> Iterator[TaskLeaf]:
    """The tasks below a group, each once, with the fields that the groups replace."""
    shared = {k: v for k, v in group.items() if k not in _GROUP_FIELDS} | inherited
    members = group.get("task") or ()
    for member in members if isinstance(members, list) else [members]:
        own = member if isinstance(member, dict) else {"task": member}
        if "group" in own:
            known = index.files.get(str(own["group"]))
            inner = own if known is None or "task" in own else read_task(known.path, known.root)
            yield from _leaves(inner, shared, index, file)
            continue
        name = str(own.get("task"))
        fields = shared | {k: v for k, v in own.items() if k != "task"}
        found = index.files.get(name)
        if found is None and name in index.tags:
            yield from (_leaf(index.files[task], fields) for task in sorted(index.tags[name]))
        elif found is None:
            raise SuiteError(
                f"{file.path} names the task '{name}', which does not exist; {index.names_like(name)}"
            )
        elif found.is_group:
            yield from _leaves(read_task(found.path, found.root), fields, index, found)
        else:
            yield _leaf(found, fields)


def _benchmark(column: _Column, allowed: set[str]) -> Benchmark:
    leaves = column.leaves
    code = [leaf.file.name for leaf in leaves if _needs_permission(leaf, allowed, column.name)]
    kinds = {_output(leaf) for leaf in leaves}
    if len(kinds) > 1:
        raise SuiteError(
            f"The tasks of {column.name} ask for different kinds of answers; name them one by one."
        )
    fields = leaves[0].fields
    metrics = main_metrics(metric_labels(fields), column.metric)
    lower = lower_is_better(metrics[0], fields)
    formula = formula_of(metrics[0], fields)
    own = not leaves[0].file.path.is_relative_to(lm_eval_tasks())
    data = dataset_of(leaves, own)
    size_weighted = column.metric is None or bool(column.metric.get("weight_by_size", True))
    output = kinds.pop()
    shots = int(fields.get("num_fewshot") or 0)
    return Benchmark(
        name=column.name,
        title=f"{column.title} ↓" if lower else column.title,
        tasks=FILES_PREFIX if own else _common_folder(leaves),
        shots=shots,
        metrics=metrics,
        aggregation=Aggregation.POOLED if size_weighted else Aggregation.SUBSET_MEAN,
        output=output,
        extraction=_extraction(output, metrics[0]),
        dataset=data.dataset,
        subsets=tuple(_subset(leaf, shots, data) for leaf in leaves),
        remark=column.remark,
        lower_is_better=lower,
        formula=formula,
        files=data.files,
        code=tuple(code),
    )


def _with_cards(benchmarks: Sequence[Benchmark]) -> Iterator[Benchmark]:
    """The benchmarks with the entries that cards name them by, which are unique."""
    entries: set[tuple[str, str | None]] = set()
    for benchmark in benchmarks:
        configs = {subset.data for subset in benchmark.subsets}
        kind = benchmark.name if benchmark.files else benchmark.dataset.path
        config = configs.pop() if len(configs) == 1 else None
        if (kind, config) in entries:
            config = benchmark.name
        entries.add((kind, config))
        card = CardEntry(
            dataset_name=benchmark.title,
            dataset_type=kind,
            dataset_config=config,
            num_few_shot=benchmark.shots,
            metric_type=benchmark.metrics[0],
            metric_name=benchmark.metrics[0],
        )
        yield benchmark.model_copy(update={"card": card})


def _needs_permission(leaf: TaskLeaf, allowed: set[str], column: str) -> bool:
    """Whether the task brings Python that was allowed; SuiteError where it was not, or the model's own code would run."""
    task, permitted = leaf.file.name, bool(allowed & {leaf.file.name, column})
    unsafe = bool(leaf.fields.get("unsafe_code"))
    if unsafe and not permitted:
        raise SuiteError(
            f"The task '{task}' executes code that the model writes, in a process without rights and network: allow it by name with "
            f"`allow_code: [{task}]` in the suite, or --allow-code {task}."
        )
    if leaf.file.path.is_relative_to(lm_eval_tasks()):
        return unsafe
    code = python_of(leaf.fields)
    if code and not permitted:
        raise SuiteError(
            f"The task '{task}' brings Python of its own ({', '.join(code[:3])}), which runs with your rights on every node: read it, "
            f"then allow it by name with `allow_code: [{task}]` in the suite, or --allow-code {task}."
        )
    return bool(code) or unsafe


def _output(leaf: TaskLeaf) -> OutputKind:
    kind = leaf.fields.get("output_type", "generate_until")
    if "class" in leaf.fields and "output_type" not in leaf.fields:
        raise SuiteError(
            f"The task '{leaf.file.name}' is a Python class that asks for answers in its own way, and only tasks with an `output_type` can "
            "run: write a task file of the same dataset_path with an output_type and a metric_list, or run lm_eval and take its results in "
            "with `mergeboard import`."
        )
    if kind not in _OUTPUTS:
        raise SuiteError(
            f"The task '{leaf.file.name}' has the output_type {kind!r}; known are {', '.join(_OUTPUTS)}."
        )
    return _OUTPUTS[str(kind)]


def _extraction(output: OutputKind, metric: str) -> Extraction:
    if output is OutputKind.MULTIPLE_CHOICE:
        return Extraction.CHOICE_PER_CHARACTER if metric.startswith("acc_norm") else Extraction.CHOICE
    return Extraction.FILTER if output is OutputKind.GENERATION else Extraction.NONE


def _common_folder(leaves: Sequence[TaskLeaf]) -> str:
    folders = [str(leaf.file.path.parent) for leaf in leaves]
    return Path(os.path.commonpath(folders)).relative_to(lm_eval_tasks()).as_posix()


def _subset(leaf: TaskLeaf, shots: int, of: TaskData) -> Subset:
    choices = leaf.fields.get("doc_to_choice")
    n_choices = len(choices) if isinstance(choices, list | dict) and len(choices) > 1 else None
    own_shots = int(leaf.fields.get("num_fewshot") or 0)
    overrides = {k: v for k, v in leaf.overrides.items() if k not in ("num_fewshot", "task")}
    if any(isinstance(value, FunctionReference) for value in overrides.values()):
        raise SuiteError(
            f"A group replaces a field of '{leaf.file.name}' by a function; name its tasks one by one."
        )
    data = leaf.fields.get("dataset_name")
    return Subset(
        task=leaf.file.name,
        choices=n_choices,
        data=None if data is None else str(data),
        overrides=overrides | ({} if own_shots == shots else {"num_fewshot": own_shots}),
        files=of.of_task.get(leaf.file.name, {}),
    )
