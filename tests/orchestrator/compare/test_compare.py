"""Comparisons: what is refused and why, known differences, correction over a sweep, imported runs, the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evals.claims.facts import Fact
from evals.engine import EngineKind, EngineSpec
from evals.normalize import benchmark_score
from evals.scores import ChatTemplate, EvalSettings, Evaluation, Sample, Score
from evals.stats import SignificanceTest
from evals.suite import load_suite
from orchestrator.compare import (
    Comparison,
    Side,
    all_stages,
    comparability,
    compare,
    comparison_text,
    correct,
    measurement_of,
    sample_differences,
    sides_of_import,
    suite_measurement,
)
from orchestrator.compare.measurement import versions_of_scorer
from orchestrator.compare.pairs import count_differences
from tests.support.board_files import board_v2, logged, write, write_samples
from tests.support.result_files import import_results

V2 = load_suite("leaderboard-v2")
MUSR = V2.benchmark("musr")
ENGINE = EngineSpec(kind=EngineKind.VLLM, version="0.32.0+cpu")
SETTINGS = EvalSettings(chat_template=ChatTemplate.ON, fewshot_as_multiturn=True)


def answers(name: str, seed: int = 0, share: float = 0.6) -> dict[str, np.ndarray]:
    """Right or wrong for every document of a benchmark."""
    rng = np.random.default_rng(seed)
    return {s.task: rng.random(s.n_documents or 100) < share for s in V2.benchmark(name).subsets}


def flipped(right: dict[str, np.ndarray], lose: int = 0, gain: int = 0) -> dict[str, np.ndarray]:
    """The same answers but for this many lost and gained in each subset."""
    changed = {}
    for task, values in right.items():
        new = values.copy()
        new[np.flatnonzero(values)[:lose]] = False
        new[np.flatnonzero(~values)[:gain]] = True
        changed[task] = new
    return changed


def side(
    name: str,
    right: dict[str, np.ndarray],
    *,
    engine: EngineSpec = ENGINE,
    settings: EvalSettings = SETTINGS,
    limit: int | None = None,
    prompt: str = "p",
    digest: str | None = None,
) -> Side:
    """One of our own evaluations with its samples."""
    b = V2.benchmark(name)
    metrics = {m: 0.0 for m in (*b.metrics, *(s.metric for s in b.stages if s.metric))}
    samples, scores = [], []
    for subset in b.subsets:
        values = right[subset.task][:limit]
        for i, is_right in enumerate(values):
            samples.append(
                Sample(
                    benchmark=name,
                    subset=subset.task,
                    doc_id=i,
                    doc_hash=f"{i:016x}",
                    prompt_hash=f"{prompt}{i:x}",
                    target="A",
                    response="A",
                    metrics=dict.fromkeys(metrics, float(is_right)),
                    correct=float(is_right),
                )
            )
        for metric in metrics:
            scores.append(
                Score(
                    benchmark=name,
                    subset=subset.task,
                    metric=metric,
                    value=float(values.mean()),
                    stderr=None,
                    n=len(values),
                    n_full=subset.n_documents or 100,
                    lower_bound=subset.lower_bound,
                    task_version="1.0",
                )
            )
    evaluation = Evaluation(
        suite=V2.name,
        benchmark_digest=digest or b.digest,
        engine=engine,
        settings=settings.model_copy(update={"limit": limit}),
        scores=tuple(scores),
        result=benchmark_score(b, scores),
        n_requests=len(samples),
        n_replayed=0,
        duration_s=1.0,
    )
    return Side(measurement_of(evaluation, b, "base", samples), tuple(samples))


def one(base: Side, candidate: Side, **options: object) -> Comparison:
    (found,) = compare([base], {"candidate": [candidate]}, [V2], **options)
    return found


def test_the_same_answers_are_no_difference() -> None:
    right = answers("musr")
    row = one(side("musr", right), side("musr", right)).rows[0]
    assert row.delta is not None
    assert (row.delta.delta_points, row.delta.gained, row.delta.lost, row.p_corrected) == (0.0, 0, 0, 1.0)
    assert row.verdict == "no difference shown"


def test_a_real_loss_is_worse_and_a_real_gain_better() -> None:
    right = answers("musr")
    worse = one(side("musr", right), side("musr", flipped(right, lose=25))).rows[0]
    assert (worse.verdict, worse.delta.lost if worse.delta else None) == ("worse", 75)
    better = one(side("musr", right), side("musr", flipped(right, gain=25))).rows[0]
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
    row = one(base, other).rows[0]
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
            row = one(base, candidate, force=force).rows[0]
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
    found = one(side("musr", answers("musr")), side("musr", answers("musr"), limit=50), force=True)
    assert found.forced
    assert found.rows[0].delta is not None
    assert found.rows[0].delta.n == 150
    text = comparison_text([found])
    assert "forced" in text
    assert "forced although: number of documents" in text


def test_a_comparison_across_engines_says_what_rounding_does() -> None:
    other = ENGINE.model_copy(update={"kind": EngineKind.TRANSFORMERS})
    right = answers("musr")
    found = one(side("musr", right), side("musr", right, engine=other), force=True)
    assert any(note.startswith("across engines") for note in found.rows[0].notes)
    assert "docs/agreement.md" in comparison_text([found])
    assert not any(
        note.startswith("across engines")
        for note in one(side("musr", right), side("musr", right)).rows[0].notes
    )


def test_other_prompts_and_other_questions_refuse() -> None:
    right = answers("musr")
    base, other = side("musr", right), side("musr", right, prompt="q")
    assert "prompts: those of 756 of 756 documents differ" in one(base, other).rows[0].refused
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
    assert one(Side(full), Side(cut)).rows[0].delta is None


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


def test_a_sweep_is_corrected_for_how_many_it_tried() -> None:
    """One lucky candidate of forty: significant alone, not after forty tries."""
    right = answers("musr")
    base = side("musr", right)
    lucky = side("musr", flipped(right, gain=5, lose=1))
    alone = compare([base], {"lucky": [lucky]}, [V2])[0].rows[0]
    assert alone.significant
    among = compare([base], {"lucky": [lucky], **{f"c{i}": [base] for i in range(39)}}, [V2])
    assert among[0].n_tests == 40
    assert not among[0].rows[0].significant
    told = compare([base], {"lucky": [lucky]}, [V2], other_tests=39)[0]
    assert told.rows[0].p_corrected == pytest.approx(among[0].rows[0].p_corrected)


def several(names: tuple[str, ...], gain: int, lose: int = 0) -> list[Side]:
    return [side(n, flipped(answers(n), gain=gain, lose=lose)) for n in names]


def test_averages_are_corrected_with_all_that_was_tried() -> None:
    """Before, averages were a family of their own: of 465 paths without an effect the best was often called better."""
    names = ("musr", "gpqa")
    base = several(names, 0)
    lucky = several(names, gain=4, lose=1)
    (alone,) = compare(base, {"lucky": lucky}, [V2])
    assert (alone.n_tests, alone.n_candidates) == (3, 1)
    assert alone.averages[0].significant
    among = compare(base, {"lucky": lucky, **{f"c{i}": base for i in range(9)}}, [V2])[0]
    (told,) = compare(base, {"lucky": lucky}, [V2], other_candidates=9)
    for found in (among, told):
        assert (found.n_tests, found.n_candidates) == (30, 10)
        assert found == among
        p_values = sorted((r.delta.p, r.p_corrected) for r in (*found.rows, *found.averages) if r.delta)
        assert p_values[0][1] == pytest.approx(min(1.0, 30 * p_values[0][0]))
        (average,) = found.averages
        assert average.delta is not None
        assert (average.p_corrected or 0) >= min(1.0, 28 * average.delta.p)
    (strict,) = compare(base, {"lucky": lucky}, [V2], other_candidates=464)
    assert strict.n_tests == 465 * 3
    assert not any(row.significant for row in (*strict.rows, *strict.averages))


def test_engines_of_one_run_are_one_family() -> None:
    names = ("musr", "gpqa")
    (found,) = compare(several(names, 0), {"c": several(names, gain=5, lose=1)}, [V2])
    both = correct([found, found.model_copy(update={"candidate": "c, another engine"})])
    assert [c.n_tests for c in both] == [6, 6]
    assert correct([found]) == (found,)
    assert correct(both, other_candidates=2)[0].n_tests == 12
    assert correct([]) == ()


def test_the_table_says_what_was_corrected_and_what_an_interval_alone_means() -> None:
    names = ("musr", "gpqa")
    (alone,) = compare(several(names, 0), {"c": several(names, gain=5, lose=1)}, [V2])
    text = " ".join(comparison_text([alone]).split())
    assert (
        "p corr.: Holm, for 3 tests: every benchmark and every average of 1 candidate; better or worse is p corr. < 0.05"
        in text
    )
    assert "Intervals: each for its row alone." in text
    (many,) = compare(several(names, 0), {"c": several(names, gain=4, lose=1)}, [V2], other_candidates=464)
    assert any(row.alone for row in many.rows)
    text = " ".join(comparison_text([many]).split())
    assert "Holm, for 1,395 tests: every benchmark and every average of 465 candidates" in text
    assert "p < 0.05 on its own; of 1,395 tests without any effect about 70 would show as much." in text
    (single,) = compare(several(("musr",), 0), {"c": several(("musr",), gain=9)}, [V2])
    assert "p corr.: one test: nothing to correct;" in " ".join(comparison_text([single]).split())


def test_a_verdict_goes_with_its_number_where_the_floor_hides_the_flips() -> None:
    """GPQA from 20.0 to 24.9 % raw: 58 flips, all of them to the better, and +0.00 on the board; it was called worse."""
    right = {task: np.arange(len(v)) < round(0.2 * len(v)) for task, v in answers("gpqa").items()}
    better = {t: np.arange(len(v)) < round(0.249 * len(v)) for t, v in right.items()}
    row = one(side("gpqa", right), side("gpqa", better)).rows[0]
    assert row.delta is not None
    assert (row.delta.gained or 0) > 50
    assert (row.delta.lost, row.delta.delta_points, row.delta.p) == (0, 0.0, 1.0)
    assert row.delta.interval.low < 0 < row.delta.interval.high
    assert row.verdict == "no difference shown"


def test_without_samples_the_comparison_is_wider_and_says_so() -> None:
    right = answers("musr")
    base, better = side("musr", right), side("musr", flipped(right, gain=10))
    paired = one(base, better).rows[0]
    bare = one(Side(base.measurement), Side(better.measurement)).rows[0]
    assert paired.delta is not None
    assert bare.delta is not None
    assert bare.delta.test is SignificanceTest.UNPAIRED
    assert bare.delta.stderr_points > 2 * paired.delta.stderr_points
    assert "without samples: compared as if on different documents" in bare.notes
    assert suite_measurement(V2, [Side(base.measurement)]) is not None


def test_partial_scores_are_marked() -> None:
    base = side("musr", answers("musr"), limit=20)
    found = one(base, base)
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
    found = one(side("musr", right), side("musr", flipped(right, gain=9)))
    assert Comparison.model_validate(json.loads(found.model_dump_json())) == found
