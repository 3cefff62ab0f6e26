"""A figure keeps the scale, the model and the conditions that stand beside it, or is said to be unclear."""

from __future__ import annotations

import contextlib

import pytest

from evals.claims.facts import Fact
from evals.claims.judge import judge
from evals.claims.records import CheckKind, CheckOutcome, Unit, VerdictKind
from orchestrator.cards import Card, card_checks, card_claims, read_card
from orchestrator.compare import all_stages
from orchestrator.errors import CardError
from tests.orchestrator.cards.test_verdicts import V2, measured
from tests.support.time_bound import cpu_bound

HEAD = "---\nlicense: mit\nbase_model: lab/Base-7B\n---\n# Little-7B\n\n"
INDEX = "---\nmodel-index:\n- name: Little-7B\n  results:\n{results}---\n"
RESULT = "  - {{dataset: {{name: '{name}', type: x}}, metrics: [{{type: {metric}, value: {value}}}]}}\n"


def table(*rows: str) -> str:
    """A Markdown table of lines of cells that are separated by commas."""
    header, *body = [f"| {' | '.join(c.strip() for c in row.split(','))} |" for row in rows]
    return "\n".join([header, "|" + "---|" * (rows[0].count(",") + 1), *body]) + "\n"


def card(body: str) -> Card:
    return read_card(HEAD + body, "card.md")


def claimed(found: Card) -> dict[str | None, float]:
    return {c.benchmark: c.value for c in card_claims(found)}


def readings(found: Card) -> list[tuple[CheckOutcome, str]]:
    return [(c.outcome, c.sentence) for c in card_checks(found) if c.kind is CheckKind.READING]


SHARES = [("IFEval", "30.2"), ("BBH", "12.1"), ("MATH Lvl 5", "0.945"), ("GPQA", "4.5")]


def test_a_share_in_a_model_index_of_percentages() -> None:
    metrics = {
        "MATH Lvl 5": "exact_match",
        "BBH": "acc_norm",
        "GPQA": "acc_norm",
        "IFEval": "strict accuracy",
    }
    results = "".join(RESULT.format(name=n, metric=metrics[n], value=v) for n, v in SHARES)
    found = read_card(INDEX.format(results=results), "card.md")
    assert claimed(found) == {"ifeval": 30.2, "bbh": 12.1, "math": 0.945, "gpqa": 4.5}
    (sentence,) = [s for outcome, s in readings(found) if outcome is CheckOutcome.NOTE]
    assert "0.945 may be 0.945 % or 94.5 %" in sentence


@pytest.mark.parametrize(
    ("body", "value", "unclear"),
    [
        (table("Metric,Value", *(f"{n},{v}" for n, v in SHARES)), 0.945, True),
        (table("Metric,Value", *(f"{n},{v}%" for n, v in SHARES)), 0.945, False),
        (table("Metric,Value (%)", *(f"{n},{v}" for n, v in SHARES)), 0.945, False),
        (table("Metric,Value", "IFEval,30.21", "BBH,12.10", "MATH Lvl 5,0.94", "GPQA,4.50"), 0.94, False),
        ("".join(f"- {n}: {v}\n" for n, v in SHARES), 0.945, True),
        (table("Metric,Value", "IFEval,0.302", "BBH,0.121", "MATH Lvl 5,0.945", "GPQA,0.045"), 94.5, False),
        (table("Metric,Value", "IFEval,0.30", "BBH,0.12", "MATH Lvl 5,0.95", "GPQA,0.05"), 95, False),
        (table("Metric,Value", "MATH Lvl 5,0.94"), 94, True),
    ],
)
def test_a_number_has_the_scale_of_its_column(body: str, value: float, unclear: bool) -> None:
    (claim,) = [c for c in card_claims(card(body)) if c.benchmark == "math"]
    assert (claim.value, bool(claim.unclear)) == (value, unclear)


def test_an_unclear_claim_is_not_judged_unless_forced() -> None:
    body = table("Metric,Value", "MuSR,0.945", "IFEval,30.2", "BBH,12.1")
    (claim,) = [c for c in card_claims(card(body)) if c.benchmark == "musr"]
    own = measured()["musr"]
    stages = all_stages(own.measurement, V2.benchmark("musr"), own.samples)
    verdict = judge(claim, stages)
    assert verdict.kind is VerdictKind.NOT_COMPARABLE
    assert "the claim is unclear: 0.945 may be" in verdict.reason
    assert judge(claim, stages, force=True).forced


