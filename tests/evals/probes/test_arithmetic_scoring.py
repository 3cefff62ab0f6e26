import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.probes.arithmetic_scoring import (
    corrected_answer,
    corrected_credit,
    expected_corrected,
    expected_published,
    published_candidates,
    published_credit,
    published_reply,
    shares,
)


@pytest.mark.parametrize(
    ("actual", "guess", "credit"),
    [
        (4302459, 430245, 0.8571),  # the checks of the restated method
        (123456789, 123356789, 0.99919),
        (596252164, 596, 0.3331),
        (100, 100, 1.0),
        (0, 0, 0.0),
        (10, 1, 0.5),  # padded to 10: no difference, half the length
        (999, 1, (1 - 899 / 999) / 3),
    ],
)
def test_the_published_credit(actual: int, guess: int, credit: float) -> None:
    assert published_credit(actual, guess) == pytest.approx(credit, abs=1e-4)


@given(st.integers(0, 10**20), st.integers(0, 10**20))
def test_the_published_credit_is_symmetric_and_bounded(a: int, b: int) -> None:
    assert 0 <= published_credit(a, b) <= 1
    assert published_credit(a, b) == pytest.approx(published_credit(b, a))


def test_the_published_extraction_takes_the_best_number_of_a_reply() -> None:
    assert published_reply(42, "6 times 7 is -42, or 4 2") == (42, 1.0)  # the sign is lost
    assert published_reply(42, "no number") == (None, 0.0)
    assert published_candidates("<think>1 2 3</think>4,567") == [4, 567]


def test_a_very_long_number_is_no_error() -> None:
    assert published_credit(12, int("9" * 1000)) < 0.01
    assert 0 <= published_reply(12, "7" * 100_000)[1] <= 1
    assert corrected_credit(12, corrected_answer("7" * 100_000)) == 0


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("6 * 7 = 42\n\nBecause 6 and 7", 42),
        ("Well.\n1,234,567", 1234567),
        ("-17", -17),
        ("<think>12</think> 13", 13),
        ("none", None),
        ("12,34", 34),
    ],
)
def test_the_corrected_extraction_takes_the_last_number_of_the_first_line_that_has_one(
    text: str, answer: int | None
) -> None:
    assert corrected_answer(text) == answer


def test_the_corrected_credit_counts_right_digits() -> None:
    assert corrected_credit(1000, 1000) == 1
    assert corrected_credit(1000, 1010) == pytest.approx(0.5)  # two of four digits
    assert corrected_credit(1000, -1000) == 0
    assert corrected_credit(1000, None) == 0
    assert corrected_credit(200, 199) > corrected_credit(200, 190) > corrected_credit(200, 150) > 0


def test_shares_of_log_probabilities() -> None:
    probabilities, mass = shares([math.log(0.3), math.log(0.1)])
    assert probabilities == pytest.approx((0.75, 0.25))
    assert mass == pytest.approx(0.4)
    assert shares([-math.inf, -math.inf]) == ((0.5, 0.5), 0.0)
    assert shares([-5000.0, -5001.0])[0][0] == pytest.approx(1 / (1 + math.exp(-1)))


def test_expected_credits() -> None:
    sure = [[float(d == int(digit)) for d in range(10)] for digit in "427"]
    guess = [[0.1] * 10] * 3
    assert expected_published(427, sure) == expected_corrected(427, sure) == 1
    assert expected_corrected(427, guess) == pytest.approx(0.1)
    first = [[float(d == 9) for d in range(10)], *sure[1:]]
    assert expected_published(427, first) == pytest.approx(published_credit(427, 955))
    assert expected_corrected(427, first) == pytest.approx(2 / 3)
    # Only the leading digits asked for: what is behind them counts as fives.
    assert expected_published(427, sure[:1]) == pytest.approx(published_credit(427, 455))
