"""Result files of lm-eval and of both boards, whole and broken, small and large."""

from __future__ import annotations

import json
import math
from statistics import fmean

import pytest

from evals.claims.facts import Fact
from evals.errors import ClaimError
from evals.results_files import FileFormat, ImportedRun, assemble_run, parse_results
from evals.results_files.rules import key_rules
from evals.suite import load_suite, suite_names
from tests.support.board_files import V2, benchmark, board_v1, board_v2, harness_0413, result, right_answers


def run_of(data: dict, name: str = "results_2025-01-28T10-22-20.980995.json") -> ImportedRun:
    return assemble_run(parse_results(json.dumps(data), name))


def norm(value: float, k: float) -> float:
    return max(0.0, (value - 1 / k) / (1 - 1 / k)) * 100


def test_a_board_file_gives_the_boards_columns() -> None:
    """Against the board's published formula, written out here a second time."""
    counts = right_answers()
    run = run_of(board_v2(counts))
    raw = {s.task: counts[s.task] / s.n_documents for b in V2.benchmarks for s in b.subsets}
    prompts = counts["leaderboard_ifeval"]
    instructions = (prompts + 40) / (541 + 293)
    gpqa = [s for s in benchmark("gpqa").subsets]
    expected = {
        "ifeval": 50 * (instructions + prompts / 541),
        "bbh": fmean(norm(raw[s.task], s.choices) for s in benchmark("bbh").subsets),
        "math": 100 * sum(counts[s.task] for s in benchmark("math").subsets) / 1324,
        "gpqa": norm(sum(counts[s.task] for s in gpqa) / 1192, 4),
        "musr": fmean(norm(raw[s.task], s.choices) for s in benchmark("musr").subsets),
        "mmlu-pro": norm(raw["leaderboard_mmlu_pro"], 10),
    }
    for name, value in expected.items():
        assert result(run, name).measurement.result.normalized == pytest.approx(value, abs=1e-9), name
    assert run.suites[0].average == pytest.approx(fmean(expected.values()), abs=1e-9)
    assert not run.ignored
    assert not run.problems
    assert not any(b.problems for b in run.benchmarks)


def test_what_is_known_of_the_run_is_read() -> None:
    run = run_of(board_v2(right_answers()))
    facts = result(run, "bbh").measurement.facts
    expected = {
        Fact.TEMPLATE: "on",
        Fact.MULTITURN: "on",
        Fact.DTYPE: "bfloat16",
        Fact.QUANTIZATION: "none",
        Fact.ENGINE: "transformers",
        Fact.ENGINE_VERSION: "4.46.0",
        Fact.LIMIT: "all documents",
        Fact.SHOTS: "3",
        Fact.SEEDS: "0, 1234, 1234, 1234",
        Fact.HARNESS_VERSION: "b569ab0",
        Fact.SYSTEM_PROMPT: "none",
    }
    assert {fact: facts.get(fact) for fact in expected} == expected
    assert (run.file.checkpoint, run.file.revision) == ("org/model", "0123abcd")
    assert run.file.measured_at is not None
    assert run.file.measured_at.isoformat().startswith("2025-01-28T10:22:20")


def test_without_a_template_there_are_no_turns() -> None:
    run = run_of(board_v2(right_answers(), chat_template=None, chat_template_sha=None))
    facts = result(run, "bbh").measurement.facts
    assert (facts.get(Fact.TEMPLATE), facts.get(Fact.MULTITURN)) == ("off", "off")
    old = board_v2(right_answers())
    del old["chat_template"]
    assert result(run_of(old), "bbh").measurement.facts.get(Fact.TEMPLATE) is None, "not known is not off"


