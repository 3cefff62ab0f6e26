import itertools
import math
import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from evals.engine import GenerateRequest, GenerateResult, ScoreRequest, ScoreResult
from evals.probes import (
    PUBLISHED_KEYS,
    SCAN_KEYS,
    Form,
    LevelKind,
    ProbeError,
    Scoring,
    Split,
    get_probe,
    natural_template,
    probe_keys,
    probe_pair,
)
from evals.probes.arithmetic import _root, arithmetic_probe
from evals.probes.choice import ChoiceItem, ChoiceProbe, named_choice
from evals.probes.probe import AnyProbe, certain
from evals.probes.prompts import Tokenizer
from evals.probes.results import Difficulty
from evals.scores import ChatTemplate

NAMES = [f"{key}-{split}" for key in probe_keys() for split in Split]


@pytest.fixture(scope="module")
def tokenizer(demo_checkpoint: Path) -> Tokenizer:
    return AutoTokenizer.from_pretrained(demo_checkpoint)


def questions(probe: AnyProbe) -> set[str]:
    return {ask.question for item in probe.items for ask in probe.asks(item)}


@pytest.mark.parametrize("key", probe_keys())
def test_search_and_confirmation_share_no_question_and_neither_is_shown(key: str) -> None:
    search, confirmation = probe_pair(key)
    shown = {example.question for example in search.style.examples}
    assert len(confirmation.items) >= 1.7 * len(search.items) >= 1.7 * 16
    for one, other in itertools.combinations((questions(search), questions(confirmation), shown), 2):
        assert not one & other
    for probe in (search, confirmation):
        assert len({item.model_dump_json() for item in probe.items}) == len(probe.items)
    assert search.digest != confirmation.digest
    assert search.key == confirmation.key == key


@pytest.mark.parametrize("name", NAMES)
def test_levels_are_ordered_and_the_right_answer_gets_full_credit(name: str) -> None:
    probe = get_probe(name)
    levels = {(level.kind, level.scoring): level.value for level in probe.levels()}
    for scoring in probe.scorings:
        for kind in (LevelKind.RANDOM, LevelKind.CONSTANT, LevelKind.ECHO):
            assert 0 <= levels[kind, scoring] < levels[LevelKind.CEILING, scoring]
        assert probe.null(scoring) < probe.ceiling(scoring) <= 1 + 1e-9
    assert levels[LevelKind.RIGHT, Scoring.CORRECTED] == pytest.approx(1)


def test_the_weaknesses_of_the_published_scorings_show_in_the_levels() -> None:
    """Close to the figures that were recomputed from the public files (0.539, 0.617, 0.31; 0.743, 0.851, 0.9)."""
    math16, eq16 = (get_probe(f"{key}-search") for key in PUBLISHED_KEYS)
    levels = {
        (p.family, x.kind): x.value
        for p in (math16, eq16)
        for x in p.levels()
        if x.scoring is Scoring.PUBLISHED
    }
    assert levels[math16.family, LevelKind.RANDOM] == pytest.approx(0.54, abs=0.03)
    assert levels[math16.family, LevelKind.CONSTANT] == pytest.approx(0.62, abs=0.03)
    assert levels[math16.family, LevelKind.ECHO] == pytest.approx(0.31, abs=0.05)
    assert levels[eq16.family, LevelKind.CONSTANT] == pytest.approx(0.72, abs=0.03)
    assert 0.75 < levels[eq16.family, LevelKind.RIGHT] < levels[eq16.family, LevelKind.CEILING]
    assert levels[eq16.family, LevelKind.CEILING] == pytest.approx(0.9)
    # The corrected scorings pay far less for knowing nothing.
    assert math16.null(Scoring.CORRECTED) < 0.1


@pytest.mark.parametrize("name", [n for n in NAMES if "reasoning" in n])
def test_no_shortcut_answers_reasoning(name: str) -> None:
    assert get_probe(name).null(Scoring.CORRECTED) <= 0.5


def test_the_published_length_and_form() -> None:
    probe = get_probe("arithmetic-published-generated-search")
    assert len(probe.items) == 16
    assert probe.max_new_tokens == 64
    assert probe.style.question_label == "/no_think "
    assert probe.style.system
    lengths = sorted(len(str(item.answer)) for item in probe.items)
    assert lengths[0] >= 7
    assert lengths[-1] in (27, 28)


def test_roots_are_exact() -> None:
    rng = random.Random(0)
    for _ in range(200):
        root, power = rng.randrange(1, 10**8), rng.choice((2, 3))
        assert _root(root**power, power) == root
        assert _root(root**power - 1, power) == root - 1
    sums = [
        item
        for item in arithmetic_probe(Difficulty.EASY, Form.SCORED, Split.SEARCH).items
        if "+" in item.question
    ]
    for item in sums:
        a, b = item.question.removeprefix("What is ").removesuffix("?").split(" + ")
        assert int(a) + int(b) == item.answer


