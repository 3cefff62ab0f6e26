"""A board of verdicts on a folder of cards and result files: nothing is run, written or downloaded."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evals.claims.records import CheckKind, VerdictKind
from orchestrator.cli import app
from orchestrator.errors import CardError
from orchestrator.reproduce.audit import AuditBoard, audit
from orchestrator.reproduce.verdicts import verdicts_of
from orchestrator.settings import Settings

IMPOSSIBLE = "# Wrong-7B\n\n| Benchmark | Wrong-7B |\n|---|---|\n| GPQA-Diamond | 90.0 |\n| GSM8K | 71.2 |\n"
BOARD = (
    "# Sound-7B\n\n| Metric | Value |\n|---|---|\n| ARC (25-shot) | 61.01 |\n| HellaSwag (10-shot) | 80.02 |\n"
    "| GSM8K (5-shot) | 40.03 |\n"
)
RECIPE = """# Lost-7B

```yaml
slices:
  - sources:
      - model: a/One-7B
        layer_range: [0, 15]
  - sources:
      - model: b/Two-7B
        layer_range: [16, 31]
merge_method: passthrough
dtype: bfloat16
```
"""
RESULTS = {
    "results": {
        "arc_challenge": {
            "acc_norm,none": 0.6101,
            "acc_norm_stderr,none": 0.0142,
            "acc,none": 0.58,
            "acc_stderr,none": 0.014,
        }
    },
    "n-shot": {"arc_challenge": 25},
    "n-samples": {"arc_challenge": {"original": 1172, "effective": 1172}},
    "config": {"model": "hf", "model_args": "pretrained=lab/Sound-7B,dtype=float16", "limit": None},
    "model_name": "lab/Sound-7B",
}


@pytest.fixture
def cards(tmp_path: Path) -> Path:
    folder = tmp_path / "cards"
    (folder / "nested" / "Deep-7B").mkdir(parents=True)
    (folder / "wrong.md").write_text(IMPOSSIBLE, encoding="utf-8")
    (folder / "sound.md").write_text(BOARD, encoding="utf-8")
    (folder / "lost.md").write_text(RECIPE, encoding="utf-8")
    (folder / "empty.md").write_text("", encoding="utf-8")
    (folder / "hostile.md").write_text(
        "# X-7B <script>alert(1)</script>\n\n| Benchmark | X-7B |\n|---|---|\n| MMLU-Pro &lt;img src=x onerror=alert(2)&gt; | 50.1 |\n"
        "| GPQA-Diamond | 51.5 |\n",
        encoding="utf-8",
    )
    (folder / "nested" / "Deep-7B" / "README.md").write_text(
        "The model Deep-7B scores 61.6% on HumanEval.\n", encoding="utf-8"
    )
    (folder / "results_2024.json").write_text(json.dumps(RESULTS), encoding="utf-8")
    return folder


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("MERGEBOARD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MERGEBOARD_DATABASE_URL", raising=False)
    return Settings.from_environment()


def test_every_card_has_its_verdicts(cards: Path, settings: Settings, tmp_path: Path) -> None:
    board = audit(cards, settings)
    by_file = {card.file: card for card in board.cards}
    assert set(by_file) == {
        "wrong.md",
        "sound.md",
        "lost.md",
        "empty.md",
        "hostile.md",
        "nested/Deep-7B/README.md",
    }
    wrong = by_file["wrong.md"]
    kinds = {c.claim.known_as: c.verdict.kind if c.verdict else None for c in wrong.claims}
    assert kinds == {"GPQA-Diamond": VerdictKind.IMPOSSIBLE, "GSM8K": None}
    assert wrong.failed == 1
    assert "is empty" in (by_file["empty.md"].problem or "")
    (recipe,) = [c for c in by_file["lost.md"].checks if c.kind is CheckKind.RECIPE and c.outcome == "fails"]
    assert "Layer 15 is in no slice" in recipe.sentence
    assert by_file["nested/Deep-7B/README.md"].claims[0].claim.value == 61.6
    assert board.count(VerdictKind.IMPOSSIBLE) == 1
    assert not (tmp_path / "home").exists()


def test_a_result_file_of_the_same_checkpoint_judges_a_claim(cards: Path, settings: Settings) -> None:
    board = audit(cards, settings)
    sound = next(card for card in board.cards if card.file == "sound.md")
    verdicts = {c.claim.benchmark: (c.verdict.kind if c.verdict else None, c.judged_by) for c in sound.claims}
    assert verdicts["arc"] == (VerdictKind.REPRODUCED, "result file")
    assert verdicts["hellaswag"] == (None, "")
    assert sound.cost is not None
    assert sound.cost.jobs == 2
    assert sound.cost.gpu_hours is not None
    assert 0 < sound.cost.gpu_hours < 10
    (results,) = board.results
    assert results.cards == ("sound.md",)


def test_a_claim_in_no_suite_costs_no_job(cards: Path, settings: Settings) -> None:
    hostile = next(card for card in audit(cards, settings).cards if card.file == "hostile.md")
    assert hostile.cost is not None
    assert hostile.cost.jobs == 0
    assert hostile.cost.sentence.startswith("no suite of ours measures")


def test_a_reproduction_judges_impossible_claims_too(cards: Path, settings: Settings) -> None:
    wrong = next(card for card in audit(cards, settings).cards if card.file == "wrong.md")
    claims = [c.claim for c in wrong.claims]
    assert [v.kind for v in verdicts_of(claims, [])] == [VerdictKind.IMPOSSIBLE, VerdictKind.NOT_COMPARABLE]


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_the_page_is_one_file_without_network_and_with_all_text_escaped(
    cards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERGEBOARD_HOME", str(tmp_path / "home"))
    page, data = tmp_path / "board.html", tmp_path / "board.json"
    result = CliRunner().invoke(app, ["audit", str(cards), "--out", str(page), "--json", str(data)])
    assert result.exit_code == 0, result.output
    text = page.read_text(encoding="utf-8")
    tags = _Tags()
    tags.feed(text)
    assert not any("onerror" in attributes for _, attributes in tags.seen)
    assert not any(tag in ("img", "iframe") for tag, _ in tags.seen)
    addresses = [
        a or "" for _, attributes in tags.seen for k, a in attributes.items() if k in ("src", "href")
    ]
    assert all(a.startswith(("#", "data:")) for a in addresses), addresses
    assert "<script>alert(1)" not in text
    assert "no single run on 198 questions gives 90.0 %" in text
    board = AuditBoard.model_validate_json(data.read_text(encoding="utf-8"))
    assert len(board.cards) == 6
    assert {f.known_as for card in board.cards for f in card.figures} >= {"GPQA-Diamond", "HumanEval"}


@pytest.mark.parametrize("name", ["missing", "none"])
def test_a_folder_without_cards_is_refused_in_one_sentence(
    tmp_path: Path, settings: Settings, name: str
) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(CardError, match="give a folder"):
        audit(tmp_path / name, settings)
