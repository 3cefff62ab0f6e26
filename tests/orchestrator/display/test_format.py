"""One form of durations, sizes, p-values and times, for the command line and the dashboard."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from orchestrator.display.format import about, duration, hours, moment, p_value, parameters, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0.0 s"),
        (8.24, "8.2 s"),
        (9.96, "10 s"),
        (12.4, "12 s"),
        (59.4, "59 s"),
        (59.7, "1 min 0 s"),
        (424, "7 min 4 s"),
        (3599.6, "1 h 0 min"),
        (4800, "1 h 20 min"),
        (7199, "2 h 0 min"),
        (47 * 3600, "47 h 0 min"),
        (51 * 3600, "2 d 3 h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, None),
        (0.0, "under 10 s"),
        (12, "about 10 s"),
        (58, "about 1 min"),
        (290, "about 5 min"),
        (575, "about 10 min"),
        (3460, "about 1 h"),
        (9000, "about 2.5 h"),
        (36_000, "about 10 h"),
        (180_000, "about 2 days"),
        (400_000, "about 5 days"),
    ],
)
def test_estimates_are_no_more_exact_than_they_are(seconds: float | None, text: str | None) -> None:
    assert about(seconds) == text


def test_estimates_are_within_a_third_of_what_they_stand_for_and_never_jump_back() -> None:
    unit_s = {"s": 1, "min": 60, "h": 3600, "days": 86_400}
    last = 0.0
    for step in range(100, 1400):
        seconds = 10 ** (step / 100) / 1.0
        shown = re.fullmatch(r"about ([\d.e+]+) (\w+)", about(seconds) or "")
        assert shown, about(seconds)
        told = float(shown[1]) * unit_s[shown[2]]
        assert last <= told
        assert abs(told - seconds) <= seconds / 3
        last = told


def test_sizes_and_counts() -> None:
    assert [size(n) for n in (None, 0, 999, 1500, 999_960, 2_300_000_000, 1_200_000_000_000)] == [
        "–",
        "0 B",
        "999 B",
        "1.5 kB",
        "1.0 MB",
        "2.3 GB",
        "1.20 TB",
    ]
    assert parameters(8_987_000_000) == "8.987 B"
    assert parameters(None) == "–"
    assert hours(5400) == "1.50"


def test_p_values_and_moments() -> None:
    assert [p_value(p) for p in (None, 0.0, 0.00099, 0.001, 0.0456, 1.0)] == [
        "–",
        "<0.001",
        "<0.001",
        "0.001",
        "0.046",
        "1.000",
    ]
    assert moment(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02 03:04:05 UTC"
    assert moment(None) == "–"
