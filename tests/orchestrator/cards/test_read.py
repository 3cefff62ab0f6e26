"""Cards read: every figure, what is claimed, what does not fit; odd and hostile ones end in one sentence."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from evals.claims.arithmetic import RecipeSize
from evals.claims.facts import Fact
from evals.claims.records import CheckKind, CheckOutcome, Unit, Where
from orchestrator.cards import Card, card_checks, card_claims, load_card, read_card
from orchestrator.cards.figures import number_in
from orchestrator.errors import CardError
from tests.support.time_bound import cpu_bound

SEEDS = (
    Path(
        os.environ.get("MERGEBOARD_SEEDS")
        or Path(os.environ.get("MERGEBOARD_DATASETS", "/nowhere")).parents[1] / "seeds"
    )
    if os.environ.get("MERGEBOARD_SEEDS") or os.environ.get("MERGEBOARD_DATASETS")
    else Path("/nowhere")
)

INDEX = """model-index:
- name: Little-1B
  results:
  - task:
      type: text-generation
      name: Text Generation
    dataset:
      name: BBH (3-Shot)
      type: BBH
      args:
        num_few_shot: 3
    metrics:
    - type: acc_norm
      value: 24.5
      name: normalized accuracy
    source:
      url: https://huggingface.co/spaces/open-llm-leaderboard/open_llm_leaderboard?query=me/Little-1B
      name: Open LLM Leaderboard
  - task:
      type: text-generation
      name: Text Generation
    dataset:
      name: MuSR (0-shot)
      type: TAUR-Lab/MuSR
      args:
        num_few_shot: 0
    metrics:
    - type: acc_norm
      value: 11.51
      name: acc_norm
"""


def card(body: str = "", index: str = INDEX, head: str = "license: mit\n") -> Card:
    return read_card(f"---\n{head}{index}---\n{body}", "card.md")


def values(found: Card, where: Where = Where.TABLE) -> dict[tuple[str | None, str], float]:
    return {(f.subject, f.label): f.value for f in found.figures if f.where is where}


def test_the_model_index_is_read() -> None:
    found = card()
    assert (found.name, found.checkpoint, found.has_front_matter) == ("Little-1B", "me/Little-1B", True)
    first, second = found.figures
    assert (first.label, first.value, first.digits, first.shots) == ("BBH (3-Shot)", 24.5, 2, 3)
    assert (first.suite, first.benchmark) == ("leaderboard-v2", "bbh")
    assert first.line == 6
    assert (second.written, second.rounding_points) == ("11.51", 0.005)
    assert card_claims(found)[0].of_board


def test_a_metric_that_is_not_the_boards_is_no_claim_about_the_board() -> None:
    found = card(index=INDEX.replace("type: acc_norm\n      value: 24.5", "type: f1\n      value: 24.5"))
    claims = [(c.suite, c.benchmark, c.metric) for c in card_claims(found)]
    assert claims == [("leaderboard-v2", "musr", "acc_norm"), (None, "BBH", "f1")]


def test_rows_may_be_benchmarks() -> None:
    found = card(
        "| Metric | Value |\n|---|---:|\n|Avg.|18.00|\n|**BBH** (3-Shot)|24.50|\n|[MuSR](http://x)|11.51|\n"
    )
    assert values(found) == {(None, "Avg."): 18.0, (None, "BBH (3-Shot)"): 24.5, (None, "MuSR"): 11.51}


def test_columns_may_be_benchmarks_and_rows_several_models() -> None:
    body = (
        "| # | Model | Average | IFEval | BBH | Elo | Params |\n|---|---|---:|---:|---:|---|---|\n"
        "| 1 | **me/Little-1B** | 30.00 | 40.00 | 20.00 | 12 | 1B |\n"
        "| 2 | other/Base-1B | 28.00 | 38,00 | 18.00 | – | 1B |\n"
    )
    found = values(card(body))
    assert found[None, "IFEval"] == 40.0
    assert found["other/Base-1B", "IFEval"] == 38.0
    assert found[None, "Elo"] == 12.0
    assert ("other/Base-1B", "Elo") not in found
    assert not any(label in ("#", "Params") for _, label in found)


def test_columns_may_be_models() -> None:
    body = "Benchmark | Little-1B | other/Base-1B | Δ\n--|--|--|--\nIFEval | 40.0 | 38.0 | +5.3%\nBBH | 20.0 | 25.0 | −20.0%\n"
    found = card(body)
    assert values(found)["other/Base-1B", "BBH"] == 25.0
    changes = [f for f in found.figures if f.unit is Unit.CHANGE]
    assert [(f.subject, f.value) for f in changes] == [(None, 5.3), (None, -20.0)]
    (check,) = [c for c in card_checks(found) if c.kind is CheckKind.RELATIVE_CHANGE]
    assert check.outcome is CheckOutcome.NOTE
    assert "follow from other/Base-1B as relative changes" in check.sentence


def test_the_harness_own_table_is_read() -> None:
    """Raw shares, one metric a row, a task's further rows without its name."""
    body = (
        "```\n|     Tasks      |Version|Filter|n-shot|        Metric         |   |Value |   |Stderr|\n"
        "|----------------|------:|------|-----:|-----------------------|---|-----:|---|------|\n"
        "|leaderboard_musr|      3|none  |     0|acc_norm               |↑  |0.4123|±  |0.0123|\n"
        "|leaderboard_ifeval|    3|none  |     0|inst_level_strict_acc  |↑  |0.3012|±  |   N/A|\n"
        "|                |       |none  |     0|prompt_level_strict_acc|↑  |0.2012|±  |0.0170|\n```\n"
    )
    figures = card(body, index="").figures
    assert [(f.label, f.value, f.benchmark) for f in figures] == [
        ("leaderboard_musr", 0.4123, "musr"),
        ("leaderboard_ifeval", 0.3012, None),
        ("leaderboard_ifeval", 0.2012, None),
    ]
    assert figures[0].unit is Unit.FRACTION
    assert figures[0].points == pytest.approx(41.23)


