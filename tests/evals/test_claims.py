"""Claims and verdicts: the rule, its reasons, a card's own arithmetic, published rows."""

from __future__ import annotations

from statistics import fmean

import pytest

from evals.claims.board import BoardRow, board_rows, confounds, find_row, rows_of
from evals.claims.build import claims_of
from evals.claims.facts import Fact, Facts, facts_of, limit_text, versions_text
from evals.claims.judge import judge, judge_average
from evals.claims.labels import board_suites, match_label, shots_in
from evals.claims.records import CheckOutcome, Claim, Measurement, Scale, SuiteMeasurement, VerdictKind
from evals.engine import EngineKind, EngineSpec
from evals.normalize import benchmark_score
from evals.scores import Alarm, AlarmKind, ChatTemplate, EvalSettings, Evaluation, Score
from evals.stats import Estimate, Interval, estimate_from_scores
from evals.suite import load_suite
from tests.support.card_figures import RYS, figure, rys

V2 = load_suite("leaderboard-v2")
ROWS = board_rows()


def measurement(
    name: str, share: float = 0.6, facts: dict[Fact, str] | None = None, **changes: object
) -> Measurement:
    """Our own measurement of a benchmark, with this share of right answers in every subset."""
    b = V2.benchmark(name)
    scores = tuple(
        Score(
            benchmark=name,
            subset=s.task,
            metric=metric,
            value=round(share * (s.n_documents or 1)) / (s.n_documents or 1),
            stderr=None,
            n=s.n_documents or 1,
            n_full=s.n_documents or 1,
            lower_bound=s.lower_bound,
            task_version="1.0",
        )
        for s in b.subsets
        for metric in b.metrics
    )
    known = {
        Fact.SUITE: V2.name,
        Fact.BENCHMARK: name,
        Fact.TEMPLATE: "on",
        Fact.DTYPE: "bfloat16",
        Fact.QUANTIZATION: "none",
        Fact.LIMIT: "all documents",
        Fact.HARNESS: "lm-eval",
        Fact.SHOTS: str(b.shots),
        **(facts or {}),
    }
    result = benchmark_score(b, scores).model_copy(update=changes)
    return Measurement(
        checkpoint="ours",
        facts=Facts(known=known),
        scores=scores,
        result=result,
        estimate=estimate_from_scores(scores, b, n_draws=2000),
    )


def claim(name: str | None, value: float, facts: dict[Fact, str] | None = None, **changes: object) -> Claim:
    known = {Fact.SUITE: V2.name, **({Fact.BENCHMARK: name} if name else {}), **(facts or {})}
    return Claim(
        subject="org/model",
        suite=V2.name,
        benchmark=name,
        title=V2.benchmark(name).title if name else "Average",
        value=value,
        rounding_points=0.005,
        scale=Scale.NORMALIZED,
        source="card.md, table, line 3",
        facts=Facts(known=known),
    ).model_copy(update=changes)


def test_a_claim_in_the_interval_is_reproduced() -> None:
    ours = measurement("musr")
    verdict = judge(claim("musr", ours.result.normalized + 0.5), [ours])
    assert verdict.kind is VerdictKind.REPRODUCED
    assert verdict.difference_points == pytest.approx(-0.5)
    assert "lies in the 95 % interval" in verdict.reason


def test_a_claim_outside_is_not_reproduced() -> None:
    ours = measurement("mmlu-pro")
    for off, word in ((9.0, "above"), (-9.0, "below")):
        verdict = judge(claim("mmlu-pro", ours.result.normalized + off), [ours])
        assert verdict.kind is VerdictKind.NOT_REPRODUCED
        assert f"is {word}" in verdict.reason