def test_a_published_base_lends_its_row_to_no_other_model() -> None:
    """calme-2.1 stands on the board in bfloat16 with a template; two of our scores equal its own."""
    body = "All scores were measured in float16 without chat template.\n\n" + table(
        "Model,IFEval,BBH,GPQA,MuSR,MMLU-PRO",
        "MaziyarPanahi/calme-2.1-qwen2-72b,81.63,57.33,17.45,20.15,49.05",
        "Little-7B,80.00,57.33,18.00,21.00,49.05",
    )
    claims = card_claims(card(body))
    assert {(c.facts.get(Fact.TEMPLATE), c.facts.get(Fact.DTYPE)) for c in claims} == {("off", "float16")}
    assert not any(c.of_board for c in claims)


def test_words_against_the_models_own_row_are_unclear() -> None:
    body = "All scores were measured with the chat template.\n\n" + table(
        "Metric,Value", "IFEval,79.96", "BBH,58.77", "GPQA,17.90", "MuSR,23.72", "MMLU-PRO,49.20"
    )
    claims = card_claims(card(body))
    assert {c.facts.get(Fact.TEMPLATE) for c in claims} == {"on"}
    assert all("the card says chat template on, and dnhkng/RYS-XLarge has" in c.unclear[0] for c in claims)


@pytest.mark.parametrize(
    "body",
    [
        table("Model,Evaluated with,BBH", "lab/Base-7B,lm-eval chat template on bfloat16,9", "Little-7B,,8"),
        table("Metric,lab/Base-7B (bf16; chat template),Little-7B", "BBH,9,8", "GPQA,5,4"),
        "The base model was evaluated in bfloat16 with a chat template.\n\n" + table("Metric,Value", "BBH,8"),
        "## lab/Base-7B\n\nEvaluated in bfloat16 with a chat template.\n\n## Little-7B\n\n"
        + table("Metric,Value", "BBH,8"),
    ],
)
def test_conditions_of_the_base_are_not_the_models(body: str) -> None:
    claims = card_claims(card(body))
    assert [(c.facts.get(Fact.TEMPLATE), c.facts.get(Fact.DTYPE)) for c in claims] == [(None, None)] * len(
        claims
    )
    assert claims


@pytest.mark.parametrize(
    "body",
    [
        table("Model,Template,Precision,BBH", "lab/Base-7B,on,bf16,9", "Little-7B,off,fp16,8"),
        table(
            "Metric,lab/Base-7B,Little-7B", "Chat template,yes,no", "Precision,bfloat16,float16", "BBH,9,8"
        ),
        table("Metric,lab/Base-7B,Little-7B (fp16; no chat template)", "BBH,9,8"),
        "## Evaluation\n\nAll in float16, without chat template.\n\n" + table("Metric,Value", "BBH,8"),
    ],
)
def test_conditions_beside_a_figure_are_its_own(body: str) -> None:
    (claim,) = card_claims(card(body))
    assert (claim.facts.get(Fact.TEMPLATE), claim.facts.get(Fact.DTYPE)) == ("off", "float16")


def test_one_negative_score_is_an_error_and_no_change() -> None:
    found = card(table("Metric,Value", "IFEval,30.2", "BBH,-12.1", "GPQA,4.5"))
    assert claimed(found) == {"ifeval": 30.2, "gpqa": 4.5}
    ((outcome, sentence),) = readings(found)
    assert outcome is CheckOutcome.FAILS
    assert "BBH -12.1 is signed among scores" in sentence


def test_changes_are_known_by_words_or_by_most_signs() -> None:
    by_words = card(table("Metric,lab/Base-7B,Little-7B,Gain", "BBH,30.1,31.1,1.0", "GPQA,4.1,5.2,1.1"))
    by_signs = card(
        table("Metric,lab/Base-7B,Little-7B,Other", "BBH,30.1,31.1,+1.0", "GPQA,4.1,3.9,-0.2", "MuSR,2,2,0.0")
    )
    by_label = card(table("Model,BBH,ΔBBH,GPQA", "lab/Base-7B,9,,3", "Little-7B,8,-1,2"))
    for found, n in ((by_words, 2), (by_signs, 3), (by_label, 1)):
        assert sum(f.unit is Unit.CHANGE for f in found.figures) == n
    assert claimed(by_label) == {"bbh": 8, "gpqa": 2}
    named_delta = card(table("Metric,Delta-7B,Little-7B", "BBH,9.1,8.2", "GPQA,3.1,2.2"))
    assert not any(f.unit is Unit.CHANGE for f in named_delta.figures)


