import pytest

from evals.probes.emotion_scoring import (
    Parsed,
    corrected_credit,
    expected_rating,
    parse_corrected,
    parse_published,
    published_credit,
    scaled_reference,
)

FIRST = "First pass scores:\nSad: 7\nGlad: 1\nMad: 2.5\nBad: 0\n"
REVISED = "Revised scores:\nSad: 9\nGlad: 1\nMad: 0.5\nBad: 2\n"


@pytest.mark.parametrize(
    ("text", "ratings", "confidence"),
    [
        (FIRST, (7, 1, 2.5, 0), 0.8),
        (FIRST + REVISED, (8, 1, 1.5, 1), 1.0),
        (REVISED, (9, 1, 0.5, 2), 0.9),
        ("First pass scores:\nA: 1\nB: 2\nC: 3", (1, 2, 3, 5), 0.8),  # a missing fourth is the middle
        ("First pass scores:\nA: 1\nB: 20\nC: 3\nD: 4", (1, 3, 4, 5), 0.8),  # out of range is not a pair
        ("First pass scores:\nA: 1\nB: 2", (1, 2, 5, 5), 2 / 8),  # too few pairs: any numbers
        ("I would say 3, 4, 50, 5 and 6 or 7", (3, 4, 5, 6), 0.5),
        ("about 8", (8, 5, 5, 5), 1 / 8),
        ("nothing", (5, 5, 5, 5), 0.0),
    ],
)
def test_the_published_parsing(text: str, ratings: tuple[float, ...], confidence: float) -> None:
    assert parse_published(text) == Parsed(pytest.approx(ratings), pytest.approx(confidence))


def test_the_published_credit_is_mixed_with_a_half() -> None:
    reference = (9, 1, 0, 0)
    assert scaled_reference(reference) == pytest.approx((9, 1, 0, 0))
    assert published_credit(reference, Parsed((9, 1, 0, 0), 0.8)) == pytest.approx(0.9)  # the cap
    assert published_credit(reference, Parsed((0, 10, 10, 10), 0.8)) == pytest.approx(0.8 * 0.05 + 0.1)
    assert published_credit(reference, Parsed((5, 5, 5, 5), 0.0)) == 0.5


def test_the_published_scoring_takes_credit_from_the_reference_that_was_asked_for() -> None:
    assert published_credit((9, 8, 8, 7), Parsed((9, 8, 8, 7), 0.8)) == pytest.approx(
        0.8 * (1 - 22 / 40) + 0.1
    )


def test_the_corrected_parsing_looks_at_the_labels() -> None:
    emotions = ("Sad", "Glad", "Mad", "Bad")
    assert parse_corrected("Bad: 1\n**Sad**: 2/10\nglad - 3\nMad: -4", emotions) == (2, 3, None, 1)
    assert parse_corrected(FIRST + REVISED, emotions) == (9, 1, 0.5, 2)
    assert parse_corrected("Sad\n7", emotions) == (None,) * 4


def test_the_corrected_credit() -> None:
    assert corrected_credit((9, 1, 0, 5), (9, 1, 0, 5)) == 1
    assert corrected_credit((9, 1, 0, 5), (0, 10, 10, 0)) == 0
    assert corrected_credit((10, 10, 10, 10), (10, 5, None, 0)) == pytest.approx(1.5 / 4)


def test_the_expected_rating_is_on_the_asked_scale() -> None:
    assert expected_rating([0.0] * 9 + [1.0]) == 10
    assert expected_rating([0.1] * 10) == pytest.approx(5)
