"""What of a recipe is ignored, and what is refused, in sentences."""

from pathlib import Path

import pytest

from recipes.errors import RecipeSyntaxError
from recipes.recipe import Recipe
from recipes.recipe.filters import find_missing_value, unused_filters
from tests.support.published_recipes import PUBLISHED
from tests.support.written_files import SLERP, recipe

# --- what is ignored, and what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        (SLERP + "dtpye: float16", "r.yaml:9: dtpye: mergekit ignores this key; did you mean dtype?"),
        (SLERP + "random_seed: 7", "random_seed: mergekit ignores this key; remove it."),
        (SLERP.replace("  t: 0.5", "  t: 0.5\n  normalize: true"), "r.yaml:9: parameters.normalize: slerp never reads 'normalize'."),
        (SLERP.replace("- model: org/b", "- model: org/b\n    revision: abc"), "write model: org/b@abc"),
        (SLERP.replace("- model: org/b", "- model: org/b\n    layer_range: [0, 4]"), "use `slices`"),
        (SLERP.replace("- model: org/b", "- model: org/b\n    parameters: {t: 1}"), "never for one input"),
        (PUBLISHED["dare_ties"].replace("# No parameters", "parameters: {weight: 1}\n    #"), "never reads the weight of the base"),
        (PUBLISHED["sce"].replace("{model: org/a}", "{model: org/a, select_topk: 1}"), "put it under `parameters:`"),
        (PUBLISHED["slice_levels"], "never reached"),
        (PUBLISHED["slice_levels"].replace("parameters: {t: 0.2}", "parameters: {t: 0.2}\n    residual_weight: 0.5"), "residual_weight"),
        (SLERP.replace("t: 0.5", "t: [{filter: mlp, value: 1}]"), "given for some tensors only"),
        (SLERP.replace("t: 0.5", "t: [{fliter: mlp, value: 1}]"), "parameters.t[0].fliter: mergekit ignores this key; did you mean filter?"),
        (SLERP.replace("  t: 0.5", "  t: 0.5\n  T: []"), "slerp never reads 'T'"),
        ("merge_method: passthrough\nslices: [{sources: [{model: a/b, layer_range: [0, 2]}]}, {sources: [{model: a/b, layer_range: [1, 1]}]}, "
         "{sources: [{model: a/b, layer_range: [3, 4]}]}]", "slices[1]: the slice has no layers"),
    ],
)  # fmt: skip
def test_remarks(text: str, remark: str) -> None:
    assert remark in "\n".join(recipe(text).remarks)


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) - {"dare_ties", "slice_levels"}))
def test_a_sound_recipe_has_no_remarks(name: str) -> None:
    assert recipe(PUBLISHED[name]).remarks == ()


