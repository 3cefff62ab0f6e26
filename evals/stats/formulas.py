"""Metrics over all documents of a subset (F1, MCC, BLEU, chrF, TER, perplexity) from sums over its documents.

Each is a function of the sum of one vector per document, so that the bootstrap only weights the vectors. The vectors and formulas are
those of scikit-learn 1 and sacrebleu 2, which lm-eval calls.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from evals.benchmark import Formula

Floats = NDArray[np.float64]

_CHARACTER_ORDERS = 6
_MOST_CLASSES = 40


def statistics(formula: Formula, vectors: Floats) -> Floats:
    """The vectors to sum, shape (documents, sides, k), from those of the samples, which for F1 and MCC are (gold, predicted)."""
    if formula is Formula.F1:
        gold, predicted = vectors[..., 0] == 1, vectors[..., 1] == 1
        return np.stack([gold & predicted, ~gold & predicted, gold & ~predicted], axis=-1).astype(float)
    if formula is Formula.MCC:
        labels, codes = np.unique(vectors, return_inverse=True)
        if len(labels) > _MOST_CLASSES:
            raise ValueError(f"MCC of {len(labels)} classes")
        gold, predicted = np.moveaxis(codes.reshape(vectors.shape), -1, 0)
        n_classes = len(labels)
        return np.eye(n_classes * n_classes)[gold * n_classes + predicted]
    return vectors


def value(formula: Formula, sums: Floats) -> Floats:
    """The metric as a fraction (perplexity: as it is) from sums, shape (..., k)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(_VALUES[formula](sums), nan=0.0, posinf=np.finfo(float).max)


def _f1(sums: Floats) -> Floats:
    true_positive, false_positive, false_negative = np.moveaxis(sums, -1, 0)
    return np.asarray(2 * true_positive / (2 * true_positive + false_positive + false_negative))


def _mcc(sums: Floats) -> Floats:
    """Gorodkin's R_K (2004), for two classes Matthews' coefficient."""
    n_classes = round(sums.shape[-1] ** 0.5)
    table = sums.reshape(*sums.shape[:-1], n_classes, n_classes)
    total, correct = table.sum((-2, -1)), np.trace(table, axis1=-2, axis2=-1)
    gold, predicted = table.sum(-1), table.sum(-2)
    covariance = correct * total - (gold * predicted).sum(-1)
    spread = (total**2 - (predicted**2).sum(-1)) * (total**2 - (gold**2).sum(-1))
    return np.asarray(covariance / np.sqrt(np.maximum(spread, 0.0)))


def _bleu(sums: Floats) -> Floats:
    """BLEU with the smoothing 'exp' of sacrebleu's default: each order without a match counts half of the one before."""
    length, reference = sums[..., 0], sums[..., 1]
    correct, total = sums[..., 2:6], sums[..., 6:10]
    halvings = 2.0 ** np.cumsum((correct == 0) & (total > 0), axis=-1)
    precisions = np.where(correct == 0, 1 / (halvings * total), correct / total)
    brevity = np.where(length < reference, np.exp(1 - reference / length), 1.0)
    score = brevity * np.exp(np.log(precisions).mean(-1))
    return np.where((correct.sum(-1) == 0) | (total == 0).any(-1), 0.0, score)


def _chrf(sums: Floats) -> Floats:
    """chrF with beta 2: precision and recall averaged over the orders that both texts have."""
    triples = sums.reshape(*sums.shape[:-1], -1, 3)
    hypothesis, reference, match = np.moveaxis(triples, -1, 0)
    used = (hypothesis > 0) & (reference > 0)
    orders = used.sum(-1)
    precision = np.where(used, match / hypothesis, 0.0).sum(-1) / orders
    recall = np.where(used, match / reference, 0.0).sum(-1) / orders
    return np.asarray(5 * precision * recall / (4 * precision + recall))


def _ratio(sums: Floats) -> Floats:
    return np.asarray(sums[..., 0] / sums[..., 1])


def _perplexity(sums: Floats) -> Floats:
    return np.exp(np.minimum(-sums[..., 0] / sums[..., 1], 700.0))


_VALUES: dict[Formula, Callable[[Floats], Floats]] = {
    Formula.F1: _f1,
    Formula.MCC: _mcc,
    Formula.BLEU: _bleu,
    Formula.CHRF: _chrf,
    Formula.TER: _ratio,
    Formula.BRIER: _ratio,
    Formula.PERPLEXITY: _perplexity,
}
