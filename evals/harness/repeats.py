"""Metrics over several answers to one question: pass@k, maj@k and avg@k of a metric that scores one answer.

`pass@k:METRIC` is the probability that at least one of k answers is right, without bias from n >= k answers of which c are right:
1 - C(n - c, k) / C(n, k) (Chen et al. 2021). `maj@k:METRIC` scores the commonest filtered answer of the first k, the earliest of equals.
`avg@k:METRIC` is the mean over the first k. Each question gives one value, so that intervals and tests over questions contain the
spread of the sampling too.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import Task

from evals.errors import EvaluationError

_LABEL = re.compile(r"^(pass|maj|avg)@([1-9][0-9]*):(.+)$")
_RIGHT = 1.0 - 1e-9


@dataclass(frozen=True)
class RepeatMetric:
    """A metric over `k` answers: `kind` is pass, maj or avg, `of` the metric of one answer, with its filter."""

    label: str
    kind: str
    k: int
    of: str


def repeat_metric(label: str) -> RepeatMetric | None:
    """The metric that a label such as `pass@4:exact_match,strict-match` names; None for a metric of one answer."""
    match = _LABEL.match(label)
    return RepeatMetric(label, match[1], int(match[2]), match[3]) if match else None


def pass_at_k(n: int, c: int, k: int) -> float:
    """Probability that k of n answers, drawn without replacement, contain one of the c right ones."""
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def value_of(metric: RepeatMetric, task: Task, entry: Mapping[str, Any]) -> float:
    """The metric of one document from lm-eval's log of it; EvaluationError if it has fewer answers than the metric needs."""
    responses: Sequence[str] = entry["resps"][0]
    if len(responses) < metric.k:
        raise EvaluationError(
            f"{metric.label} needs {metric.k} answers to each question, and {task.config.task} asks for {len(responses)}: set `repeats: {metric.k}` "
            "and sampling (`generation_kwargs` with do_sample and a temperature) under `overrides` in the suite."
        )
    name, _, filter_name = metric.of.partition(",")
    answers = [_filtered(task, entry, response, filter_name) for response in responses]
    if metric.kind == "maj":
        commonest = Counter(map(str, answers[: metric.k])).most_common(1)[0][0]
        chosen = next(answer for answer in answers if str(answer) == commonest)
        return _value(metric, task, entry, name, chosen)
    values = [_value(metric, task, entry, name, answer) for answer in answers]
    if metric.kind == "avg":
        return fmean(values[: metric.k])
    return pass_at_k(len(values), sum(value >= _RIGHT for value in values), metric.k)


def _filtered(task: Task, entry: Mapping[str, Any], response: str, filter_name: str) -> Any:
    """One answer as the task's filter would extract it, had it been the only one."""
    ensembles = {ensemble.name: ensemble for ensemble in task._filters}
    ensemble = ensembles.get(filter_name or "none")
    if ensemble is None:
        raise EvaluationError(
            f"{task.config.task} has no filter '{filter_name}'; it has {', '.join(ensembles)}: correct the suite's metric."
        )
    instance = Instance("generate_until", entry["doc"], tuple(entry["arguments"][0]), 0, resps=[response])
    ensemble.apply([instance])
    return instance.filtered_resps[ensemble.name]


def _value(metric: RepeatMetric, task: Task, entry: Mapping[str, Any], name: str, answer: Any) -> float:
    scored = task.process_results(entry["doc"], [answer])
    if name not in scored:
        raise EvaluationError(
            f"{task.config.task} has no metric '{name}' for {metric.label}; it has {', '.join(scored)}: correct the suite."
        )
    return float(scored[name])