def ties(models: str, rest: str = "") -> str:
    return f"merge_method: ties\nbase_model: x/y\nmodels:\n{models}\n{rest}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("just text", "r.yaml:1: document: a mapping"),
        ("- a\n- b", "r.yaml:1: document: a mapping"),
        ("a: b", "a recipe needs `merge_method`"),
        ("mergemethod: slerp", r"instead of 'mergemethod'\?"),
        ("base_model: x\ngate_mode: hidden\nexperts: []", "mergekit-moe"),
        ("genome: {}", "mergekit-evolve"),
        (SLERP.replace("slerp", "slrep"), "r.yaml:5: merge_method: .* did you mean slerp"),
        (SLERP.replace("slerp", "zzz"), "it has arcee_fusion"),
        (SLERP.replace("slerp", "[1]"), "text is expected"),
        (SLERP + "slices: [{sources: [{model: a/b, layer_range: [0, 1]}]}]", "exactly one of models, slices and modules"),
        ("merge_method: slerp\nmodels: []", "this one has none of them"),
        (SLERP.replace("base_model: org/a", ""), "slerp needs `base_model`"),
        (SLERP.replace("base_model: org/a", "base_model: org/c"), "takes 2 inputs, the base included; there are 3"),
        (PUBLISHED["slerp"].replace("mlabonne/NeuralHermes-2.5-Mistral-7B", "OpenPipe/mistral-ft-optimized-1218").replace("[0, 32]", "[0, 30]", 1)
         .replace("[0, 32]", "[2, 32]"), "merged with itself in different layers"),
        (SLERP.replace("org/b", "org/a").replace("base_model: org/a", ""), "slerp needs `base_model`"),
        (SLERP.replace("  t: 0.5", "  x: 1"), "parameter t is missing"),
        (SLERP.replace("0.5", "much"), "r.yaml:8: parameters.t: a number is expected here, not 'much'"),
        (SLERP.replace("0.5", ".nan"), "a number is expected"),
        (SLERP.replace("0.5", "1e999"), "a number is expected"),
        (SLERP.replace("0.5", "[[0.5]]"), "flat list"),
        (SLERP.replace("0.5", "[{filter: a, value: 1}, 2]"), "mixes plain values"),
        (SLERP.replace("0.5", "[{filter: a}]"), "needs a `value`"),
        (SLERP.replace("0.5", "[{filter: a, value: []}]"), "empty list as value"),
        (SLERP.replace("0.5", "[{filter: 3, value: 1}]"), "text is expected"),
        (SLERP.replace("  t: 0.5", "  - t: 0.5"), "r.yaml:7: parameters: a mapping"),
        (SLERP.replace("  t: 0.5", "  t: 0.5\n  other: null"), "a value, a list of values"),
        (SLERP + "dtype: bf16", "write bfloat16"),
        (SLERP + "dtype: int64", "it has bfloat16"),
        (SLERP + "dtype: 16", "text is expected"),
        (SLERP + "chat_template: chatmll", "did you mean chatml"),
        (SLERP + "chat_template: '{{'", "not a chat template"),
        (SLERP + "tokenizer_source: base\ntokenizer: {source: base}", "not both"),
        (SLERP + "tokenizer: {source: 5}", "r.yaml:9: tokenizer.source: the name of a checkpoint is expected"),
        (SLERP + "tokenizer: {tokens: {a: {source: {kind: one}}}}", "neither model_token nor zero"),
        (SLERP + "tokenizer: {tokens: {a: {source: {kind: model_token, model: org/a}}}}", "exactly one of token and token_id"),
        (SLERP + "tokenizer: {pad_to_multiple_of: -3}", "not a valid multiple"),
        (SLERP + "1: 2", "key '1' is not text"),
        (SLERP.replace("org/b", "a@b@c"), r"models\[1\].model: 'a@b@c' has more than one @"),
        (SLERP.replace("org/b", "a+b+c"), "more than one [+]"),
        (SLERP.replace("model: org/b", "model: {path: org/b}"), "a model reference needs `model`"),
        (SLERP.replace("model: org/b", "modle: org/b"), "the checkpoint's name is missing"),
        (SLERP.replace("- model: org/b", "- 5"), "a mapping"),
        (PUBLISHED["slerp"].replace("[0, 32]", "[0, 31]", 1), "equal length; these have 31 and 32 layers"),
        (PUBLISHED["slerp"].replace("[0, 32]", "[32, 0]"), "needs 0 <= first <= end"),
        (PUBLISHED["slerp"].replace("[0, 32]", "[0, 32, 64]"), "two numbers"),
        (PUBLISHED["slerp"].replace("[0, 32]", "[0, 3.5]"), "whole number"),
        (PUBLISHED["slerp"].replace("[0, 32]", "[0, 99999]"), "99999 is too large"),
        (PUBLISHED["slerp"].replace("layer_range: [0, 32]", "", 1), "needs its layers"),
        (PUBLISHED["slerp"].replace("base_model: Open", "base_model: Closed") + "tokenizer_source: union", "must be one of the inputs here"),
        (PUBLISHED["slerp"].replace("sources:", "source:"), "a slice needs `sources`"),
        (PUBLISHED["frankenmerge"].replace("[0, 20]", "[0, 0]").replace("[10, 30]", "[3, 3]").replace("[20, 40]", "[1, 1]"), "0 layers"),
        (PUBLISHED["anchors"].replace("0.6", "0.9"), r"density [+] epsilon < 1; org/a has density 0.9"),
        (PUBLISHED["dare_ties"].replace("0.53", "-0.5", 1), "below 0"),
        (PUBLISHED["linear"].replace("1.0", "-0.1").replace("off", "on"), "add up to 0"),
        (PUBLISHED["modules"].replace("text_decoder", "''"), "a module has a name"),
        (ties("  - {model: a/b}"), "weight is missing for a/b"),
        ("merge_method: linear\nbase_model: x/y\nmodels: [{model: a/b, parameters: {weight: 1}}]", "weight is missing for x/y"),
        ("base: org/a\nlayer_path: (5, 2)", "layer_path: Block .* repeats nothing"),
        ("base: org/a\nlayer_path: {a: b}", "a layer path such as"),
        ("layer_path: (1, 2)", "needs its `base`"),
        ("base: org/a\nlayer_path: (1, 2)\ndtype: float16", "`base` and `layer_path` only"),
        ("base: 'a@b@c'\nlayer_path: (1, 2)", "more than one @"),
        (SLERP + "sources: {a: 5}", "sources.a: text is expected"),
        (SLERP + "sources: {a: ''}", "not the name of a checkpoint"),
        (SLERP + "merge_method: slerp", "twice"),
        (SLERP + "x: !!python/object/apply:os.system [id]", "tag"),
        (SLERP + "x: *y", "undefined alias"),
        ("\x00", "."),
        ("[" * 5000, "."),
    ],
)  # fmt: skip
def test_refusals(text: str, problem: str) -> None:
    with pytest.raises(RecipeSyntaxError, match=problem) as caught:
        recipe(text)
    assert str(caught.value).count("\n") == 0
    assert str(caught.value).count("r.yaml") == 1
    assert len(str(caught.value)) < 700


