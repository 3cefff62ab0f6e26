"""Figures as a card's table has them: the RYS card's, and single ones."""

from __future__ import annotations

from evals.claims.labels import board_suites, match_label
from evals.claims.records import Figure, Unit, Where


def figure(label: str, written: str, *, subject: str | None = None, group: int = 0, line: int = 1) -> Figure:
    meant = match_label(label, board_suites())
    change = written.endswith("%")
    number = written.rstrip("%")
    return Figure(
        where=Where.TABLE,
        group=group,
        line=line,
        subject=subject,
        label=label,
        suite=meant.suite if meant else None,
        benchmark=meant.benchmark if meant else None,
        is_average=bool(meant and meant.is_average),
        written=written,
        value=float(number),
        digits=len(number.partition(".")[2]),
        unit=Unit.CHANGE if change else Unit.POINTS,
    )


RYS = {
    "IFEval": "79.96",
    "BBH": "58.77",
    "MATH Lvl 5": "38.97",
    "GPQA": "17.90",
    "MuSR": "23.72",
    "MMLU-PRO": "49.20",
}


CHANGES = {"Average": "2.61%", "IFEval": "-2.05%", "BBH": "2.51%", "MATH Lvl 5": "8.16%", "GPQA": "2.58%"}


CHANGES |= {"MuSR": "17.72%", "MMLU-PRO": "0.31%"}


def rys(average: str = "44.75", **changed: str) -> list[Figure]:
    return [figure(k, v) for k, v in {"Avg.": average, **RYS, **changed}.items()]
