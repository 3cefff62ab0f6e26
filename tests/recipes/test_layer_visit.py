"""Visits of attention or MLP alone and damped visits: text, canonical form, identity, and what can be built."""

from __future__ import annotations

import pytest

from recipes.errors import LayerPathError
from recipes.layer_grid import LayerPathGrid
from recipes.layer_path import LayerPath, LayerPathSpec, map_variant
from recipes.layer_visit import Layers, Variant, Visit, VisitPart, attention_visits
from recipes.recipe import Recipe, SourceRef
from recipes.visit_build import require_buildable

LLAMA = tuple(
    f"model.layers.{n}.{name}"
    for n in range(6)
    for name in (
        "input_layernorm.weight",
        "self_attn.o_proj.weight",
        "self_attn.o_proj.bias",
        "mlp.down_proj.weight",
        "post_attention_layernorm.weight",
    )
)


def visits(*texts: int | str) -> Layers:
    return tuple(t if isinstance(t, int) else Visit.model_validate(t) for t in texts)


@pytest.mark.parametrize(
    ("text", "layers", "canonical", "label"),
    [
        ("(2, 4):attention", (0, 1, 2, 3, "2:attention", "3:attention", 4, 5), "layers:0-4,2-4:attention,4-6", "(2, 4):attention"),
        (" ( 2 , 4 ) : damped = .50 ", (0, 1, 2, 3, "2:damped=0.5", "3:damped=0.5", 4, 5), "layers:0-4,2-4:damped=0.5,4-6", "(2, 4):damped=0.5"),
        ("blocks:4,6:mlp", (0, 1, 2, 3, 4, 5, "4:mlp", "5:mlp"), "layers:0-6,4-6:mlp", "(4, 6):mlp"),
        ("repeat:1*3:damped=0.5:mlp", (0, 1, *["1:mlp:damped=0.5"] * 2, 2, 3, 4, 5), "layers:0-2,1:mlp:damped=0.5,1:mlp:damped=0.5,2-6", None),
        ("layers:0-3:mlp,2,3-", ("0:mlp", "1:mlp", "2:mlp", 2, 3, 4, 5), "layers:0-3:mlp,2-6", None),
        ("(1, 3):mlp; (2, 3)", (0, 1, 2, "1:mlp", "2:mlp", 2, 3, 4, 5), "layers:0-3,1-3:mlp,2-6", None),
        ("layers:0-6:damped=1", (0, 1, 2, 3, 4, 5), "layers:0-6", "baseline"),
        ("(2, 4):damped=1.000", (0, 1, 2, 3, 2, 3, 4, 5), "layers:0-4,2-6", "(2, 4)"),
        ("(2, 4):damped=0", (0, 1, 2, 3, "2:damped=0", "3:damped=0", 4, 5), "layers:0-4,2-4:damped=0,4-6", "(2, 4):damped=0"),
        ("(2, 4):whole", (0, 1, 2, 3, 2, 3, 4, 5), "layers:0-4,2-6", "(2, 4)"),
    ],
)  # fmt: skip
def test_spellings_have_one_canonical_form(
    text: str, layers: tuple[int | str, ...], canonical: str, label: str | None
) -> None:
    path = LayerPath.parse(text, 6)
    assert (path.layers, path.canonical, path.label) == (visits(*layers), canonical, label or canonical)
    for same in (path.canonical, path.label, layers, path.layers, LayerPathSpec.parse(text).text):
        assert LayerPath.parse(same, 6) == path
    assert LayerPath.model_validate_json(path.model_dump_json()) == path


@pytest.mark.parametrize(
    "text",
    ["(2, 4):", "(2, 4):half", "(0, 0):mlp", "layers:1:damped=2.5", "layers:1:damped=-1", "layers:1:damped=1e-3",
     "layers:1:damped=nan", "layers:1:mlp:mlp", "layers:1:mlp:attention", "layers:1:damped", "layers:1,2,7:mlp", "repeat:2:mlp",
     "baseline:mlp", "layers:1:damped=0.1234567"],
)  # fmt: skip
def test_what_is_no_visit_is_refused(text: str) -> None:
    with pytest.raises(LayerPathError):
        LayerPath.parse(text, 6)


@pytest.mark.parametrize(
    "value", [[0, "mlp"], [0, "5"], [0, True, 1], [0, 1.5, 2], [0, "1:", 2], ["0-3:mlp:x"]]
)
def test_lists_hold_numbers_and_visits_only(value: list[int | str]) -> None:
    with pytest.raises(LayerPathError):
        LayerPath.parse(value, 6)


