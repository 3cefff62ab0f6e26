"""Damaged recipes and cards: each is accepted, or refused in one sentence; none hangs, writes or shows a traceback."""

import random
from itertools import pairwise
from pathlib import Path

import pytest

from recipes.catalog import catalog_names, load_catalog
from recipes.errors import RecipeError
from recipes.extract import find_proposals
from recipes.recipe import Recipe
from tests.recipes.test_extract import FENCED, PLAIN, STAGED
from tests.support.published_recipes import PUBLISHED, damaged
from tests.support.time_bound import cpu_bound

TEXTS = (
    *PUBLISHED.values(),
    *(load_catalog(name).path.read_text(encoding="utf-8") for name in catalog_names()),
)
CARDS = (FENCED, STAGED, PLAIN, *(f"# Card\n\nRecipe-1:\n```yaml\n{text}\n```\nwords\n" for text in TEXTS))
SLOWEST_S = 5.0


def check(count: int, seed: int, folder: Path) -> tuple[int, int]:
    """Read `count` damaged texts, recipes and cards in turn; (accepted, refused)."""
    accepted = 0
    for number in range(count):
        rng = random.Random(seed * 1_000_003 + number)
        card = number % 2 == 1
        text = damaged(rng.choice(CARDS if card else TEXTS), rng, TEXTS)
        with cpu_bound(SLOWEST_S):
            try:
                recipes = [one.recipe for one in find_proposals(text)] if card else [Recipe.parse(text)]
                sentences = [
                    s
                    for one in (find_proposals(text) if card else ())
                    for s in (*one.problems, *map(str, one.to_map))
                ]
                for recipe in filter(None, recipes):
                    assert Recipe.parse(recipe.canonical_text).canonical == recipe.canonical
                    recipe.digest({str(source): "0" for source in recipe.sources})
                    sentences += recipe.remarks
                accepted += all(recipe is not None for recipe in recipes)
            except RecipeError as error:
                sentences = [str(error)]
        for sentence in sentences:
            assert sentence.strip(), text
            assert "\n" not in sentence, text
            assert "Traceback" not in sentence, text
            assert len(sentence) < 2000, text
    assert list(folder.iterdir()) == []
    return accepted, count - accepted


def test_500_damaged_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    accepted, refused = check(500, 1, tmp_path)
    assert accepted > 50
    assert refused > 50


@pytest.mark.slow
def test_10000_damaged_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    accepted, refused = check(10_000, 2, tmp_path)
    assert accepted + refused == 10_000


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\n" + "\n".join(f"{b}: &{b} [{', '.join(['*' + a] * 10)}]" for a, b in pairwise("abcdefghij")),
        "&a [*a]",
        "merge_method: slerp\nmodels: &m [{model: a/b, parameters: {t: *m}}]",
        "[" * 100_000,
        "{a: " * 20_000,
        "- " * 50_000,
        "a: " + "9" * 100_000,
        "a: '" + "x" * 1_000_000,
        "? " * 30_000,
        "merge_method: slerp\nmodels:\n" + "  - model: a/b\n" * 30_000,
        "%TAG ! tag:x,2000:\n--- !x y",
        "a: 1:2:3\nb: 0o7\nc: 12e03\nd: -.inf",
        "\ufeff",
        "\u2028",
        "!!python/object/new:subprocess.Popen [[touch, pwned]]",
        "!!timestamp x",
        "a: 2024-99-99",
    ],
    ids=range(17),
)  # fmt: skip
def test_bombs(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with cpu_bound(SLOWEST_S):
        with pytest.raises(RecipeError) as caught:
            Recipe.parse(text)
        find_proposals(text)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