def test_the_interval_is_widened_by_the_rounding() -> None:
    ours = measurement("mmlu-pro")
    edge = ours.estimate.interval.high + 0.3
    assert judge(claim("mmlu-pro", edge), [ours]).kind is VerdictKind.NOT_REPRODUCED
    assert judge(claim("mmlu-pro", edge, rounding_points=0.5), [ours]).kind is VerdictKind.REPRODUCED


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        (Fact.TEMPLATE, "off"),
        (Fact.DTYPE, "float16"),
        (Fact.QUANTIZATION, "4bit"),
        (Fact.LIMIT, "the first 100 of each subset"),
        (Fact.HARNESS, "lighteval"),
        (Fact.SHOTS, "25"),
    ],
)
def test_a_known_difference_makes_it_not_comparable(fact: Fact, value: str) -> None:
    ours = measurement("musr")
    verdict = judge(claim("musr", ours.result.normalized, {fact: value}), [ours])
    assert verdict.kind is VerdictKind.NOT_COMPARABLE
    assert f"{fact}: {value} (claim)" in verdict.reason
    assert verdict.difference_points is None, "a difference that means nothing is not printed"


def test_an_unknown_circumstance_is_no_difference() -> None:
    ours = measurement("musr")
    assert (
        judge(claim("musr", ours.result.normalized, {Fact.SHOTS: "0"}), [ours]).kind is VerdictKind.REPRODUCED
    )


def test_force_stays_visible() -> None:
    ours = measurement("musr")
    verdict = judge(claim("musr", ours.result.normalized, {Fact.TEMPLATE: "off"}), [ours], force=True)
    assert verdict.kind is VerdictKind.REPRODUCED
    assert verdict.forced
    assert "forced although chat template" in verdict.reason


def test_partial_alarmed_and_altered_scores_prove_nothing() -> None:
    alarm = Alarm(kind=AlarmKind.EMPTY, share=0.5, threshold=0.05)
    for change, words in (
        ({"partial": True, "n": 20}, "partial (20 documents)"),
        ({"alarms": (alarm,)}, "alarm (empty)"),
    ):
        ours = measurement("musr", **change)
        verdict = judge(claim("musr", ours.result.normalized), [ours])
        assert verdict.kind is VerdictKind.NOT_COMPARABLE
        assert words in verdict.reason
    other = measurement("musr", comparable_to_board=False, remark="The order is another.")
    assert judge(claim("musr", other.result.normalized), [other]).kind is VerdictKind.REPRODUCED
    of_board = judge(claim("musr", other.result.normalized, of_board=True), [other])
    assert of_board.kind is VerdictKind.NOT_COMPARABLE
    assert "The order is another" in of_board.reason


def test_what_was_not_measured_says_so() -> None:
    assert "was not measured" in judge(claim("gpqa", 10.0), []).reason


def test_a_raw_score_is_not_taken_for_a_normalized_one() -> None:
    """A card gives 60.2 for MMLU-PRO, which is the share of right answers; the board would show 55.8."""
    ours = measurement("mmlu-pro", 0.602)
    verdict = judge(claim("mmlu-pro", 60.2), [ours])
    assert verdict.kind is VerdictKind.NOT_COMPARABLE
    assert "raw score" in verdict.reason
    said = judge(claim("mmlu-pro", 60.2, scale=Scale.RAW), [ours])
    assert said.kind is VerdictKind.REPRODUCED
    assert said.measured == pytest.approx(60.2, abs=0.01)


def test_stages_are_told_apart() -> None:
    at_c = measurement("math", 0.40, {Fact.STAGE: "C"})
    at_b = measurement("math", 0.30, {Fact.STAGE: "B"})
    stated = judge(claim("math", 30.1, {Fact.STAGE: "B"}), [at_c, at_b])
    assert stated.kind is VerdictKind.REPRODUCED
    assert stated.measured == pytest.approx(30.0, abs=0.1)
    lost = judge(claim("math", 30.1, {Fact.STAGE: "A"}), [at_c, at_b])
    assert lost.kind is VerdictKind.NOT_COMPARABLE
    assert "scoring stage: A (claim)" in lost.reason
    silent = judge(claim("math", 30.1), [at_c, at_b])
    assert silent.kind is VerdictKind.REPRODUCED
    assert "names no scoring stage; stage B comes closest" in silent.reason


