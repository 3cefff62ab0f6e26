"""Comparisons: what is refused and why, known differences, correction over a sweep, imported runs, the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evals.claims.facts import Fact
from evals.engine import EngineKind
from evals.scores import ChatTemplate, Evaluation
from evals.stats import SignificanceTest
from orchestrator.compare import (
    Comparison,
    Side,
    all_stages,
    comparability,
    compare,
    comparison_text,
    measurement_of,
    sample_differences,
    sides_of_import,
    suite_measurement,
)
from orchestrator.compare.measurement import versions_of_scorer
from orchestrator.compare.pairs import count_differences
from tests.support.board_files import board_v2, logged, write, write_samples
from tests.support.compared_sides import ENGINE, MUSR, SETTINGS, V2, answers, compare_one, flipped, side
from tests.support.result_files import import_results


def test_the_same_answers_are_no_difference() -> None:
    right = answers("musr")
    row = compare_one(side("musr", right), side("musr", right)).rows[0]
    assert row.delta is not None
    assert (row.delta.delta_points, row.delta.gained, row.delta.lost, row.p_corrected) == (0.0, 0, 0, 1.0)
    assert row.verdict == "no difference shown"


def test_a_real_loss_is_worse_and_a_real_gain_better() -> None:
    right = answers("musr")
    worse = compare_one(side("musr", right), side("musr", flipped(right, lose=25))).rows[0]
    assert (worse.verdict, worse.delta.lost if worse.delta else None) == ("worse", 75)
    better = compare_one(side("musr", right), side("musr", flipped(right, gain=25))).rows[0]
    assert better.verdict == "better"
    assert better.delta is not None
    assert better.delta.interval.low > 0
    assert better.delta.delta_points == pytest.approx((better.candidate or 0) - (better.base or 0))


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"engine": ENGINE.model_copy(update={"dtype": "float32"})}, Fact.DTYPE),
        ({"engine": ENGINE.model_copy(update={"quantization": "awq"})}, Fact.QUANTIZATION),
        ({"engine": ENGINE.model_copy(update={"kind": EngineKind.TRANSFORMERS})}, Fact.ENGINE),
        ({"engine": ENGINE.model_copy(update={"version": "0.31.0"})}, Fact.ENGINE_VERSION),
        ({"engine": ENGINE.model_copy(update={"tensor_parallel": 2})}, Fact.TENSOR_PARALLEL),
        ({"engine": ENGINE.model_copy(update={"kv_cache_dtype": "fp8"})}, Fact.KV_CACHE),
        ({"engine": ENGINE.model_copy(update={"max_length": 2048})}, Fact.MAX_LENGTH),
        ({"settings": SETTINGS.model_copy(update={"chat_template": ChatTemplate.OFF})}, Fact.TEMPLATE),
        ({"settings": SETTINGS.model_copy(update={"add_bos_token": False})}, Fact.BOS),
        ({"settings": SETTINGS.model_copy(update={"fewshot_as_multiturn": False})}, Fact.MULTITURN),
        ({"limit": 50}, Fact.LIMIT),
    ],
)
def test_every_known_difference_refuses(changes: dict, fact: Fact) -> None:
    base, other = side("musr", answers("musr")), side("musr", answers("musr"), **changes)
    reasons = comparability(base.measurement, other.measurement)
    assert [r.partition(":")[0] for r in reasons] == [fact.value]
    row = compare_one(base, other).rows[0]
    assert row.delta is None
    assert row.verdict == "not compared"
    assert row.refused[0].startswith(fact.value)


def test_a_score_by_an_older_definition_is_shown_as_stored_and_not_compared() -> None:
    """Today's definition says nothing about it, not even where both sides were made by the same older one."""
    old = side("musr", answers("musr"), digest="0" * 16)
    stored = old.measurement.result.normalized
    for base, candidate, who in (
        (old, side("musr", answers("musr")), "base was"),
        (old, old, "base and candidate were"),
    ):
        for force in (False, True):
            row = compare_one(base, candidate, force=force).rows[0]
            assert (row.delta, row.base) == (None, stored)
            assert row.refused == (
                f"definition of the benchmark: it has changed since the {who} evaluated or imported; "
                "do that again to compare",
            )
    assert old.measurement.estimate.interval.low == 0.0
    assert old.measurement.estimate.interval.high == 100.0


def test_a_score_of_a_benchmark_that_is_gone_is_shown_as_stored() -> None:
    stored = side("musr", answers("musr"))
    (found,) = compare([stored], {"c": [stored]}, [])
    (row,) = found.rows
    assert (row.title, row.base, row.delta) == ("MuSR", stored.measurement.result.normalized, None)
    assert "no suite has it any more" in row.refused[0]


def test_lm_evals_version_stands_apart_from_what_else_scores() -> None:
    known = versions_of_scorer("mergeboard-scorer=1 lm_eval=0.4.13 math-verify=0.5.2")
    assert known[Fact.HARNESS_VERSION] == "0.4.13"
    assert known[Fact.SCORER] == "mergeboard-scorer=1 math-verify=0.5.2"