def test_html_tables_are_read() -> None:
    body = "\n<table>\n<tr><th>Metric</th><th>Value</th></tr>\n<tr><td><b>BBH</b></td><td>24.5</td></tr></table>\n"
    found = card(body, index="")
    assert values(found) == {(None, "BBH"): 24.5}
    assert found.figures[0].line == 7


def test_a_page_that_was_copied_is_read_but_not_updated() -> None:
    page = (
        "Somebody's picture\nUpdate README.md\nmetadata\nlicense: mit\n"
        + INDEX
        + "\nLittle\n\nMetric Value\nAvg. 18.00\nBBH 24.50\nMuSR 11.51\n"
    )
    found = read_card(page, "page.txt")
    assert not found.has_front_matter
    assert found.model_index is not None
    assert found.name == "Little-1B"
    assert values(found) == {(None, "Avg."): 18.0, (None, "BBH"): 24.5, (None, "MuSR"): 11.51}


def test_a_model_index_in_a_code_block_is_an_example() -> None:
    assert read_card(f"# How to\n```yaml\n{INDEX}```\n", "x").model_index is None


@pytest.mark.parametrize(
    ("body", "fact", "value"),
    [
        (
            "lm_eval --model hf --model_args pretrained=me/x,dtype=float16 --tasks leaderboard",
            Fact.DTYPE,
            "float16",
        ),
        ("lm_eval --model hf \\\n  --tasks leaderboard \\\n  --apply_chat_template", Fact.TEMPLATE, "on"),
        ("lm_eval --model hf --tasks leaderboard --limit 50", Fact.LIMIT, "the first 50 of each subset"),
        ("lm_eval --model hf --tasks leaderboard", Fact.TEMPLATE, "off"),
        ("All scores were measured without a chat template.", Fact.TEMPLATE, "off"),
        ("Evaluated with lm-eval, chat template: on, bf16.", Fact.TEMPLATE, "on"),
        ("Evaluated with lm-eval, chat template: on, bf16.", Fact.DTYPE, "bfloat16"),
        ("The benchmark was run on the 4-bit weights.", Fact.QUANTIZATION, "4bit"),
        ("Scores of the Q4_1 file.", Fact.QUANTIZATION, "Q4_1"),
        ("This repo contains bf16 files.", Fact.DTYPE, None),
        ("Here is how to use the model with the chat template.", Fact.TEMPLATE, None),
        ("Evaluated with a chat template. Also evaluated without a chat template.", Fact.TEMPLATE, None),
        ("apply_chat_template(messages) gives good scores.", Fact.TEMPLATE, None),
    ],
)
def test_what_a_card_says_of_its_measurements(body: str, fact: Fact, value: str | None) -> None:
    assert card(body).stated.get(fact) == value


