"""From a card's text to its verdicts: true claims, a false one, another template, a wrong count of parameters."""

from __future__ import annotations

from evals.claims.arithmetic import RecipeSize
from evals.claims.judge import judge
from evals.claims.records import CheckKind, CheckOutcome, VerdictKind
from evals.scores import ChatTemplate
from orchestrator.cards import card_checks, card_claims, read_card
from orchestrator.compare import Side, all_stages
from tests.orchestrator.compare.test_compare import SETTINGS, V2, answers, side

RECIPE = RecipeSize(name="the recipe", layers=30, parameters=134_515_008, parameters_per_layer=3_540_096)


def measured(template: ChatTemplate = ChatTemplate.ON) -> dict[str, Side]:
    turns = template is ChatTemplate.ON
    settings = SETTINGS.model_copy(update={"chat_template": template, "fewshot_as_multiturn": turns})
    return {n: side(n, answers(n, share=0.5), settings=settings) for n in ("musr", "gpqa", "math")}


def text(scores: dict[str, float], how: str, size: str = "135M") -> str:
    rows = "".join(f"| {V2.benchmark(n).title} | {v:.2f} |\n" for n, v in scores.items())
    return f"---\nlicense: mit\n---\n# Demo\n\nIt has {size} parameters. {how}\n\n| Metric | Value |\n|--|--:|\n{rows}"


def verdicts(card: str, ours: dict[str, Side]) -> dict[str | None, tuple[VerdictKind, str]]:
    found = {}
    for claim in card_claims(read_card(card, "demo.md")):
        own = ours.get(claim.benchmark or "")
        stages = all_stages(own.measurement, V2.benchmark(claim.benchmark or ""), own.samples) if own else ()
        verdict = judge(claim, stages)
        found[claim.benchmark] = (verdict.kind, verdict.reason)
    return found


def test_true_claims_and_a_false_one() -> None:
    ours = measured()
    scores = {n: s.measurement.result.normalized for n, s in ours.items()}
    card = text({**scores, "gpqa": scores["gpqa"] + 15}, "Evaluated with lm-eval, chat template: on, bf16.")
    found = verdicts(card, ours)
    assert found["musr"][0] is VerdictKind.REPRODUCED
    assert found["math"][0] is VerdictKind.REPRODUCED
    assert found["gpqa"][0] is VerdictKind.NOT_REPRODUCED
    assert "is above the 95 % interval" in found["gpqa"][1]


def test_a_card_made_with_another_template() -> None:
    scores = {n: s.measurement.result.normalized for n, s in measured().items()}
    found = verdicts(text(scores, "All scores were measured without a chat template."), measured())
    assert {kind for kind, _ in found.values()} == {VerdictKind.NOT_COMPARABLE}
    assert "chat template: off (claim), on (ours)" in found["musr"][1]
    same = verdicts(
        text(scores, "All scores were measured without a chat template."), measured(ChatTemplate.OFF)
    )
    assert {kind for kind, _ in same.values()} == {VerdictKind.REPRODUCED}


def test_a_card_with_a_wrong_count_of_parameters() -> None:
    for size, outcome in (("135M", CheckOutcome.HOLDS), ("360M", CheckOutcome.FAILS)):
        card = read_card(text({"musr": 10.0}, "", size), "demo.md")
        (check,) = [c for c in card_checks(card, RECIPE) if c.kind is CheckKind.PARAMETERS]
        assert check.outcome is outcome
        assert "30 layers and 134.5 M parameters" in check.sentence


def test_what_was_not_measured_is_said() -> None:
    found = verdicts(text({"bbh": 20.0}, ""), measured())
    assert found["bbh"] == (VerdictKind.NOT_COMPARABLE, "BBH was not measured")