def test_force_compares_and_shows_it() -> None:
    found = compare_one(side("musr", answers("musr")), side("musr", answers("musr"), limit=50), force=True)
    assert found.forced
    assert found.rows[0].delta is not None
    assert found.rows[0].delta.n == 150
    text = comparison_text([found])
    assert "forced" in text
    assert "forced although: number of documents" in text


def test_a_comparison_across_engines_says_what_rounding_does() -> None:
    other = ENGINE.model_copy(update={"kind": EngineKind.TRANSFORMERS})
    right = answers("musr")
    found = compare_one(side("musr", right), side("musr", right, engine=other), force=True)
    assert any(note.startswith("across engines") for note in found.rows[0].notes)
    assert "docs/agreement.md" in comparison_text([found])
    assert not any(
        note.startswith("across engines")
        for note in compare_one(side("musr", right), side("musr", right)).rows[0].notes
    )


def test_other_prompts_and_other_questions_refuse() -> None:
    right = answers("musr")
    base, other = side("musr", right), side("musr", right, prompt="q")
    assert "prompts: those of 756 of 756 documents differ" in compare_one(base, other).rows[0].refused
    moved = tuple(s.model_copy(update={"doc_hash": "f" * 16}) for s in base.samples)
    assert "the questions of 756 of 756" in sample_differences(base.samples, moved)[0]
    assert sample_differences(base.samples, base.samples[:100])[0].startswith(Fact.LIMIT.value)
    assert "no document" in sample_differences(base.samples[:5], base.samples[700:])[0]
    assert sample_differences((), base.samples) == ()


def test_other_numbers_of_documents_refuse_even_where_nobody_names_a_limit() -> None:
    right = answers("musr")
    full = side("musr", right).measurement
    cut = full.model_copy(update={"scores": tuple(s.model_copy(update={"n": s.n - 1}) for s in full.scores)})
    assert count_differences(full, full) == ()
    (reason,) = count_differences(full, cut)
    assert reason.startswith("number of documents: 250 (base), 249 (candidate) in leaderboard_musr_murder")
    assert reason.endswith("and 2 more subsets")
    fewer = full.model_copy(update={"scores": full.scores[1:]})
    assert count_differences(full, fewer) == ("subsets: 1 are in the base alone",)
    assert compare_one(Side(full), Side(cut)).rows[0].delta is None


def test_the_stage_that_both_sides_have_is_compared() -> None:
    """One run was scored at both stages with C its main one, the other at B alone."""
    math = side("math", answers("math", share=0.3))
    both = [Side(m, math.samples) for m in all_stages(math.measurement, V2.benchmark("math"), math.samples)]
    (found,) = compare(both, {"old": both[1:]}, [V2])
    assert (found.rows[0].delta is not None, found.rows[0].refused) == (True, ())
    assert "every answer is the same in both" in found.rows[0].notes[-1]
    (refused,) = compare(both[:1], {"old": both[1:]}, [V2])
    assert refused.rows[0].refused == ("scoring stage: C (base), B (candidate)",)


def test_a_benchmark_that_one_side_lacks() -> None:
    (found,) = compare([side("musr", answers("musr"))], {"c": []}, [V2])
    assert found.rows[0].refused == ("only the base has it",)
    assert (found.averages, found.n_tests) == ((), 0)


def test_a_mean_over_fewer_benchmarks_is_not_the_boards() -> None:
    names = ("musr", "gpqa")
    base = [side(n, answers(n)) for n in names]
    better = [side(n, flipped(answers(n), gain=20)) for n in names]
    (found,) = compare(base, {"c": better}, [V2])
    (mean,) = found.averages
    assert mean.title == "Mean 2 of 6"
    assert mean.notes == ("not the board's average",)
    assert mean.delta is not None
    assert mean.delta.delta_points == pytest.approx(
        np.mean([r.delta.delta_points for r in found.rows if r.delta])
    )


def test_a_verdict_goes_with_its_number_where_the_floor_hides_the_flips() -> None:
    """GPQA from 20.0 to 24.9 % raw: 58 flips, all of them to the better, and +0.00 on the board; it was called worse."""
    right = {task: np.arange(len(v)) < round(0.2 * len(v)) for task, v in answers("gpqa").items()}
    better = {t: np.arange(len(v)) < round(0.249 * len(v)) for t, v in right.items()}
    row = compare_one(side("gpqa", right), side("gpqa", better)).rows[0]
    assert row.delta is not None
    assert (row.delta.gained or 0) > 50
    assert (row.delta.lost, row.delta.delta_points, row.delta.p) == (0, 0.0, 1.0)
    assert row.delta.interval.low < 0 < row.delta.interval.high
    assert row.verdict == "no difference shown"