def test_arguments_of_one_figure_are_its_own() -> None:
    index = INDEX.replace(
        "num_few_shot: 3", "num_few_shot: 3\n        apply_chat_template: false\n        dtype: torch.float16"
    )
    bbh, musr = card_claims(card(index=index))
    assert (bbh.facts.get(Fact.TEMPLATE), bbh.facts.get(Fact.DTYPE)) == ("off", "float16")
    assert musr.facts.get(Fact.TEMPLATE) is None


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("It has 8.99B parameters.", [8.99]),
        ("| Parameters | 135M |", [0.135]),
        ("Parameters: 1.5 billion", [1.5]),
        ("The copy adds 6B parameters to it.", []),
        ("Better than 70B parameter models.", []),
        ("It was trained on 300B tokens.", []),
    ],
)
def test_counts_of_parameters(text: str, sizes: list[float]) -> None:
    found = [s.parameters_b for s in card(text).sizes if "name" not in s.source]
    assert found == pytest.approx(sizes)


def test_a_wrong_count_of_parameters_is_found() -> None:
    recipe = RecipeSize(name="the recipe", layers=30, parameters=134_515_008, parameters_per_layer=3_540_096)
    index = INDEX.replace("Little-1B", "Little-135M")
    for text, outcome in (
        ("It has 135M parameters.", CheckOutcome.HOLDS),
        ("It has 360M parameters.", CheckOutcome.FAILS),
    ):
        checks = [c for c in card_checks(card(text, index=index), recipe) if "line" in c.sentence]
        assert [c.outcome for c in checks] == [outcome]


def test_bases_are_named_by_metadata_and_words() -> None:
    found = card("It is based on org/Base-7B, see other/Thing-1B.", head="base_model:\n- first/One\n")
    assert found.bases == ("first/One", "org/Base-7B", "other/Thing-1B")
    assert card("Nothing.", head="base_model: a/b\n").bases == ("a/b",)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("24.5", 24.5),
        ("**24.50**%", None),
        ("+2.5 %", 2.5),
        ("−2.05%", -2.05),
        ("1,324", 1.324),
        ("1,234,567", 1234567.0),
        ("61.2 ± 0.4", 61.2),
        ("61.2 (+1.0)", 61.2),
        ("61.2 ↑", 61.2),
        ("N/A", None),
        ("7B", None),
        ("", None),
        ("9" * 100, None),
    ],
)
def test_numbers_in_cells(cell: str, value: float | None) -> None:
    number = number_in(cell)
    assert (number.value if number else None) == value


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"\x89PNG\r\n\x1a\n\xff", "not text"),
        (b"a\0b", "NUL"),
        (b"x" * 5_000_000, "is not read"),
        (b"---\na: [1\n---\n", "not valid YAML"),
        (b"---\n- a\n---\n", "not a list of"),
        (b"---\na: !!python/object/apply:os.system ['true']\n---\n", "would run code"),
        (f"---\n{BOMB}---\n".encode(), "more than"),
        (b"---\na: " + b"[" * 5000 + b"\n---\n", "---"),
        (b"---\na: &a [*a]\n---\n", "contains itself"),
    ],
)
def test_hostile_cards_end_in_one_sentence(text: bytes, words: str) -> None:
    with pytest.raises(CardError) as caught:
        read_card(text, "card.md")
    message = str(caught.value)
    assert words in message or words == "---"
    assert "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize(
    "text",
    [
        "|" * 200_000,
        "| a |\n" * 50_000,
        "|a|b|\n" + "|-" * 100_000 + "|\n" + "|1" * 100_000,
        "<table>" * 20_000,
        "<table><tr><td>" + "<b>" * 50_000,
        "[" * 100_000 + "](" * 100_000,
        "`" * 300_000,
        "BBH " + "1 " * 100_000,
        "a/b " * 100_000,
        "lm_eval --model " * 50_000,
        "BBH 1\nMuSR 2\nGPQA 3\n" * 20_000,
        "without " * 100_000 + "chat template",
        "9" * 400_000 + "B parameters",
        "---\nmodel-index: 7\n---\n",
        "---\nmodel-index: [{results: [{metrics: [{value: x}]}]}]\n---\n",
        "---\nmodel-index: [1, {results: 3}, {name: 4, results: [5, {dataset: 6, metrics: [7]}]}]\n---\n",
        "<script>alert(1)</script>\n| Metric | <img src=x onerror=1> |\n|--|--|\n| BBH | 3 |\n",
    ],
    ids=lambda t: t[:20],
)
def test_odd_cards_are_read_or_refused_quickly(text: str) -> None:
    with cpu_bound(5), contextlib.suppress(CardError):
        found = read_card(text, "card.md")
        card_claims(found)
        card_checks(found)


