"""Recipes out of cards: three styles, what is wrong with them, and what has to be mapped."""

import os
from pathlib import Path

import pytest

from recipes.errors import RecipeSyntaxError
from recipes.extract import MapReason, Proposal, find_catalog_names, find_proposals

FENCED = """---
license: apache-2.0
base_model: [org/one]
tags: [merge]
---
# A merge

It uses [**Two-7B**](https://huggingface.co/org/Two-7B/) on top.

```python
print("models:")
```

## Configuration

```yaml
models:
  - model: /home/me/models/org_one-7b
  - model: /home/me/models/Two-7B
    parameters: {weight: 0.5, dropout: 1}
merge_method: ties
base_model: /home/me/models/org_one-7b
```
See [one](https://huggingface.co/org/one-7b).
"""

STAGED = """## How

loyal-stack-11B :
```
slices:
  - sources: [{model: a/x, layer_range: [0, 24]}]
  - sources: [{model: a/y, layer_range: [8, 32]}]
merge_method: passthrough
```

**Other-stack-11B**

~~~yml
slices:
  - sources: [{model: b/x, layer_range: [0, 24]}]
  - sources: [{model: b/y, layer_range: [8, 32]}]
merge_method: passthrough
~~~

Both together:
```
models:
  - model: loyal-stack-11B
  - model: Othr-stack-11B
merge_method: slerp
base_model: loyal-stack-11B
parameters: {t: 0.5}
```
"""

PLAIN = """somebody's picture
metadata
base_model:
  - org/one
Configuration

The following YAML configuration was used to produce this model:

slices:
  - sources:
    - model: org/one
      layer_range: [0, 4]
  - sources:
    - model: org/one
      layer_range: [3, 4]
      parameters:
        scale:
          - filter: o_proj
            value: 0.0
          - value: 1.0
merge_method: passthrough
dtype: bfloat16
Evaluation Results

Avg. 22.49
"""


def only(markdown: str) -> Proposal:
    (found,) = find_proposals(markdown, "card.md")
    return found


def test_a_fenced_block_with_private_paths() -> None:
    found = only(FENCED)
    assert found.lines == ((17, 22),)
    assert found.recipe is not None
    assert found.problems == ("card.md:20: models[1].parameters.dropout: ties never reads 'dropout'.",)
    assert [(one.name, one.reason, one.suggestions) for one in found.to_map] == [
        ("/home/me/models/org_one-7b", MapReason.PRIVATE_PATH, ("org/one-7b",)),
        ("/home/me/models/Two-7B", MapReason.PRIVATE_PATH, ("org/Two-7B",)),
    ]
    assert "--source /home/me/models/Two-7B=org/Two-7B" in str(found.to_map[1])
    mapped = found.recipe.with_sources({one.name: one.suggestions[0] for one in found.to_map})
    assert [str(source) for source in mapped.sources] == ["org/one-7b", "org/Two-7B"]


def test_stages_that_stand_apart_are_one_recipe() -> None:
    found = only(STAGED)
    assert [first for first, _ in found.lines] == [5, 14, 22]
    assert found.recipe is not None
    assert found.recipe.stage_names == {"loyal-stack-11B", "Other-stack-11B"}
    assert [(one.name, one.reason, one.suggestions) for one in found.to_map] == [
        ("Othr-stack-11B", MapReason.UNKNOWN_STAGE, ("Other-stack-11B",))
    ]
    assert any("nearest stage is 'Other-stack-11B'" in problem for problem in found.problems)
    fixed = found.recipe.with_sources({"Othr-stack-11B": "Other-stack-11B"})
    assert fixed.n_layers(dict.fromkeys(("a/x", "a/y", "b/x", "b/y"), 32)) == 48
    assert fixed.remarks == ()


SAID = """The big one:
```
slices:
  - sources: [{model: output/Flat2, layer_range: [0, 24]}]
  - sources: [{model: a/y, layer_range: [8, 32]}]
merge_method: passthrough
```
The Flat2 model uses the following yaml:
```
merge_method: linear
models:
  - model: a/x
    parameters: {weight: 1}
```
"""


def test_a_sentence_that_names_what_another_recipe_takes() -> None:
    big, flat = find_proposals(SAID, "card.md")
    assert (big.title, flat.title) == (None, "Flat2")
    assert big.recipe is not None
    assert big.recipe.n_layers({"output/Flat2": 32, "a/y": 32}) == 48
    assert (
        "card.md:10: the card also says how output/Flat2 was made; --source output/Flat2=Flat2 builds it here."
        in (big.problems)
    )
    mapped = big.recipe.with_sources({"output/Flat2": "Flat2"})
    assert [stage.name for stage in mapped.ordered] == ["Flat2", None]
    assert [str(source) for source in mapped.sources] == ["a/x", "a/y"]


def test_plain_words_of_a_sentence_name_no_recipe() -> None:
    big, other = find_proposals(
        SAID.replace("output/Flat2", "output/base").replace("Flat2", "base"), "card.md"
    )
    assert (big.title, other.title) == (None, None)


def test_a_recipe_that_takes_a_namesake_of_itself_is_not_told_to_build_it() -> None:
    card = "### Loop-2\n```\nname: Loop-2\nmerge_method: linear\nmodels: [{model: a/Loop-2, parameters: {weight: 1}}]\n```\n"
    (found,) = find_proposals(card, "card.md")
    assert found.recipe is not None
    assert [str(source) for source in found.recipe.sources] == ["a/Loop-2"]
    assert not any("--source" in problem for problem in found.problems)