@pytest.mark.parametrize(
    ("version", "stamp", "extra", "stage"),
    [
        (1.0, "2024-07-01T00-00-00", {}, "A"),
        (1.0, "2024-10-23T00-00-00", {}, "A"),
        (2.0, "2024-11-02T00-00-00", {}, "B"),
        (2.0, "2025-02-20T00-00-00", {}, "C"),
        (1.0, "2025-02-13T18-27-04.338360", {}, "C"),
        (2.0, "2025-06-01T00-00-00", {"lm_eval_version": "0.4.7"}, "B"),
        (3.0, "2025-06-01T00-00-00", {"lm_eval_version": "0.4.9"}, "C"),
        (7.0, "2025-06-01T00-00-00", {}, None),
    ],
)
def test_the_scoring_stage_is_told_apart(version: float, stamp: str, extra: dict, stage: str | None) -> None:
    found = result(
        run_of(board_v2(right_answers(), version=version, **extra), f"results_{stamp}.json"), "math"
    )
    assert found.stage == stage
    metric = {"A": "exact_match", "B": "exact_match_original", "C": "exact_match", None: "exact_match"}[stage]
    assert {s.metric for s in found.measurement.scores} == {metric}
    assert (found.stage_reason is None) == (stage is None)
    assert found.measurement.facts.get(Fact.STAGE) == stage


def test_the_stage_is_that_of_the_scoring_not_of_the_run() -> None:
    """The board scored old responses again: the name has the day of scoring, the file the day of the run."""
    data = board_v2(right_answers(), date=1719000000.0)
    assert result(run_of(data, "results_2025-02-13T18-27-04.338360.json"), "math").stage == "C"
    assert (
        result(
            run_of(board_v2(right_answers(), version=1.0, date=1719000000.0), "results.json"), "math"
        ).stage
        == "A"
    )


def test_both_stages_of_a_new_file_are_kept() -> None:
    run = run_of(harness_0413(right_answers()))
    both = [b for b in run.benchmarks if b.measurement.result.benchmark == "math"]
    assert [(b.stage, b.primary) for b in both] == [("C", True), ("B", False)]
    assert both[1].measurement.result.normalized < both[0].measurement.result.normalized
    assert both[1].measurement.result.metric == "exact_match_original"


def test_a_part_of_a_file_says_what_is_missing() -> None:
    counts = {k: v for k, v in right_answers().items() if "bbh" in k and "snarks" not in k}
    run = run_of(board_v2(counts))
    bbh = result(run, "bbh")
    assert bbh.measurement.result.partial
    assert "leaderboard_bbh_snarks" in bbh.problems[0]
    assert run.suites[0].average is None
    assert len(run.suites[0].missing) == 5


def test_a_limited_run_is_partial() -> None:
    data = harness_0413({"leaderboard_musr_team_allocation": 100})
    data["n-samples"]["leaderboard_musr_team_allocation"] = {"original": 250, "effective": 20}
    data["results"]["leaderboard_musr_team_allocation"]["acc_norm,none"] = 0.4
    data["config"]["limit"] = 20
    found = result(run_of(data), "musr")
    assert (found.measurement.result.partial, found.measurement.result.n) == (True, 20)
    assert found.measurement.facts.get(Fact.LIMIT) == "the first 20 of each subset"


def test_a_limited_run_is_found_out_without_counts() -> None:
    """Old files have no counts, but their standard error tells."""
    counts = right_answers()
    data = board_v2(counts)
    del data["n-samples"], data["config"]["limit"]
    entry = data["results"]["leaderboard_bbh_navigate"]
    entry["acc_norm,none"], entry["acc_norm_stderr,none"] = 0.5, math.sqrt(0.25 / 39)
    found = result(run_of(data), "bbh")
    assert found.measurement.result.partial
    assert any("corresponds to 40 documents" in p for p in found.problems)
    assert found.measurement.facts.get(Fact.LIMIT) != "all documents"


def test_all_levels_instead_of_the_hard_ones_are_not_the_boards() -> None:
    """lm-eval 0.4.8 evaluates MATH at all levels under the board's name."""
    data = harness_0413(right_answers(), lm_eval_version="0.4.8")
    data["n-samples"]["leaderboard_math_algebra_hard"] = {"original": 1187, "effective": 1187}
    found = result(run_of(data), "math").measurement.result
    assert not found.comparable_to_board
    assert "1,187 documents" in (found.remark or "")


