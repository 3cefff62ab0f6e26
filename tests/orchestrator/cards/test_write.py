"""Cards written: the board's metadata to the letter, tables, refusals, and a README of which nothing else changes."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from evals.claims.facts import Fact, Facts
from evals.claims.records import Where
from evals.scores import Alarm, AlarmKind, BenchmarkScore, SuiteScore
from evals.suite import Suite, load_suite
from orchestrator.cards import (
    board_source,
    card_checks,
    card_claims,
    eval_results_yaml,
    improvement_table,
    load_card,
    markdown_table,
    model_index,
    model_index_yaml,
    read_card,
    update_readme,
    update_readme_file,
    writable,
)
from orchestrator.cards.front_matter import KEY
from orchestrator.cards.marked import marked_index
from orchestrator.errors import CardError
from tests.orchestrator.cards.test_read import SEEDS, needs_seeds

V2 = load_suite("leaderboard-v2")
RYS = (79.96, 58.77, 38.97, 17.90, 23.72, 49.20)
CALME = (81.63, 57.33, 36.03, 17.45, 20.15, 49.05)
FACTS = Facts(
    known={Fact.DTYPE: "bfloat16", Fact.TEMPLATE: "off", Fact.QUANTIZATION: "none", Fact.ENGINE: "vllm"}
)


def scores(values: tuple[float, ...], suite: Suite = V2, **changes: Any) -> SuiteScore:
    results = tuple(
        BenchmarkScore(
            benchmark=b.name,
            title=b.title,
            metric=b.metrics[0],
            raw=0.5,
            normalized=value,
            n=100,
            partial=False,
            comparable_to_board=True,
        ).model_copy(update=changes)
        for b, value in zip(suite.benchmarks, values, strict=False)
    )
    mean = sum(values) / len(values)
    missing = tuple(b.name for b in suite.benchmarks[len(values) :])
    return SuiteScore(
        suite=suite.name,
        benchmarks=results,
        missing=missing,
        average=None if missing else mean,
        partial_average=mean,
    )


def test_the_model_index_is_the_bots_to_the_letter() -> None:
    """Keys, their order, names, two decimals and the YAML itself, as on the RYS card."""
    index = model_index(V2, scores(RYS), "RYS-XLarge", board_source(V2, "dnhkng/RYS-XLarge"))
    first = """model-index:
- name: RYS-XLarge
  results:
  - task:
      type: text-generation
      name: Text Generation
    dataset:
      name: IFEval (0-Shot)
      type: HuggingFaceH4/ifeval
      args:
        num_few_shot: 0
    metrics:
    - type: inst_level_strict_acc and prompt_level_strict_acc
      value: 79.96
      name: strict accuracy
    source:
      url: https://huggingface.co/spaces/open-llm-leaderboard/open_llm_leaderboard?query=dnhkng/RYS-XLarge
      name: Open LLM Leaderboard
