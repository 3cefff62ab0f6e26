"""A comparison in one sentence, and what to do about a refused one."""

from __future__ import annotations

import pytest

from evals.scores import ChatTemplate
from orchestrator.compare import Comparison, compare
from orchestrator.compare.remedy import remedy
from orchestrator.compare.sentence import comparison_sentence
from tests.support.compared_sides import MUSR, SETTINGS, V2, answers, compare_one, flipped, several, side


def both(gain: int, lose: int = 0) -> Comparison:
    """MuSR changed, and BBH answered the same."""
    names = ("musr", "bbh")
    changed = side("musr", flipped(answers("musr"), gain=gain, lose=lose))
    base = several(names, 0)
    (found,) = compare(base, {"candidate": [changed, base[1]]}, [V2])
    return found


def test_a_shown_difference_is_named_with_its_size_and_the_rest_is_counted() -> None:
    text = comparison_sentence(both(gain=25))
    assert text.startswith("candidate is better than base on MuSR (+")
    assert ", p <0.001)" in text
    assert "; no difference shown on BBH" in text or "the mean 2 of 6" in text


def test_nothing_shown_is_said_as_such() -> None:
    assert (
        comparison_sentence(both(gain=0))
        == "No difference between candidate and base is shown on any of 2 benchmarks or on the mean 2 of 6."
    )


def test_an_average_alone_leaves_no_other_benchmark() -> None:
    comparison = both(gain=25)
    single = tuple(row.model_copy(update={"p_corrected": 0.2}) for row in comparison.rows)
    text = comparison_sentence(comparison.model_copy(update={"rows": single}))
    assert text.startswith("candidate is better than base on the mean 2 of 6 (+")
    assert text.endswith("; no difference shown on any of the 2 benchmarks.")


def test_worse_is_said() -> None:
    assert "candidate is worse than base on MuSR (-" in comparison_sentence(both(gain=0, lose=25))


def test_a_refused_comparison_gives_its_reason_and_a_forced_one_says_so() -> None:
    other = SETTINGS.model_copy(update={"chat_template": ChatTemplate.OFF})
    sides = side("musr", answers("musr")), side("musr", flipped(answers("musr"), gain=25), settings=other)
    refused = compare_one(*sides)
    text = comparison_sentence(refused)
    assert text == "candidate is not compared with base: chat template: on (base), off (candidate)."
    assert "chat template" in remedy(refused.rows[0].refused)
    assert "one sweep" in remedy(refused.rows[0].refused)
    assert ", forced)" in comparison_sentence(compare_one(*sides, force=True))
    assert MUSR.title in comparison_sentence(compare_one(*sides, force=True))


@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        (("precision: bfloat16 (base), float32 (candidate)",), "one entry in `engines`"),
        (("definition of the benchmark: it has changed since",), "with this version"),
        (("number of documents: 8 (base), 24 (candidate) in x",), "same number of documents"),
        (("only the base has it",), "resume the run"),
        (("the samples of job 1 are gone",), "again in one sweep"),
    ],
)
def test_every_reason_has_a_remedy(reasons: tuple[str, ...], said: str) -> None:
    assert said in remedy(reasons)


def test_a_long_hostile_name_stays_one_short_line() -> None:
    comparison = both(gain=0).model_copy(update={"candidate": "x\n\u202e" * 5000})
    text = comparison_sentence(comparison)
    assert "\n" not in text
    assert "\u202e" not in text
    assert len(text) < 300