ROWS = ("BBH,9,8", "GPQA,3,2")


@pytest.mark.parametrize(
    "text",
    [
        "# Little-7B\n\n" + table("Metric,Base-7B,Little-7B", *ROWS),
        "# 🚀 [me/Little-7B](https://huggingface.co/me/Little-7B)\n\n"
        + table("Metric,Base-7B,Little-7B", *ROWS),
        "# Model Card for Little-7B\n\n" + table("Metric,Base-7B,Little-7B", *ROWS),
        "# Little-7B: a merge\n\n" + table("Metric,Base-7B,Little-7B", *ROWS),
        "# Introduction\n\n" + table("Metric,Base-7B,Little-7B (ours)", *ROWS),
        "# Introduction\n\n" + table("Metric,Base-7B,This model", *ROWS),
        "# Introduction\n\n" + table("Metric,Base-7B,**Little-7B**", *ROWS),
        "---\nmodel_name: Little-7B\n---\n" + table("Metric,Base-7B,Little-7B", *ROWS),
        "details_me__Little-7B\n\n" + table("Metric,Base-7B,Little-7B", *ROWS),
    ],
)
def test_the_own_model_is_known(text: str) -> None:
    assert claimed(read_card(text, "card.md")) == {"bbh": 8, "gpqa": 2}


def test_the_own_model_is_known_by_its_repository() -> None:
    text = "# Introduction\n\n" + table("Metric,Base-7B,Little-7B", *ROWS)
    assert claimed(read_card(text, "README.md", repository="Little-7B")) == {"bbh": 8, "gpqa": 2}
    other = read_card(
        INDEX.format(results="") + table("Metric,a/Little-7B,b/Little-7B", *ROWS),
        "x",
        repository="b/Little-7B",
    )
    assert claimed(other) == {"bbh": 8, "gpqa": 2}


def test_contradictions_are_found_unless_the_conditions_differ() -> None:
    index = INDEX.format(results=RESULT.format(name="BBH (3-Shot)", metric="acc_norm", value="12.10"))
    for label, outcomes in (
        ("BBH", [CheckOutcome.FAILS]),
        ("BBH (3-shot)", [CheckOutcome.FAILS]),
        ("BBH (0-shot)", []),
    ):
        found = read_card(index + table("Metric,Value", f"{label},13.00"), "card.md")
        assert [c.outcome for c in card_checks(found) if c.kind is CheckKind.CONTRADICTION] == outcomes


def test_where_no_model_is_the_own_one_it_is_said() -> None:
    found = read_card(
        "# Merge of Base-7B and Other-7B\n\n" + table("Metric,Base-7B,Other-7B", *ROWS), "card.md"
    )
    assert card_claims(found) == ()
    ((_, sentence),) = readings(found)
    assert sentence.endswith("gives scores of Base-7B, Other-7B: none is known to be the card's own model.")


@pytest.mark.parametrize(
    "text",
    [
        "BBH 0.5\n" * 2500,
        "| Metric | Value |\n|--|--|\n" + "| Average | 3.0 |\n| BBH | 4.0 |\n" * 1200,
        "| Model | BBH |\n|--|--|\n" + "".join(f"| m | 0.{i} |\n" for i in range(2500)),
        "<table>" + "<tr><td rowspan=100 colspan=100>BBH</td></tr>" * 1000 + "</table>",
        "# evaluation a-1 with chat template bf16\nscore with and x bf16 Foo-1\n" * 2000,
    ],
    ids=["list", "averages", "one model", "spans", "headings"],
)
def test_large_tables_are_read_quickly(text: str) -> None:
    with cpu_bound(5), contextlib.suppress(CardError):
        found = read_card(text, "card.md")
        card_claims(found)
        card_checks(found)