def test_without_samples_the_comparison_is_wider_and_says_so() -> None:
    right = answers("musr")
    base, better = side("musr", right), side("musr", flipped(right, gain=10))
    paired = compare_one(base, better).rows[0]
    bare = compare_one(Side(base.measurement), Side(better.measurement)).rows[0]
    assert paired.delta is not None
    assert bare.delta is not None
    assert bare.delta.test is SignificanceTest.UNPAIRED
    assert bare.delta.stderr_points > 2 * paired.delta.stderr_points
    assert "without samples: compared as if on different documents" in bare.notes
    assert suite_measurement(V2, [Side(base.measurement)]) is not None


def test_partial_scores_are_marked() -> None:
    base = side("musr", answers("musr"), limit=20)
    found = compare_one(base, base)
    assert found.rows[0].notes[0] == "partial (base: 60 documents)"


def test_the_weights_origin_is_a_fact() -> None:
    evaluation_side = side("musr", answers("musr"))
    b = V2.benchmark("musr")
    evaluation = Evaluation(
        suite=V2.name,
        benchmark_digest=b.digest,
        engine=ENGINE,
        settings=SETTINGS,
        scores=evaluation_side.measurement.scores,
        result=evaluation_side.measurement.result,
        n_requests=1,
        n_replayed=0,
        duration_s=1.0,
    )
    found = measurement_of(evaluation, b, "demo", quantization="Q4_1")
    assert found.facts.get(Fact.QUANTIZATION) == "Q4_1"
    assert found.facts.get(Fact.SHOTS) == "0"


def test_every_stage_that_our_scores_allow() -> None:
    ours = side("math", answers("math", share=0.3))
    found = all_stages(ours.measurement, V2.benchmark("math"), ours.samples)
    assert [m.facts.get(Fact.STAGE) for m in found] == ["C", "B"]
    assert found[1].result.metric == "exact_match_original"
    assert len(all_stages(side("musr", answers("musr")).measurement, MUSR)) == 1


def test_a_suite_is_measured_as_a_whole() -> None:
    sides = [side(n, answers(n)) for n in ("musr", "gpqa")]
    found = suite_measurement(V2, sides)
    assert found is not None
    assert found.missing == ("IFEval", "BBH", "MATH Lvl 5", "MMLU-PRO")
    assert found.estimate.value == pytest.approx(np.mean([s.measurement.result.normalized for s in sides]))
    assert suite_measurement(V2, []) is None


def test_imported_runs_with_samples_are_compared(tmp_path: Path) -> None:
    """A base and a variant as lm-eval leaves them: one benchmark better, one alike; another template is refused."""
    truth = {n: answers(n) for n in ("musr", "gpqa")}
    variant = {"musr": flipped(truth["musr"], gain=20), "gpqa": flipped(truth["gpqa"], gain=3, lose=3)}
    for name, found, changes in (
        ("base", truth, {}),
        ("variant", variant, {}),
        ("other", variant, {"chat_template": None, "chat_template_sha": None}),
    ):
        counts = {t: int(v.sum()) for right in found.values() for t, v in right.items()}
        write(tmp_path / name, board_v2(counts, model_name=f"org/{name}", **changes))
        for right in found.values():
            for task, values in right.items():
                write_samples(tmp_path / name, task, logged(task, values))
    runs = {n: sides_of_import(import_results(tmp_path / n)[0], [V2]) for n in ("base", "variant", "other")}
    good, refused = compare(runs["base"], {n: runs[n] for n in ("variant", "other")}, [V2])
    assert good.base == "org/base"
    verdicts = {r.benchmark: (r.verdict, r.delta.gained if r.delta else None) for r in good.rows}
    assert verdicts == {"gpqa": ("no difference shown", 9), "musr": ("better", 60)}
    assert all(
        r.delta is None and "chat template: on (base), off (candidate)" in r.refused for r in refused.rows
    )


def test_the_table_reads_well_in_100_columns() -> None:
    names = ("musr", "gpqa", "math")
    base = [side(n, answers(n)) for n in names]
    mixed = [
        side("musr", flipped(answers("musr"), gain=20)),
        side("gpqa", answers("gpqa"), engine=ENGINE.model_copy(update={"dtype": "float32"})),
        side("math", flipped(answers("math"), lose=1, gain=1)),
    ]
    text = comparison_text(compare(base, {"a [red]name[/red] of some length": mixed}, [V2]))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert "a [red]name[/red] of some length against base" in text, "names are text, never markup"
    (musr,) = [line for line in lines if line.startswith("MuSR")]
    assert "better" in musr
    assert "…" in musr
    assert "+60 −0" in musr
    assert any(line.startswith("GPQA [1]") and line.rstrip().endswith("refused") for line in lines)
    assert "[1] precision: bfloat16 (base), float32 (candidate)" in text
    assert "Smallest true difference" in text


def test_a_comparison_is_json_and_back() -> None:
    right = answers("musr")
    found = compare_one(side("musr", right), side("musr", flipped(right, gain=9)))
    assert Comparison.model_validate(json.loads(found.model_dump_json())) == found
