"""A suite as a file that people edit, with comments, and its aggregation as a formula."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from evals.benchmark import FILES_PREFIX, Aggregation, Benchmark, OutputKind
from evals.suite import Suite

_HEAD = """# A suite for `mergeboard eval --suite FILE` and for `suites:` of a sweep; `mergeboard suite show FILE` explains it.
# What a run scores is this definition: changing it changes the identity of its scores, except for title and card.
"""
_NORMALIZED = {
    Aggregation.POOLED: Aggregation.POOLED_NORMALIZED,
    Aggregation.SUBSET_MEAN: Aggregation.SUBSET_MEAN_NORMALIZED,
}


def formula(benchmark: Benchmark) -> str:
    """How the column is computed from the scores, as a formula of one line."""
    names = " + ".join(benchmark.metrics)
    metric = names if len(benchmark.metrics) == 1 else f"({names}) / {len(benchmark.metrics)}"
    bounds = sorted({subset.choices for subset in benchmark.subsets if subset.choices})
    bound = f"1/{bounds[0]}" if len(bounds) == 1 else "1/(choices of the subset)" if bounds else "0"
    unit = "byte" if benchmark.metrics[0] == "bits_per_byte" else "document"
    over_all = f"mean over every {unit} of {metric}"
    if benchmark.formula is not None:
        over_all = f"{metric} over all documents"
        over_all += " of each subset, weighted by size" if len(benchmark.subsets) > 1 else ""
    match benchmark.aggregation:
        case Aggregation.SUBSET_MEAN_NORMALIZED:
            text = f"100 * {_mean_over(benchmark)} of max(0, (m - b) / (1 - b)), m = mean of {metric}, b = {bound}"
        case Aggregation.SUBSET_MEAN:
            inner = metric if benchmark.formula is not None else f"the mean of {metric}"
            text = f"100 * {_mean_over(benchmark)} of {inner}"
        case Aggregation.POOLED_NORMALIZED:
            text = f"100 * max(0, (m - b) / (1 - b)), m = {over_all}, b = {bound}"
        case Aggregation.POOLED:
            text = f"100 * {over_all}"
        case Aggregation.METRIC_MEAN:
            text = f"100 * mean of {len(benchmark.metrics)} metrics ({', '.join(benchmark.metrics)}), each over all documents"
    return text + (" (lower is better)" if benchmark.lower_is_better else "")


def _mean_over(benchmark: Benchmark) -> str:
    """For example `mean over 2 subsets`, or with weights `(3 * a + 1 * b) / 4, each`."""
    if not benchmark.weights:
        return f"mean over {len(benchmark.subsets)} subsets"
    terms = [f"{benchmark.weights[subset.task]:g} * {subset.task}" for subset in benchmark.subsets]
    return f"({' + '.join(terms)}) / {sum(benchmark.weights.values()):g}, each the value"


def suite_text(
    suite: Suite,
    *,
    other_metrics: Mapping[str, Collection[str]],
    include: str | None = None,
    allow_code: Collection[str] = (),
) -> str:
    """The YAML text of a suite of tasks. `other_metrics` are further metrics by benchmark, for the comments."""
    lines = [_HEAD.rstrip("\n"), f"name: {_inline(suite.name)}", f"title: {_inline(suite.title)}"]
    if include is not None:
        lines.append(
            f"include: {_inline(include)}  # folder of your task files; they travel with every job as text"
        )
    if allow_code:
        lines.append(f"allow_code: {_inline(list(allow_code))}  # tasks whose own Python may run")
    lines += [
        "settings:",
        "  add_bos_token: null  # whether a BOS token begins each prompt; null is the tokenizer's default",
        "  max_length: null  # longest sequence in tokens; null is the checkpoint's",
        "  chat_template: null  # on or off; null is the sweep's choice",
        "benchmarks:",
    ]
    for benchmark in suite.benchmarks:
        lines += _benchmark_lines(benchmark, other_metrics.get(benchmark.name, ()))
    return "\n".join(lines) + "\n"


def _benchmark_lines(benchmark: Benchmark, others: Collection[str]) -> Iterator[str]:
    own = benchmark.tasks.startswith(FILES_PREFIX)
    more = [metric for metric in others if metric not in benchmark.metrics]
    yield f"  - name: {_inline(benchmark.name)}"
    yield f"    title: {_inline(benchmark.title)}"
    where = "in the folder `include`" if own else "in lm_eval/tasks"
    yield f"    tasks: {_inline(benchmark.tasks)}  # {where}"
    yield f"    shots: {benchmark.shots}  # few-shot examples in each prompt"
    yield f"    metrics: {_inline(list(benchmark.metrics))}  # of the column; {'also computed: ' + ', '.join(more) if more else 'no others'}"
    yield f"    aggregation: {benchmark.aggregation}  # {formula(benchmark)}"
    normalized = _NORMALIZED.get(benchmark.aggregation)
    if normalized is not None and any(subset.choices for subset in benchmark.subsets):
        yield f"    # aggregation: {normalized}  # {formula(benchmark.model_copy(update={'aggregation': normalized}))}"
    if benchmark.weights:
        yield f"    weights: {_inline(benchmark.weights)}  # of the subsets in their mean"
    elif len(benchmark.subsets) > 1:
        tasks = [subset.task for subset in benchmark.subsets]
        named = f"{{{tasks[0]}: 2, {tasks[1]}: 1{', ...' if len(tasks) > 2 else ''}}}"
        yield f"    # weights: {named}  # of the subsets in their mean, with `aggregation: {Aggregation.SUBSET_MEAN}`"
    yield f"    output: {benchmark.output}"
    yield f"    extraction: {benchmark.extraction}"
    if benchmark.lower_is_better:
        yield "    lower_is_better: true"
    if benchmark.formula is not None:
        yield f"    formula: {benchmark.formula}  # how the metric follows from all documents; remove it for a mean over them"
    yield f"    dataset: {{path: {_inline(benchmark.dataset.path)}, gated: false}}"
    if benchmark.output is OutputKind.GENERATION:
        yield "    # For pass@k, maj@k or avg@k of several sampled answers to each question:"
        yield f"    # metrics: {_inline([f'pass@4:{benchmark.metrics[0]}'])}"
        yield "    # overrides: {repeats: 8, generation_kwargs: {do_sample: true, temperature: 0.7, until: [...], max_gen_toks: 1024}}"
    if benchmark.remark:
        yield f"    remark: {_inline(benchmark.remark)}"
    if benchmark.card:
        yield f"    card: {_inline(benchmark.card.model_dump(mode='json', exclude_none=True))}"
    yield "    subsets:  # `choices`: number of choices, whose inverse is the lower bound"
    for subset in benchmark.subsets:
        yield f"      - {_inline(subset.model_dump(mode='json', exclude_defaults=True, exclude={'files'}))}"


def _inline(value: Any) -> str:
    """A value as JSON, which YAML reads; plain words without quotes."""
    if isinstance(value, str) and value.replace("_", "").replace("/", "").isalnum() and not value.isdigit():
        return (
            value
            if value.lower() not in ("null", "true", "false", "yes", "no", "on", "off")
            else json.dumps(value)
        )
    return json.dumps(value, ensure_ascii=False)