def test_absurd_sizes() -> None:
    one = "{sources: [{model: a/b, layer_range: [0, 2000]}]}"
    for text in (
        f"merge_method: passthrough\nslices: [{', '.join([one] * 5)}]",
        "merge_method: passthrough\nslices: [" + ", ".join([one] * 5000) + "]",
        SLERP.replace("0.5", "[" + "0, " * 5000 + "1]"),
        SLERP.replace("  t: 0.5", "  t: 0.5\n" + "".join(f"  p{n}: 1\n" for n in range(100))),
        "merge_method: linear\nmodels: [" + "{model: a/b}, " * 200 + "{model: c/d}]",
        SLERP + "chat_template: '{" + "x" * 200_000 + "'",
    ):
        with pytest.raises(RecipeSyntaxError):
            recipe(text)


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(SLERP)
    assert Recipe.load(file).canonical == recipe(SLERP).canonical
    for missing in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(RecipeSyntaxError, match="cannot be read"):
            Recipe.load(missing)
    file.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(RecipeSyntaxError, match="not text"):
        Recipe.load(file)


def test_filters_against_names_of_tensors() -> None:
    names = ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight"]
    stage = recipe(PUBLISHED["slerp"]).ordered[0]
    assert unused_filters(stage, names) == ("self_attn",)
    assert find_missing_value(stage, names) is None
    partial = recipe(SLERP.replace("0.5", "[{filter: mlp, value: 1}, {filter: embed, value: 0}]")).ordered[0]
    assert (
        find_missing_value(partial, names)
        == "The parameter t has no value for model.norm.weight: end its list with a value that has no filter."
    )
    assert find_missing_value(partial, names[:2]) is None
    by_layer = recipe(SLERP.replace("0.5", "[{filter: layers.0., value: 1}]")).ordered[0]
    assert find_missing_value(by_layer, names) is None
    inputs = recipe(ties("  - {model: a/b, parameters: {weight: [{filter: mlp, value: 1}]}}")).ordered[0]
    assert find_missing_value(inputs, names) is not None