def test_an_average_needs_every_benchmark() -> None:
    parts = tuple(measurement(b.name) for b in V2.benchmarks)
    value = fmean(p.result.normalized for p in parts)
    found = Estimate(value=value, interval=Interval(low=value - 1, high=value + 1), stderr_points=0.5, n=100)
    whole = SuiteMeasurement(estimate=found, missing=(), parts=parts)
    assert judge_average(claim(None, value + 0.3), whole).kind is VerdictKind.REPRODUCED
    assert judge_average(claim(None, value + 3), whole).kind is VerdictKind.NOT_REPRODUCED
    lacking = whole.model_copy(update={"missing": ("GPQA",), "parts": parts[:5]})
    verdict = judge_average(claim(None, value), lacking)
    assert verdict.kind is VerdictKind.NOT_COMPARABLE
    assert "GPQA is missing or partial" in verdict.reason
    other = judge_average(claim(None, value, {Fact.TEMPLATE: "off"}), whole)
    assert other.kind is VerdictKind.NOT_COMPARABLE
    assert other.reason.count("chat template") == 1, "said once, not six times"
    assert judge_average(claim(None, value, {Fact.TEMPLATE: "off"}), whole, force=True).forced
    assert judge_average(claim(None, value), None).kind is VerdictKind.NOT_COMPARABLE


def test_the_demo_models_row_is_not_comparable_with_quantised_weights() -> None:
    """The published row was bf16; the embedded weights come from Q4_1."""
    row = next(r for r in ROWS if r.checkpoint.endswith("135M-Instruct") and r.dtype == "bfloat16")
    ours = measurement("musr", 0.39, {Fact.QUANTIZATION: "Q4_1"})
    published = claim("musr", 3.68, dict(row.facts.known))
    verdict = judge(published, [ours])
    assert verdict.kind is VerdictKind.NOT_COMPARABLE
    assert verdict.reason == "quantisation: none (claim), Q4_1 (ours)"


# Facts


def test_the_facts_of_an_evaluation() -> None:
    ours = measurement("musr")
    engine = EngineSpec(kind=EngineKind.VLLM, version="0.32.0+cpu", dtype="float32", max_length=4096)
    settings = EvalSettings(
        chat_template=ChatTemplate.OFF, fewshot_as_multiturn=False, limit=20, add_bos_token=False
    )
    evaluation = Evaluation(
        suite=V2.name,
        benchmark_digest="d1",
        engine=engine,
        settings=settings,
        scores=ours.scores,
        result=ours.result,
        n_requests=1,
        n_replayed=0,
        duration_s=1.0,
    )
    facts = facts_of(evaluation)
    assert facts.get(Fact.BOS) == "off"
    assert facts.get(Fact.LIMIT) == "the first 20 of each subset"
    other = evaluation.model_copy(
        update={"engine": engine.model_copy(update={"dtype": "bfloat16"}), "benchmark_digest": "d2"}
    )
    found = facts.differences(facts_of(other))
    assert [d.fact for d in found] == [Fact.DTYPE, Fact.DEFINITION]
    assert found[0].sentence() == "precision: float32 (base), bfloat16 (candidate)"


def test_facts_as_text() -> None:
    assert limit_text(0.1) == "10% of the documents"
    assert versions_text({"a": 1.0, "b": "1.0"}) == "1.0"
    assert versions_text({"a": 1.0, "b": 2.0}) == "a 1.0, b 2.0"
    assert versions_text({}) is None


# Labels


@pytest.mark.parametrize(
    ("label", "benchmark"),
    [
        ("IFEval (0-Shot)", "ifeval"),
        ("**BBH**", "bbh"),
        ("BIG-Bench Hard", "bbh"),
        ("[MATH Lvl 5](https://x)", "math"),
        ("MUSR", "musr"),
        ("mmlu_pro", "mmlu-pro"),
        ("leaderboard_mmlu_pro", "mmlu-pro"),
        ("MMLU-PRO (5-shot)", "mmlu-pro"),
    ],
)
def test_labels_of_the_second_board(label: str, benchmark: str) -> None:
    found = match_label(label, board_suites())
    assert found is not None
    assert (found.suite, found.benchmark) == ("leaderboard-v2", benchmark)