def test_other_shots_are_not_the_boards() -> None:
    data = board_v2(right_answers())
    data["n-shot"]["leaderboard_mmlu_pro"] = 0
    found = result(run_of(data), "mmlu-pro").measurement.result
    assert "0 few-shot examples; the board used 5" in (found.remark or "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"acc,none": 61.2}, "not a share from 0 to 1"),
        ({"acc,none": math.nan}, "not a number"),
        ({"acc,none": "0.4"}, "lacks acc"),
        ({"acc,none": True}, "lacks acc"),
    ],
)
def test_values_that_are_no_shares_are_refused(change: dict, words: str) -> None:
    data = board_v2({"leaderboard_mmlu_pro": 5000})
    data["results"]["leaderboard_mmlu_pro"] |= change
    run = run_of(data)
    assert not run.benchmarks
    assert words in run.problems[0]


def test_a_file_that_was_edited_is_found_out() -> None:
    data = board_v2(right_answers())
    data["results"]["leaderboard_musr"]["acc_norm,none"] += 0.05
    assert "the mean of its tasks is" in result(run_of(data), "musr").problems[0]
    data = board_v2(right_answers())
    value = data["results"]["leaderboard_mmlu_pro"]["acc,none"] + 0.00002
    data["results"]["leaderboard_mmlu_pro"] |= {
        "acc,none": value,
        "acc_stderr,none": math.sqrt(value * (1 - value) / 12031),
    }
    assert "not a share of" in result(run_of(data), "mmlu-pro").problems[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[1, 2]", "JSON list"),
        ("{}", "no 'results'"),
        ('{"results": {}}', "no 'results'"),
        ('{"results": {"a": {"acc,none": 0.5}', "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("# A card\n\nwithout results\n", "not JSON"),
    ],
)
def test_what_is_no_result_file_says_so_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ClaimError, match=words) as caught:
        parse_results(text, "x.json")
    assert "\n" not in str(caught.value)


def test_unknown_tasks_are_named() -> None:
    data = board_v2({"leaderboard_ifeval": 100})
    data["results"]["leaderboard_arc_challenge"] = {"acc_norm,none": 0.4}
    assert run_of(data).ignored == ("leaderboard_arc_challenge",)


def test_quantised_weights_are_read_from_arguments_and_names() -> None:
    four = board_v2(right_answers())
    four["config"]["model_args"] += ",load_in_4bit=True"
    assert result(run_of(four), "bbh").measurement.facts.get(Fact.QUANTIZATION) == "4bit"
    named = board_v2(right_answers(), model_name="TheBloke/Some-7B-GPTQ")
    assert result(run_of(named), "bbh").measurement.facts.get(Fact.QUANTIZATION) == "gptq"


def test_a_details_card_is_read() -> None:
    data = board_v2(right_answers())
    results = {"all": data["results"], **data["results"]}
    text = (
        "---\npretty_name: Evaluation run of org/other\n---\n# Dataset Card for Evaluation run of org/other\n\n"
        "These are the [latest results from run 2025-01-28T10-22-20.980995](https://example.org/x.json):\n\n"
        f"```python\n{json.dumps(results, indent=4)}\n```\n\n## Dataset Details\n"
    )
    run = assemble_run(parse_results(text, "README.md"))
    assert (run.file.format, run.file.checkpoint) == (FileFormat.DETAILS_CARD, "org/other")
    whole = run_of(data)
    assert run.suites[0].average == pytest.approx(whole.suites[0].average)
    assert result(run, "math").stage == "B"
    assert result(run, "bbh").measurement.facts.get(Fact.TEMPLATE) is None


