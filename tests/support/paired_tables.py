"""Paired answers by their counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evals.stats.resample import SubsetDocuments


def table(counts: Sequence[int], lower_bound: float = 0.0, name: str = "s1") -> SubsetDocuments:
    """A subset with this many documents of each cell."""
    base = np.repeat([0.0, 0.0, 1.0, 1.0], counts)
    candidate = np.repeat([0.0, 1.0, 0.0, 1.0], counts)
    return SubsetDocuments(
        name, lower_bound, np.stack([base, candidate], axis=1)[:, :, None], np.ones((len(base), 1))
    )