def test_a_path_into_the_hubs_cache_spells_out_its_commit() -> None:
    path = r"D:/my hub/models--Org-1--Two-7B/snapshots/" + "ab12" * 10
    (found,) = only(FENCED.replace("/home/me/models/Two-7B", f"'{path}'")).to_map[1:]
    assert found.suggestions == (f"Org-1/Two-7B@{'ab12' * 10}",)
    assert f"--source '{path}=Org-1/Two-7B@" in str(found)
    old = FENCED.replace("merge_method: ties", "tokenizer_source: model:org/tok\nmerge_method: ties")
    assert only(old).to_map[-1].suggestions == ("org/tok",)


def test_plain_text_of_a_page() -> None:
    found = only(PLAIN)
    assert found.lines == ((9, 22),)
    assert found.recipe is not None
    assert found.recipe.n_layers({"org/one": 4}) == 5
    assert (found.problems, found.to_map) == ((), ())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda yaml: "\n".join("> " + line for line in ["```yaml", *yaml.splitlines(), "```"]),
        lambda yaml: "\n".join("    " + line for line in yaml.splitlines()),
        lambda yaml: f"<details><summary>x</summary><pre><code>\n{yaml}</code></pre></details>",
        lambda yaml: "- as used:\n" + "\n".join("  " + line for line in ["```", *yaml.splitlines(), "```"]),
        lambda yaml: f'```python\nCONFIG = """\n{yaml}"""\nprint(CONFIG)\n```',
        lambda yaml: f"```yaml\n# my recipe\n\n---\n{yaml}",
        lambda yaml: yaml.replace("\n", "\r\n"),
        lambda yaml: f"{yaml}# Usage\nThat is all.",
        lambda yaml: yaml.replace("  ", "\u00a0\u00a0"),
    ],
)
def test_ways_to_wrap_a_recipe(wrap: object) -> None:
    text = "\n".join(PLAIN.splitlines()[8:22]) + "\n"
    found = only(f"Some words.\n\n{wrap(text)}\n")  # type: ignore[operator] # a lambda of the list above
    assert found.recipe is not None
    assert found.recipe.n_layers({"org/one": 4}) == 5


@pytest.mark.parametrize(
    "markdown",
    [
        "",
        "# Title\n\nWords.",
        "```python\nmodels: x\n```",
        "---\nmodels: a\n---\n",
        "models: we like\n\nslices of bread",
        "dtype: x",
    ],
)
def test_cards_without_a_recipe(markdown: str) -> None:
    assert find_proposals(markdown) == ()


def test_a_text_that_is_meant_as_a_recipe_and_is_none() -> None:
    found = only("```yaml\nslices:\n  - sources: []\nmerge_method: slerp\n```\n")
    assert found.recipe is None
    assert found.problems == (
        "card.md:3: slices[0].sources: a slice needs `sources`, a list of `model` and `layer_range`.",
    )
    moe = only("```yaml\nbase_model: a/b\ngate_mode: hidden\nexperts: []\n```\n")
    assert "mergekit-moe" in moe.problems[0]


def test_a_name_that_the_card_links_elsewhere() -> None:
    text = PLAIN + "\nUses [org/one](https://huggingface.co/org/one-bf16)."
    assert "links that name to org/one-bf16" in only(text).problems[0]


def test_a_block_in_a_sentence() -> None:
    found = only("We take Somebody's great-72b and repeat its layers: (45, 52). Not (i, j).")
    assert found.recipe is not None
    assert found.recipe.n_layers({"Somebody/great-72b": 80}) == 87
    assert found.to_map[0].reason is MapReason.UNKNOWN_BASE
    assert "confirm it" in str(found.to_map[0])
    assert only("layers (1, 3) run twice").to_map[0].suggestions == ()
    assert find_proposals("in Figure (1, 3)") == ()


def test_offers_of_the_catalogue() -> None:
    assert find_catalog_names("---\nmodel-index:\n- name: RYS-XLarge\n---\nwords") == ("rys-xlarge",)
    assert find_catalog_names("made from https://huggingface.co/upstage/SOLAR-10.7B-v1.0 and so on") == (
        "solar-10.7b",
    )
    assert find_catalog_names("# Something else") == ()


def test_what_is_no_card() -> None:
    for text in ("\0", "x" * 3_000_000):
        with pytest.raises(RecipeSyntaxError):
            find_proposals(text)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("card", "stages", "to_map"),
    [
        ("nyxene-v2-11b.card.md", 3, {"Starling-NeuralHermes-11B": "Starling-DPOHermes-11B"}),
        ("openchat-40layers-interleaved.card.md", 1, {}),
        ("yi-34b-dare-v5.card.md", 1, {"/home/alpha/FastModels/Mihaiii_Pallas-0.4": "Mihaiii/Pallas-0.4"}),
        ("rys-xlarge.card.md", 0, {}),
        ("rys-article.txt", 1, {}),
    ],
)
def test_published_cards(card: str, stages: int, to_map: dict[str, str]) -> None:
    datasets = os.environ.get("MERGEBOARD_DATASETS")
    folder = Path(datasets).parents[1] / "seeds" if datasets else Path("no seeds here")
    if not folder.is_dir():
        pytest.skip("the published cards are not here")
    text = (folder / card).read_text(encoding="utf-8")
    found = find_proposals(text, card)
    assert sum(len(one.lines) for one in found) == stages
    for proposal in found:
        assert proposal.recipe is not None
        named = {one.name: one.suggestions[0] for one in proposal.to_map}
        assert to_map.items() <= named.items()
    assert find_catalog_names(text)[0] in card.replace("rys-article", "rys-xlarge")
