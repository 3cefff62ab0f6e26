"""Tell a leaderboard's scores from scores of the same benchmarks that were measured in another way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from evals.claims.labels import match_label
from evals.claims.records import Figure, Where
from evals.suite import Suite

_MIN_SCORES = 3


def of_boards(figures: Sequence[Figure], suites: Sequence[Suite]) -> list[Figure]:
    """The figures; those of a suite that are no leaderboard's lose the suite.

    A table is of a leaderboard if it shows none but its benchmarks, or at least three of them and no more others: "MATH" beside
    HumanEval and LiveCodeBench is not the board's normalized MATH Lvl 5. The metadata names its data sets, so it is left as it is.
    """
    names: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for figure in figures:
        if figure.known_as is not None or figure.suite is not None:
            match = match_label(figure.name, suites) if figure.suite is None else None
            suite = match.suite if match is not None else figure.suite
            names[figure.group][suite or ""].add(figure.name)
    return [
        figure.model_copy(update={"suite": None, "benchmark": None})
        if figure.suite is not None and figure.where is not Where.MODEL_INDEX and _is_other(figure, names)
        else figure
        for figure in figures
    ]


def _is_other(figure: Figure, names: dict[int, dict[str, set[str]]]) -> bool:
    by_suite = names[figure.group]
    own = len(by_suite[figure.suite or ""])
    others = sum(len(found) for suite, found in by_suite.items() if suite != figure.suite)
    return others > 0 and (own < _MIN_SCORES or own < others)