"""
    assert model_index_yaml(index).startswith(first)
    pro = index[0]["results"][-1]["dataset"]
    assert pro == {
        "name": "MMLU-PRO (5-shot)",
        "type": "TIGER-Lab/MMLU-Pro",
        "config": "main",
        "split": "test",
        "args": {"num_few_shot": 5},
    }
    assert "source" not in model_index(V2, scores(RYS), "x")[0]["results"][0], "we are not the board"


def test_what_is_written_is_read_again() -> None:
    index = model_index(V2, scores(RYS), "Little", board_source(V2, "me/Little"))
    text = f"---\nlicense: mit\n{model_index_yaml(index)}---\n{markdown_table(V2, scores(RYS), FACTS)}"
    found = read_card(text, "card.md")
    assert found.model_index == index
    assert [c.value for c in card_claims(found)] == [*RYS, 44.75]
    assert found.stated.known == {Fact.DTYPE: "bfloat16", Fact.TEMPLATE: "off", Fact.QUANTIZATION: "none"}
    assert ModelCard(text).data.eval_results is not None
    assert not [c for c in card_checks(found) if c.outcome == "fails"]


def test_scores_that_prove_nothing_are_refused() -> None:
    alarm = Alarm(kind=AlarmKind.TRUNCATED, share=0.4, threshold=0.1)
    smoke = load_suite("smoke")
    for suite, score, words in (
        (V2, scores(RYS, partial=True), "is partial"),
        (V2, scores(RYS, alarms=(alarm,)), "raised an alarm (40% of its responses are truncated)"),
        (smoke, scores(RYS, smoke), "only show that everything works"),
        (
            V2,
            SuiteScore(suite=V2.name, benchmarks=(), missing=(), average=None, partial_average=None),
            "no score",
        ),
    ):
        for write in (
            lambda s, x: model_index(s, x, "m"),
            lambda s, x: markdown_table(s, x, FACTS),
            lambda s, x: eval_results_yaml(s, x, FACTS, {}),
            lambda s, x: improvement_table(s, x, x, "m"),
            writable,
        ):
            with pytest.raises(CardError, match=re.escape(words)):
                write(suite, score)


def test_smoke_scores_are_marked_one_entry_for_each() -> None:
    smoke = load_suite("smoke")
    index = marked_index(smoke, scores(RYS, smoke), "m")
    found = [(entry["dataset"]["name"], entry["metrics"][0]["value"]) for entry in index[0]["results"]]
    assert [name for name, _ in found] == [b.card.dataset_name for b in smoke.benchmarks if b.card]
    assert [value for _, value in found] == list(RYS)
    claims = card_claims(read_card(f"---\n{model_index_yaml(index)}---\n", "card.md"))
    assert [(c.benchmark, c.value) for c in claims] == [
        (b.name, value) for b, value in zip(smoke.benchmarks, RYS, strict=True)
    ]


def test_fewer_benchmarks_have_no_average_of_the_boards() -> None:
    text = markdown_table(V2, scores(RYS[:4]), FACTS)
    assert "Avg." not in text
    assert "Mean of these 4, without MuSR, MMLU-PRO" in text
    assert len(model_index(V2, scores(RYS[:4]), "m")[0]["results"]) == 4


def test_the_markdown_table() -> None:
    lines = markdown_table(V2, scores(RYS, remark="The order of choices is ours."), FACTS).splitlines()
    assert lines[:3] == [
        "|Metric             |Value|",
        "|-------------------|----:|",
        "|Avg.               |44.75|",
    ]
    assert "|GPQA (0-shot)      |17.90|" in lines
    assert "- GPQA: The order of choices is ours." in lines
    assert any("precision bfloat16" in line and "chat template off" in line for line in lines)


def test_the_improvement_table_says_points_too() -> None:
    table = improvement_table(V2, scores(RYS), scores(CALME), "RYS")
    relative, points = (line.split("|")[2:-1] for line in table.splitlines()[2:])
    assert [c.strip() for c in relative] == [
        "+2.63%",
        "-2.05%",
        "+2.51%",
        "+8.16%",
        "+2.58%",
        "+17.72%",
        "+0.31%",
    ]
    assert [c.strip() for c in points] == ["+1.15", "-1.67", "+1.44", "+2.94", "+0.45", "+3.57", "+0.15"]
    nothing = improvement_table(V2, scores((1.0,)), scores((0.0,)), "x")
    assert "n/a" in nothing
    assert "Average" not in nothing
    other = scores(RYS).model_copy(update={"benchmarks": scores(RYS).benchmarks[5:]})
    with pytest.raises(CardError, match="in common"):
        improvement_table(V2, other, scores(CALME[:2]), "x")


def test_eval_results_of_the_boards_are_refused_with_the_reason() -> None:
    """No column of either board is in the metric and protocol of a benchmark of the hub."""
    with pytest.raises(CardError) as caught:
        eval_results_yaml(V2, scores(RYS), FACTS, {}, board_source(V2, "me/x"))
    reasons = str(caught.value)
    assert "BBH: SaylorTwift/bbh is not registered" in reasons
    assert "GPQA: a normalized score; Idavidrein/gpqa `gpqa_diamond` takes the accuracy" in reasons
    assert "MMLU-PRO: a normalized score; TIGER-Lab/MMLU-Pro `mmlu_pro` takes the accuracy" in reasons
    v1 = load_suite("leaderboard-v1")
    with pytest.raises(CardError, match="GSM8K: another protocol than that of openai/gsm8k"):
        eval_results_yaml(v1, scores(RYS, v1), FACTS, {})


INDEX = model_index(V2, scores(RYS), "Little-1B")
OLD = """model-index:
- name: Old
  results:
  - task:
      type: text-generation
    dataset: {name: BBH, type: BBH}
    metrics:
    - {type: acc, value: 1}"""


def spliced(text: str) -> str:
    """The updated card, after checking that it is the old one but for the block."""
    result = update_readme(text, INDEX, "README.md")
    assert read_card(result, "README.md").model_index == INDEX
    before, after = yaml.safe_load(front(text)) or {}, yaml.safe_load(front(result))
    assert {**before, KEY: INDEX} == after
    assert list(after) == [*before, *([] if KEY in before else [KEY])]
    assert update_readme(result, INDEX) == result, "twice is once"
    return result


def front(text: str) -> str:
    return text.lstrip("\ufeff").split("---", 2)[1]


@pytest.mark.parametrize(
    "text",
    [
        f"---\nlicense: mit\n{OLD}\ntags: [a]\n---\n# Body\n",
        f"---\n{OLD}\n---\n",
        f"---\n{OLD}\n---",
        "---\nlicense: mit\n---\nbody",
        "---\nlicense: mit\n\n\n---\nbody",
        "---\n\n---\nbody",
        "---\nlicense: mit\nmodel-index:\n---\nx",
        "---\nlicense: mit\nmodel-index: []  # none yet\ntags: [a]\n---\nx",
        "---\nlicense: mit\nmodel-index: [{name: a,\n  results: []}]\ntags: [a]\n---\nx",
        f"---\n# a comment\nlicense:   'mit'   # quoted\n\n{OLD}\n\n# about tags\ntags:\n    - a\n---   \n\n---\nno yaml\n---\n",
        f'\ufeff---\nname: "emoji \\U0001F600 🎉"\n{OLD}\nlanguage:\n- en\n---\n🎉 body \u2028 end',
        f"---\n'model-index':\n{OLD.partition(chr(10))[2]}\nz: 1\n---\n",
        "---\nlicense: mit\n---\n```yaml\n---\nmodel-index: no\n---\n```\n",
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_only_the_block_changes(text: str, newline: str) -> None:
    text = text.replace("\n", newline)
    result = spliced(text)
    changed = [line for line in text.splitlines() if line not in result.splitlines()]
    old = set(OLD.splitlines()) | {
        "model-index: []  # none yet",
        "model-index: [{name: a,",
        "  results: []}]",
    }
    assert set(changed) <= old | {"'model-index':", "model-index:", ""}
    assert result.endswith(text.partition(f"{newline}---")[2].rpartition("---")[2])
    if newline == "\r\n":
        assert result.count("\n") == result.count("\r\n")


def test_bytes_outside_the_block_stay(tmp_path: Path) -> None:
    """Prefix and suffix are the same bytes, in a file whose last line has no end."""
    head, tail = (
        "---\r\nlicense: mit # é\r\n",
        "\r\ntags:\r\n- 'x'\r\n---\r\n\r\n# T\u00eft\u00e4l 🎉\t \r\nlast",
    )
    path = tmp_path / "README.md"
    path.write_bytes(f"{head}{OLD.replace(chr(10), chr(13) + chr(10))}{tail}".encode())
    path.chmod(0o640)
    update_readme_file(path, INDEX)
    written = path.read_bytes()
    assert written.startswith(head.encode())
    assert written.endswith(tail.encode())
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]
    assert load_card(path).model_index == INDEX


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# No metadata\n", "no metadata block to update"),
        ("text\n---\nlicense: mit\n---\n", "no metadata block"),
        ("---\nlicense: mit\n", "no metadata block"),
        ("metadata\nlicense: mit\nmodel-index:\n- name: x\n", "no metadata block"),
        ("---\n{license: mit, model-index: []}\n---\n", "in braces"),
        (
            f"---\n{OLD.replace('- name', '- &a' + chr(10) + '  name')}\nother: *a\n---\n",
            "tied to other metadata",
        ),
        ("---\nlicense: mit\nlicense: mit\n---\n", "twice"),
        ("---\nmodel-index: [\n---\n", "not valid YAML"),
        ("---\na: 1\n... \nb: 2\n---\n", "metadata"),
        ("\0", "NUL"),
    ],
)
def test_cards_that_cannot_be_updated_say_why(text: str, words: str) -> None:
    with pytest.raises(CardError, match=words) as caught:
        update_readme(text, INDEX, "README.md")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_written_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# none\n")
    with pytest.raises(CardError, match="no metadata"):
        update_readme_file(path, INDEX)
    assert path.read_text() == "# none\n"
    with pytest.raises(CardError, match="cannot be read"):
        update_readme_file(tmp_path / "other.md", INDEX)


def test_a_thousand_random_cards_keep_their_bytes() -> None:
    """Random metadata around a random block: what is before and after it is never touched."""
    rng = random.Random(0)
    pieces = [
        "license: mit",
        "tags:\n- a\n- b",
        "x:   'q'  # c",
        "\n# note",
        "y: |\n  a\n   b",
        "z: >-\n  t\n  u",
        "e: '🎉'",
    ]
    for _ in range(1000):
        rng.shuffle(pieces)
        cut = rng.randrange(len(pieces) + 1)
        newline = rng.choice(["\n", "\r\n"])
        gap = rng.choice(["", newline, newline * 2])
        head = "---\n" + "".join(p + "\n" for p in pieces[:cut])
        tail = "".join("\n" + p for p in pieces[cut:]) + "\n---\n# Body\n\n---\n"
        text = (
            head + rng.choice([OLD, "model-index: 3", "model-index: {a: [b]}", "model-index:"]) + tail
        ).replace("\n", newline)
        try:
            result = update_readme(text + gap, INDEX)
        except CardError:
            continue
        start = len(head.replace("\n", newline))
        assert result[:start] == text[:start]
        end = tail.replace("\n", newline) + gap
        assert result.endswith(end)


@pytest.mark.shared
@needs_seeds
@pytest.mark.parametrize(
    "file", sorted(p.name for p in SEEDS.glob("*.card.md")) if SEEDS.is_dir() else ["none"]
)
def test_the_published_cards_written_back_are_the_same_data(file: str) -> None:
    """Through the hub's own records, and from the scores alone with the suite's card entries."""
    found = load_card(SEEDS / file)
    assert found.model_index is not None
    name, results = model_index_to_eval_results(found.model_index)
    assert eval_results_to_model_index(name, results) == found.model_index
    claims = {c.benchmark: c.value for c in card_claims(found) if c.benchmark is not None}
    suite = load_suite(card_claims(found)[0].suite)
    score = scores(tuple(claims[b.name] for b in suite.benchmarks), suite)
    rewritten = model_index(suite, score, name, board_source(suite, found.checkpoint or ""))
    assert rewritten == found.model_index
    assert [list(r) for r in rewritten[0]["results"]] == [list(r) for r in found.model_index[0]["results"]]
    text = (SEEDS / file).read_bytes().decode()
    if found.has_front_matter:
        assert update_readme(text, rewritten) == text, "nothing to change, nothing changed"
    else:
        with pytest.raises(CardError, match="no metadata block"):
            update_readme(text, rewritten)
    index = [f for f in found.figures if f.where is Where.MODEL_INDEX]
    assert len(index) == 6


def test_the_seeds_are_where_the_environment_says() -> None:
    if "MERGEBOARD_SEEDS" in os.environ or "MERGEBOARD_DATASETS" in os.environ:
        assert SEEDS.is_absolute()