def test_a_file_of_the_first_board() -> None:
    """Raw percentages, MMLU as the plain mean of its 57 subjects, no template; drop was never part of it."""
    data = board_v1()
    data["results"]["harness|drop|3"] = {"em": 0.01, "f1": 0.05}
    run = run_of(data, "results_2023-12-04T12-00-00.json")
    assert run.file.format is FileFormat.BOARD_V1
    assert (run.file.checkpoint, run.file.revision) == ("org/model", "0123abcd")
    v1 = load_suite("leaderboard-v1")
    subjects = [v["acc"] for k, v in data["results"].items() if "hendrycks" in k]
    assert len(subjects) == 57
    assert result(run, "mmlu").measurement.result.normalized == pytest.approx(100 * fmean(subjects))
    arc = data["results"]["harness|arc:challenge|25"]["acc_norm"]
    assert result(run, "arc").measurement.result.normalized == pytest.approx(100 * arc)
    truthful = data["results"]["harness|truthfulqa:mc|0"]["mc2"]
    assert result(run, "truthfulqa").measurement.result.normalized == pytest.approx(100 * truthful)
    columns = [result(run, b.name).measurement.result.normalized for b in v1.benchmarks]
    assert run.suites[0].average == pytest.approx(fmean(columns))
    facts = result(run, "gsm8k").measurement.facts
    assert (facts.get(Fact.TEMPLATE), facts.get(Fact.DTYPE), facts.get(Fact.SHOTS)) == (
        "off",
        "bfloat16",
        "5",
    )
    assert run.ignored == ("harness|drop|3",)
    assert all(b.measurement.result.comparable_to_board for b in run.benchmarks)
    assert not any(b.problems for b in run.benchmarks)


def test_what_the_first_board_made_of_odd_values() -> None:
    """It showed a TruthfulQA that is no number as 0, and passed over MMLU of version 0."""
    data = board_v1()
    data["results"]["harness|truthfulqa:mc|0"]["mc2"] = math.nan
    data["versions"]["harness|hendrycksTest-anatomy|5"] = 0
    run = run_of(data)
    assert result(run, "truthfulqa").measurement.result.normalized == 0.0
    mmlu = result(run, "mmlu")
    assert mmlu.measurement.result.partial
    assert "version 0, which the board skipped" in mmlu.problems[0]


def test_the_same_tasks_of_a_later_harness_are_not_the_boards() -> None:
    data = {
        "results": {
            "arc_challenge": {"acc,none": 0.5, "acc_norm,none": 0.55, "acc_norm_stderr,none": 0.0145},
            "gsm8k": {"exact_match,strict-match": 0.4, "exact_match,flexible-extract": 0.45},
        },
        "versions": {"arc_challenge": 1.0, "gsm8k": 3.0},
        "n-shot": {"arc_challenge": 25, "gsm8k": 5},
        "config": {"model": "vllm", "model_args": {"pretrained": "a/b", "dtype": "auto"}},
    }
    run = run_of(data)
    for name in ("arc", "gsm8k"):
        found = result(run, name).measurement
        assert not found.result.comparable_to_board
        assert "the board's harness of 2023" in (found.result.remark or "")
    assert result(run, "gsm8k").measurement.result.normalized == pytest.approx(40.0)
    assert result(run, "arc").measurement.facts.get(Fact.ENGINE) == "vllm"


def test_results_before_lm_eval_0_4() -> None:
    data = {
        "results": {
            "arc_challenge": {"acc": 0.5, "acc_norm": 0.55, "acc_norm_stderr": 0.0145},
            "hendrycksTest-anatomy": {"acc": 0.5, "acc_norm": 0.5},
            "gsm8k": {"acc": 0.3, "acc_stderr": 0.0126},
        },
        "versions": {"arc_challenge": 0, "hendrycksTest-anatomy": 1, "gsm8k": 0},
        "config": {
            "model": "hf-causal-experimental",
            "model_args": "pretrained=a/b",
            "num_fewshot": 25,
            "limit": None,
        },
    }
    run = run_of(data)
    assert run.file.format is FileFormat.HARNESS_OLD
    assert run.file.checkpoint == "a/b"
    assert result(run, "gsm8k").measurement.result.raw == pytest.approx(0.3)
    assert result(run, "mmlu").measurement.result.partial


def test_every_rule_leads_to_a_task_of_a_suite() -> None:
    tasks = {s.task for name in suite_names() for b in load_suite(name).benchmarks for s in b.subsets}
    for rule in key_rules():
        assert any(rule.task.partition("\\")[0] in task for task in tasks), rule.task
        assert rule.metrics