def test_labels_that_are_averages_or_nothing() -> None:
    average = match_label("Avg.", board_suites())
    assert average is not None
    assert average.is_average
    assert match_label("HumanEval", board_suites()) is None
    assert (shots_in("BBH (3-Shot)"), shots_in("5 shot"), shots_in("BBH")) == (3, 5, None)


# Published rows


def test_the_rows_are_sound() -> None:
    """Each row's average follows from its scores at each stage, and every benchmark is the suite's."""
    names = {b.name for b in V2.benchmarks}
    for row in ROWS:
        assert set(row.scores) == names
        for stage, average in row.average.items():
            values = [v.get(stage, v.get(None)) for v in (row.values(n) for n in names)]
            if None not in values:
                assert fmean(v for v in values if v is not None) == pytest.approx(average, abs=0.011), (
                    row.checkpoint,
                    stage,
                )


def test_the_confound_of_a_row_and_its_base_is_noticed() -> None:
    variant, base = (
        rows_of("dnhkng/RYS-XLarge", ROWS)[0],
        rows_of("MaziyarPanahi/calme-2.1-qwen2-72b", ROWS)[0],
    )
    (found,) = confounds(variant, base)
    assert found.outcome is CheckOutcome.FAILS
    assert (
        "without a chat template and its base MaziyarPanahi/calme-2.1-qwen2-72b with a chat template"
        in found.sentence
    )
    assert confounds(base, base) == ()
    half = base.model_copy(update={"dtype": "float16"})
    assert "in float16" in confounds(half, base)[0].sentence


def test_figures_are_recognised_as_a_published_row() -> None:
    figures = rys()
    row = find_row(figures, None, ROWS)
    assert row is not None
    assert row.checkpoint == "dnhkng/RYS-XLarge"
    assert row.stage_of("math", 38.97) == "A"
    assert row.stage_of(None, 45.35) == "C"
    assert find_row([figure("BBH", "58.77")], None, ROWS) is None, "one figure is no proof"
    assert find_row([figure("BBH", "1.00")], "nobody/nothing", ROWS) is None


def test_claims_know_what_the_row_says() -> None:
    figures = [
        *rys(),
        *[figure(k, v, group=1) for k, v in RYS.items()],
        figure("BBH", "57.00", subject="another"),
    ]
    found = claims_of(figures, source="card.md", checkpoint=None, stated=Facts(), suites=[V2], rows=ROWS)
    assert [c.benchmark for c in found] == ["ifeval", "bbh", "math", "gpqa", "musr", "mmlu-pro", None]
    math = found[2]
    assert math.facts.get(Fact.STAGE) == "A"
    assert (math.of_board, math.facts.get(Fact.TEMPLATE), math.facts.get(Fact.DTYPE)) == (
        True,
        "off",
        "bfloat16",
    )
    assert found[1].facts.get(Fact.STAGE) is None
    verdict = judge(math, [measurement("math", 0.39, {Fact.STAGE: "C", Fact.TEMPLATE: "off"})])
    assert verdict.kind is VerdictKind.NOT_COMPARABLE


def test_claims_without_a_row_know_what_the_card_says() -> None:
    stated = Facts(known={Fact.TEMPLATE: "off"})
    found = claims_of(
        [figure("BBH", "33.30"), figure("Elo", "1000")],
        source="c",
        checkpoint="a/b",
        stated=stated,
        suites=[V2],
        rows=ROWS,
    )
    assert [(c.suite, c.benchmark) for c in found] == [(V2.name, "bbh"), (None, "Elo")]
    assert found[0].facts.get(Fact.TEMPLATE) == "off"
    assert not found[0].of_board


def test_a_row_without_stages_has_one_value() -> None:
    row = BoardRow.model_validate(
        {
            "suite": V2.name,
            "source": "s",
            "checkpoint": "a/b",
            "dtype": "float16",
            "chat_template": "off",
            "submitted": "2024-07-01",
            "scores": {"bbh": 3.0},
            "average": {"A": 3.0},
        }
    )
    assert row.values("bbh") == {None: 3.0}
    assert row.values("gpqa") == {}
    assert row.has("bbh", 3.004)
    assert not row.has("bbh", 3.1)
