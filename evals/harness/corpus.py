"""The vectors of documents that determine a metric over all documents (`evals.stats.formulas`), from what lm-eval logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval.api import metrics as lm_eval_metrics
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from evals.benchmark import Formula
from evals.stats.formulas import statistics, value

PERCENT = ("bleu", "chrf", "chrf++", "ter")
"""Metrics that lm-eval gives from 0 to 100."""
Vectors = tuple[tuple[float, ...], ...]


def vectors_of(formula: Formula, metric: str, items: Sequence[Any], result: float) -> Vectors | None:
    """One vector per document; None if they do not give lm-eval's own result, so that the formula is another one.

    `items` are lm-eval's per-document values of the metric, `result` its value over all of them.
    """
    try:
        vectors = _VECTORS[formula](metric, items)
    except (TypeError, ValueError, AttributeError, IndexError):
        return None
    if len(vectors) != len(items) or not len(vectors):
        return None
    array = np.asarray(vectors, dtype=float)[:, None, :]
    computed = float(value(formula, statistics(formula, array).sum(axis=0))[0])
    return vectors if abs(computed - result) <= 1e-6 * max(1.0, abs(result)) else None


def value_of_document(formula: Formula, vector: Sequence[float]) -> float:
    """The metric of one document alone, from 0 to 1 (TER, Brier score and perplexity: from 0 up); for F1 and MCC whether its label is right."""
    if formula in (Formula.F1, Formula.MCC):
        return float(vector[0] == vector[1])
    return float(value(formula, np.asarray(vector, dtype=float)))


def _pairs(metric: str, items: Sequence[Any]) -> Vectors:
    return tuple((float(gold), float(predicted)) for gold, predicted in items)


def _translations(metric: str, items: Sequence[Any]) -> Vectors:
    scorers: Mapping[str, Callable[[], Any]] = {
        "bleu": BLEU,
        "chrf": CHRF,
        "chrf++": lambda: CHRF(word_order=2),
        "ter": TER,
    }
    references, texts = zip(*items, strict=True)
    references, texts = lm_eval_metrics._sacreformat(references, texts)
    rows = scorers[metric]()._extract_corpus_statistics(list(texts), [list(r) for r in references])
    return tuple(tuple(map(float, row)) for row in rows)


def _log_probabilities(metric: str, items: Sequence[Any]) -> Vectors:
    """(log-probability, words, bytes or 1) of each document."""
    return tuple(
        (float(item[0]), float(item[1])) if isinstance(item, tuple | list) else (float(item), 1.0)
        for item in items
    )


def _squared_distances(metric: str, items: Sequence[Any]) -> Vectors:
    def distance(gold: int, shares: Sequence[float]) -> float:
        return float(sum((share - (i == gold)) ** 2 for i, share in enumerate(shares)))

    return tuple((distance(int(gold), shares), 1.0) for gold, shares in items)


_VECTORS: dict[Formula, Callable[[str, Sequence[Any]], Vectors]] = {
    Formula.F1: _pairs,
    Formula.MCC: _pairs,
    Formula.BLEU: _translations,
    Formula.CHRF: _translations,
    Formula.TER: _translations,
    Formula.BRIER: _squared_distances,
    Formula.PERPLEXITY: _log_probabilities,
}