def test_a_whole_visit_has_one_form() -> None:
    with pytest.raises(LayerPathError, match="its number"):
        Visit(layer=3)
    assert LayerPath.parse("layers:0-3,1:mlp,3-", 6).layers[3] == Visit(layer=1, part=VisitPart.MLP)
    assert attention_visits(visits(0, "0:mlp", "0:attention", "0:damped=0", "0:damped=0.5")) == 3


def test_paths_differ_by_part_and_factor_and_so_do_their_recipes() -> None:
    base = SourceRef.parse("org/name@0123456789abcdef0123456789abcdef01234567")
    texts = ["(2, 4)", "(2, 4):attention", "(2, 4):mlp"]
    recipes = [Recipe.from_layer_path(base, LayerPath.parse(text, 6)) for text in texts]
    digests = [recipe.digest({str(base): "w" * 16}) for recipe in recipes]
    assert len(set(digests)) == 3
    for recipe in recipes:
        assert Recipe.parse(recipe.canonical_text).digest({str(base): "w" * 16}) in digests
    assert "down_proj" in recipes[1].mergekit_documents()[0][1]
    assert "o_proj" in recipes[2].mergekit_documents()[0][1]


def test_what_a_checkpoint_cannot_hold_is_refused_by_name() -> None:
    base = SourceRef(name="org/name")
    with pytest.raises(LayerPathError, match=r"damped=0\.5 is live only"):
        Recipe.from_layer_path(base, LayerPath.parse("(2, 4):damped=0.5", 6))
    for text in ("(2, 4):attention", "(2, 4):mlp", "(2, 4)"):
        require_buildable(LayerPath.parse(text, 6), LLAMA)
    experts = [name.replace("mlp.down_proj", "mlp.experts.0.down_proj") for name in LLAMA]
    require_buildable(LayerPath.parse("(2, 4):mlp", 6), experts)
    with pytest.raises(LayerPathError, match=r"Layer 2 has no plain mlp\.down_proj\.weight"):
        require_buildable(LayerPath.parse("(2, 4):attention", 6), experts)
    packed = [name.replace("o_proj.weight", "o_proj.qweight") for name in LLAMA]
    with pytest.raises(LayerPathError, match=r"self_attn\.o_proj\.weight"):
        require_buildable(LayerPath.parse("(2, 4):mlp", 6), packed)
    scaled = [*LLAMA, "model.layers.2.layer_scalar"]
    with pytest.raises(LayerPathError, match=r"has more than attention, MLP and norms \(layer_scalar\)"):
        require_buildable(LayerPath.parse("(2, 4):mlp", 6), scaled)
    norms = [
        f"model.layers.2.{name}.{kind}"
        for name in ("post_mlp_norm", "pre_mlp_norm")
        for kind in ("weight", "bias")
    ]
    with pytest.raises(LayerPathError, match="adds a bias"):
        require_buildable(LayerPath.parse("(2, 4):mlp", 6), [*LLAMA, *norms])


def test_a_grid_runs_its_blocks_in_a_variant() -> None:
    grid = LayerPathGrid.parse("all variant=attention:damped=0.50")
    assert grid.canonical == "grid: all variant=attention:damped=0.5"
    assert LayerPathGrid.parse(grid.canonical) == grid
    paths = grid.paths(4)
    assert len(paths) == 4 * 5 // 2 + 1
    assert paths[0].is_baseline
    variant = Variant.parse("attention:damped=0.5")
    assert map_variant(paths) == variant
    assert [path.block_of(variant) for path in paths[1:]] == [
        p.block for p in LayerPathGrid.parse("all").paths(4)[1:]
    ]
    assert {path.block for path in paths} == {(0, 0), None}
    for text in ("all variant=damped=0", "all variant=half", "variant=mlp variant=mlp"):
        with pytest.raises(LayerPathError):
            LayerPathGrid.parse(text)


def test_a_map_shows_whole_blocks_where_there_are_some() -> None:
    paths = [LayerPath.parse(text, 6) for text in ("baseline", "(1, 3):mlp", "(2, 4)", "layers:0-3")]
    assert map_variant(paths).is_whole
    assert [path.block_of(Variant()) for path in paths] == [(0, 0), None, (2, 4), None]