@pytest.mark.parametrize("template", list(ChatTemplate))
@pytest.mark.parametrize("name", [f"{key}-search" for key in probe_keys()])
def test_requests_are_whole_and_cheap_to_serve(
    name: str, template: ChatTemplate, tokenizer: Tokenizer
) -> None:
    probe = get_probe(name)
    requests = probe.requests(tokenizer, template)
    prompts = probe.prompts(tokenizer, template)
    assert len(requests) == len(prompts) == sum(len(probe.asks(item)) for item in probe.items)
    assert requests == probe.requests(tokenizer, template)
    decode = tokenizer.decode  # type: ignore[attr-defined]  # of the real tokenizer, not of the protocol
    asks = [ask for item in probe.items for ask in probe.asks(item)]
    for request, prompt, ask in list(zip(requests, prompts, asks, strict=True))[::5]:
        if isinstance(request, GenerateRequest):
            assert decode(request.prompt) == prompt
            continue
        texts = [decode([*request.context, *continuation]) for continuation in request.continuations]
        assert texts == [prompt + option for option in ask.options]
        # One token per answer with this tokenizer: engines have a fast way for these.
        assert {len(continuation) for continuation in request.continuations} == {1}


def answers(probe: AnyProbe, requests: list[ScoreRequest]) -> list[ScoreResult]:
    rng = random.Random(1)
    return [
        ScoreResult(
            logprobs=tuple(rng.uniform(-9, -1) for _ in request.continuations),
            is_greedy=(False,) * len(request.continuations),
        )
        for request in requests
    ]


@pytest.mark.parametrize("name", NAMES)
def test_scoring_gives_one_credit_per_item_and_samples(name: str, tokenizer: Tokenizer) -> None:
    probe = get_probe(name)
    requests = probe.requests(tokenizer, ChatTemplate.OFF)
    if probe.form is Form.SCORED:
        results = answers(probe, requests)
    else:
        results = [
            GenerateResult(text=f"I think {n}", n_tokens=3, finish_reason="length")
            for n in range(len(requests))
        ]
    found = probe.score(results)
    assert (found.probe, found.key, found.digest) == (name, probe.key, probe.digest)
    assert len(found.items) == len(probe.items)
    for scoring in probe.scorings:
        assert all(0 <= credit <= 1 for credit in found.credits(scoring))
        assert found.value(scoring) == pytest.approx(sum(found.credits(scoring)) / len(found.items))
        assert found.stderr(scoring) >= 0
    samples = probe.samples(results, probe.prompts(tokenizer, ChatTemplate.OFF))
    assert [s.doc_id for s in samples] == list(range(len(probe.items)))
    assert all(s.correct == s.metrics["corrected"] and s.benchmark == probe.name for s in samples)
    assert all(s.truncated == (probe.form is Form.GENERATED) for s in samples)
    assert sum(len(s.logprobs) for s in samples) == sum(len(getattr(r, "logprobs", ())) for r in results)


def test_results_that_do_not_fit_are_refused() -> None:
    probe = get_probe("emotion-easy-scored-search")
    with pytest.raises(ProbeError, match="needs 32 results of type ScoreResult and got 1"):
        probe.score([certain(8, 0)])
    with pytest.raises(ProbeError, match="32 results of type ScoreResult"):
        probe.score([GenerateResult(text="", n_tokens=0, finish_reason="stop")] * 32)
    with pytest.raises(ProbeError, match="no credit by the published scoring"):
        probe.score([certain(8, 0)] * 32).value(Scoring.PUBLISHED)


@pytest.mark.parametrize(
    "name", ["", "arithmetic", "arithmetic-easy-scored", "arithmetic-easy-scored-other", "x-y-z-search"]
)
def test_an_unknown_probe_is_refused_by_name(name: str) -> None:
    with pytest.raises(ProbeError, match="There is no probe"):
        get_probe(name)


def test_a_liked_word_neither_gains_nor_loses() -> None:
    """Where all items have the same choices, what a model says whatever the question is taken out."""
    items = tuple(ChoiceItem(question=f"q{n}", stem="s", choices=("a", "b"), answer=n % 2) for n in range(8))
    template = get_probe("emotion-easy-scored-search")
    probe = ChoiceProbe(**{**template.model_dump(exclude={"items"}), "items": items})
    # The model prefers b by far, and says a little more often a where a is right.
    plain = [(0.02, 0.9), (0.01, 0.9)] * 4
    results = [
        ScoreResult(logprobs=tuple(math.log(p) for p in pair), is_greedy=(False, True)) for pair in plain
    ]
    found = probe.score(results)
    assert [item.extracted for item in found.items] == ["a", "b"] * 4
    assert found.value(Scoring.CORRECTED) > 0.55
    assert [item.answer_mass for item in found.items] == pytest.approx([0.92, 0.91] * 4)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Ben", "Ben"),
        ("Well\nI think it is ben.", "Ben"),
        ("Ann or Ben? Ben", "Ben"),
        ("Benjamin", None),
        ("<think>Ann</think>\nBen", "Ben"),
        ("", None),
    ],
)
def test_the_choice_that_a_reply_names(text: str, choice: str | None) -> None:
    assert named_choice(text, ("Ann", "Ben")) == choice


def test_scan_keys_exist_and_scored_forms_want_plain_text() -> None:
    for key in (*SCAN_KEYS, *PUBLISHED_KEYS):
        search, _ = probe_pair(key)
        wanted = ChatTemplate.ON if search.form is Form.GENERATED else ChatTemplate.OFF
        assert natural_template(search, has_template=True) is wanted
        assert natural_template(search, has_template=False) is ChatTemplate.OFF


def test_the_digest_covers_questions_and_style() -> None:
    probe = get_probe("reasoning-easy-scored-search")
    fewer = probe.model_copy(update={"items": probe.items[:-1]})
    other = probe.model_copy(update={"style": probe.style.model_copy(update={"answer_label": "A:"})})
    assert len({probe.digest, fewer.digest, other.digest}) == 3
    assert get_probe("reasoning-easy-scored-search").digest == probe.digest