def test_a_card_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="cannot be read"):
        load_card(tmp_path / "none.md")
    with pytest.raises(CardError, match="cannot be read"):
        load_card(tmp_path)


# The published cards

needs_seeds = pytest.mark.skipif(not SEEDS.is_dir(), reason="the seeds are not here: set MERGEBOARD_SEEDS")
BOARD_V1 = (
    "AI2 Reasoning Challenge (25-Shot)",
    "HellaSwag (10-Shot)",
    "MMLU (5-Shot)",
    "TruthfulQA (0-shot)",
)
BOARD_V1 += ("Winogrande (5-shot)", "GSM8k (5-shot)")
BOARD_V2 = (
    "IFEval (0-Shot)",
    "BBH (3-Shot)",
    "MATH Lvl 5 (4-Shot)",
    "GPQA (0-shot)",
    "MuSR (0-shot)",
    "MMLU-PRO (5-shot)",
)


@pytest.mark.shared
@needs_seeds
@pytest.mark.parametrize(
    ("file", "labels", "scores", "average"),
    [
        ("nyxene-v2-11b.card.md", BOARD_V1, (67.41, 84.54, 65.26, 55.62, 79.56, 54.66), 67.84),
        ("yi-34b-dare-v5.card.md", BOARD_V1, (66.47, 85.54, 77.22, 57.46, 82.24, 62.93), 71.98),
        ("rys-xlarge.card.md", BOARD_V2, (79.96, 58.77, 38.97, 17.90, 23.72, 49.20), 44.75),
        ("openchat-40layers-interleaved.card.md", BOARD_V2, (59.76, 24.08, 6.80, 7.27, 11.51, 25.54), 22.49),
    ],
)
def test_every_figure_of_the_published_cards(
    file: str, labels: tuple[str, ...], scores: tuple[float, ...], average: float
) -> None:
    found = load_card(SEEDS / file)
    index = [f for f in found.figures if f.where is Where.MODEL_INDEX]
    assert [(f.label, f.value) for f in index] == list(zip(labels, scores, strict=True))
    table = [f for f in found.figures if f.where is Where.TABLE and f.unit is Unit.POINTS]
    assert [(f.label, f.value) for f in table] == [("Avg.", average), *zip(labels, scores, strict=True)]
    assert {f.digits for f in found.figures} == {2}
    (check,) = [c for c in card_checks(found) if c.kind is CheckKind.AVERAGE]
    assert check.outcome is CheckOutcome.HOLDS
    assert [c.value for c in card_claims(found)] == [*scores, average]


@pytest.mark.shared
@needs_seeds
@pytest.mark.parametrize("file", ["rys-xlarge.card.md", "rys-article.txt"])
def test_the_rys_percentages_and_what_is_behind_them(file: str) -> None:
    found = load_card(SEEDS / file)
    changes = [f for f in found.figures if f.unit is Unit.CHANGE]
    assert sorted(f.value for f in changes) == sorted([2.61, -2.05, 2.51, 8.16, 2.58, 17.72, 0.31])
    recipe = RecipeSize(
        name="(45, 52)", layers=87, parameters=78_842_990_592, parameters_per_layer=877_685_760
    )
    checks = {(c.kind, c.outcome): c.sentence for c in card_checks(found, recipe)}
    assert (
        "follow from MaziyarPanahi/calme-2.1-qwen2-72b as relative"
        in checks[CheckKind.RELATIVE_CHANGE, CheckOutcome.NOTE]
    )
    assert "without a chat template and its base" in checks[CheckKind.CONFOUND, CheckOutcome.FAILS]
    wrong = checks[CheckKind.PARAMETERS, CheckOutcome.FAILS]
    assert "78.843 B" in wrong
    assert "77.965 B, which is 86 layers" in wrong
    math = next(c for c in card_claims(found) if c.benchmark == "math")
    assert math.facts.get(Fact.STAGE) == "A"
    assert math.facts.get(Fact.TEMPLATE) == "off"
