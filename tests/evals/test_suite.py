"""Suites: what the boards are made of, and files that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from evals.errors import SuiteError
from evals.scores import ChatTemplate, Seeds
from evals.suite import Aggregation, Benchmark, Suite, load_suite, read_suite, suite_names

# Written down here a second time, from the leaderboard's documentation of its lower bounds.
BBH_CHOICES = {
    "boolean_expressions": 2, "causal_judgement": 2, "date_understanding": 6, "disambiguation_qa": 3,
    "formal_fallacies": 2, "geometric_shapes": 11, "hyperbaton": 2, "logical_deduction_three_objects": 3,
    "logical_deduction_five_objects": 5, "logical_deduction_seven_objects": 7, "movie_recommendation": 6, "navigate": 2,
    "object_counting": 19, "penguins_in_a_table": 5, "reasoning_about_colored_objects": 18, "ruin_names": 6,
    "salient_translation_error_detection": 6, "snarks": 2, "sports_understanding": 2, "temporal_sequences": 4,
    "tracking_shuffled_objects_three_objects": 3, "tracking_shuffled_objects_five_objects": 5,
    "tracking_shuffled_objects_seven_objects": 7, "web_of_lies": 2,
}  # fmt: skip


def v2(name: str) -> Benchmark:
    return load_suite("leaderboard-v2").benchmark(name)


def test_the_suites_that_come_along() -> None:
    assert suite_names() == ("leaderboard-v1", "leaderboard-v2", "smoke")
    assert [b.title for b in load_suite("leaderboard-v2").benchmarks] == [
        "IFEval", "BBH", "MATH Lvl 5", "GPQA", "MuSR", "MMLU-PRO"
    ]  # fmt: skip
    assert [b.title for b in load_suite("leaderboard-v1").benchmarks] == [
        "ARC", "HellaSwag", "MMLU", "TruthfulQA", "Winogrande", "GSM8K"
    ]  # fmt: skip


def test_bbh_has_the_boards_subsets_and_lower_bounds() -> None:
    found = {s.task.removeprefix("leaderboard_bbh_"): s for s in v2("bbh").subsets}
    assert {name: subset.choices for name, subset in found.items()} == BBH_CHOICES
    assert found["object_counting"].lower_bound == 1 / 19


@pytest.mark.parametrize(
    ("name", "shots", "documents", "aggregation"),
    [
        ("ifeval", 0, 541, Aggregation.METRIC_MEAN),
        ("bbh", 3, 5761, Aggregation.SUBSET_MEAN_NORMALIZED),
        ("math", 4, 1324, Aggregation.POOLED),
        ("gpqa", 0, 1192, Aggregation.POOLED_NORMALIZED),
        ("musr", 0, 756, Aggregation.SUBSET_MEAN_NORMALIZED),
        ("mmlu-pro", 5, 12032, Aggregation.POOLED_NORMALIZED),
    ],
)
def test_shots_sizes_and_aggregation_of_v2(
    name: str, shots: int, documents: int, aggregation: Aggregation
) -> None:
    benchmark = v2(name)
    assert benchmark.shots == shots
    assert sum(s.n_documents or 0 for s in benchmark.subsets) == documents
    assert benchmark.aggregation is aggregation


@pytest.mark.parametrize(
    ("name", "shots", "documents"),
    [("arc", 25, 1172), ("hellaswag", 10, 10042), ("mmlu", 5, 14042), ("truthfulqa", 0, 817), ("winogrande", 5, 1267), ("gsm8k", 5, 1319)],
)  # fmt: skip
def test_shots_and_sizes_of_v1(name: str, shots: int, documents: int) -> None:
    benchmark = load_suite("leaderboard-v1").benchmark(name)
    assert benchmark.shots == shots
    assert sum(s.n_documents or 0 for s in benchmark.subsets) == documents
    assert not benchmark.aggregation.normalizes


def test_every_column_has_a_card_entry_and_that_of_smoke_is_no_boards() -> None:
    for name in suite_names():
        suite = load_suite(name)
        assert suite.smoke == (name == "smoke")
        for benchmark in suite.benchmarks:
            assert benchmark.card is not None
            assert benchmark.card.num_few_shot == benchmark.shots
            assert (benchmark.card.dataset_type == f"mergeboard/{name}") == suite.smoke
            assert ("no leaderboard's" in benchmark.card.dataset_name) == suite.smoke
        assert ("{checkpoint}" in (suite.card_source_url or "")) != suite.smoke


def test_the_three_stages_of_math_are_told_apart() -> None:
    math = v2("math")
    assert [s.name for s in math.stages] == ["A", "B", "C"]
    assert math.stage("A").metric is None
    assert math.stage("B").metric == "exact_match_original"
    assert (math.stage("C").metric,) == math.metrics
    with pytest.raises(SuiteError, match="no stage 'D'; it has 'A', 'B', 'C'"):
        math.stage("D")


def test_the_digest_covers_what_affects_a_score_and_nothing_else() -> None:
    bbh = v2("bbh")
    assert bbh.model_copy(update={"title": "Big-Bench Hard", "card": None}).digest == bbh.digest
    changed = [
        bbh.model_copy(update={"shots": 2}),
        bbh.model_copy(update={"subsets": bbh.subsets[:-1]}),
        bbh.model_copy(update={"overrides": {"target_delimiter": ""}}),
        bbh.model_copy(update={"functions": {"process_docs": "evals.tasks.gpqa.process_docs"}}),
        bbh.model_copy(update={"prepare": "evals.tasks.openllm_v1.prepare"}),
    ]
    digests = {Benchmark.model_validate(b.model_dump()).digest for b in changed}
    assert len(digests) == len(changed)
    assert bbh.digest not in digests


def test_own_data_is_part_of_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    import evals.benchmark

    benchmark = load_suite("smoke").benchmark("musr")
    copy = tmp_path / "tasks"
    shutil.copytree(evals.benchmark.OWN_TASKS_DIR / "smoke", copy / "smoke")
    monkeypatch.setattr(evals.benchmark, "OWN_TASKS_DIR", copy)
    same = Benchmark.model_validate(benchmark.model_dump())
    assert same.digest == benchmark.digest
    with (copy / "smoke/data/musr/where.jsonl").open("a") as file:
        file.write("\n")
    assert Benchmark.model_validate(benchmark.model_dump()).digest != benchmark.digest


def test_the_boards_own_settings() -> None:
    suite = load_suite("leaderboard-v2")
    on = suite.eval_settings(ChatTemplate.ON, limit=3)
    assert (on.add_bos_token, on.fewshot_as_multiturn, on.limit) == (False, True, 3)
    assert not suite.eval_settings(ChatTemplate.OFF).fewshot_as_multiturn
    assert suite.eval_settings(ChatTemplate.OFF, model_type="gemma2").add_bos_token is True
    assert suite.settings.max_length == 4096
    v1 = load_suite("leaderboard-v1")
    assert v1.settings.chat_template is ChatTemplate.OFF
    assert v1.differences(v1.eval_settings(ChatTemplate.OFF), 32768) == ()


def test_what_is_not_the_boards_procedure_is_said() -> None:
    suite = load_suite("leaderboard-v2")
    board = suite.eval_settings(ChatTemplate.ON)
    assert suite.differences(board, 4096) == ()
    assert suite.differences(suite.eval_settings(ChatTemplate.OFF), 2048) == ()
    assert suite.differences(suite.eval_settings(ChatTemplate.ON, model_type="gemma"), 4096) == ()
    changes = {
        "fewshot_as_multiturn on": board.model_copy(update={"fewshot_as_multiturn": False}),
        "add_bos_token off": board.model_copy(update={"add_bos_token": None}),
        "default seeds": board.model_copy(update={"seeds": Seeds(fewshot=1)}),
    }
    for words, settings in changes.items():
        (said,) = suite.differences(settings, 4096)
        assert words in said
    (said,) = suite.differences(board, 8192)
    assert "at most 4096 tokens" in said
    v1 = load_suite("leaderboard-v1")
    assert any("chat template off" in s for s in v1.differences(v1.eval_settings(ChatTemplate.ON), 2048))
    smoke = load_suite("smoke")
    assert "Smoke" in smoke.differences(smoke.eval_settings(ChatTemplate.ON), 2048)[0]


@pytest.mark.parametrize("name", ["leaderboard-v3", "../suites/smoke", "smoke.json", "/nowhere/x.yaml", ""])
def test_an_unknown_suite_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(SuiteError, match="'leaderboard-v1', 'leaderboard-v2', 'smoke'"):
        load_suite(name)


def test_a_suite_file(tmp_path: Path) -> None:
    suite = load_suite("smoke").model_dump(mode="json")
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({**suite, "name": "own", "benchmarks": suite["benchmarks"][:2]}))
    assert [b.name for b in read_suite(own).benchmarks] == ["ifeval", "bbh"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"benchmarks": []}, "benchmarks: "),
        ({"tilte": "x"}, "tilte: Extra inputs"),
        ({"settings": {"max_length": 0}}, "settings.max_length: "),
    ],
)
def test_a_suite_file_that_does_not_fit_names_the_field(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({**load_suite("smoke").model_dump(mode="json"), **change}))
    with pytest.raises(SuiteError, match=words):
        read_suite(own)


@pytest.mark.parametrize("text", ["a: [", "\x00", "- 1", "", "!!python/object/apply:os.system [ls]"])
def test_a_file_that_is_no_suite(tmp_path: Path, text: str) -> None:
    own = tmp_path / "own.yml"
    own.write_text(text)
    with pytest.raises(SuiteError, match=r"own\.yml"):
        read_suite(own)


def test_a_name_may_be_there_once() -> None:
    data = load_suite("smoke").model_dump()
    with pytest.raises(ValueError, match="benchmark 'ifeval' is listed twice"):
        Suite.model_validate({**data, "benchmarks": [*data["benchmarks"], data["benchmarks"][0]]})


def test_unknown_parts_are_refused() -> None:
    suite = load_suite("leaderboard-v2")
    with pytest.raises(SuiteError, match="no benchmark 'mmlu'; it has 'ifeval'"):
        suite.benchmark("mmlu")
    with pytest.raises(SuiteError, match="no subset 'x'; it has 'leaderboard_musr_murder_mysteries'"):
        suite.benchmark("musr").subset("x")
    assert suite.benchmark("musr").subset("leaderboard_musr_team_allocation").choices == 3
