"""Recipes as values: equal however they are spelled, refused with file, line and field, remarked on where ignored."""

import pytest

from recipes.errors import LayerPathError, RecipeSyntaxError
from recipes.layer_path import LayerPath, LayerPathSpec
from recipes.recipe import ModelRef, Recipe, SourceKind, SourceRef
from tests.support.published_recipes import PUBLISHED
from tests.support.written_files import SLERP, recipe


def weights(of: Recipe) -> dict[str, str]:
    return {str(source): f"w:{source}" for source in of.sources}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_normal_form_reads_back(name: str) -> None:
    read = recipe(PUBLISHED[name])
    again = recipe(read.canonical_text)
    assert again.canonical == read.canonical
    assert again.canonical_text == read.canonical_text
    assert Recipe.from_data(read.canonical).canonical == read.canonical
    assert again.sources == read.sources
    assert again.digest(weights(read)) == read.digest(weights(read))
    assert [text for _, text in read.mergekit_documents()] if read.stages else True


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (SLERP, "{base_model: org/a, merge_method: slerp, parameters: {t: [.5]}, models: [{model: org/a}, {model: org/b}]}"),
        (SLERP, SLERP.replace("0.5", "5e-1")),
        (SLERP, SLERP.replace("  t: 0.5", "  t: {filter: '*', value: 0.5}")),
        (SLERP, SLERP.replace("  t: 0.5", "  t:\n    - {value: 0.5}\n    - {filter: mlp, value: 1}")),
        (SLERP, SLERP + "tokenizer: null\ndtype: ''\n"),
        (SLERP, SLERP + "name: mine\n"),
        (SLERP, SLERP.replace("  t: 0.5", "  t: 0.5\n  int8_mask: true")),
        (SLERP, SLERP.replace("- model: org/a", "- model: {model: {path: org/a}}\n    parameters: null")),
        (SLERP, "modules: {default: {models: [{model: org/a}, {model: org/b}]}}\n" + SLERP[SLERP.index("merge_method") :]),
        (SLERP + "tokenizer_source: base", SLERP + "tokenizer: {source: base}"),
        (SLERP + "dtype: bfloat16", SLERP + "dtype: torch.bfloat16"),
        (
            "merge_method: passthrough\nslices: [{sources: [{model: a/b, layer_range: [0, 4]}]}]",
            "merge_method: passthrough\nbase_model: a/b\nslices:\n"
            "- sources: [{model: a/b, layer_range: [0, 1]}]\n"
            "- sources: [{model: a/b, layer_range: [1, 4.0]}]",
        ),
        (
            "merge_method: ties\nbase_model: x/y\nmodels: [{model: a/b, parameters: {weight: 1}}]",
            "merge_method: ties\nbase_model: x/y\nmodels: [{model: a/b, parameters: {weight: 1.0}}]\n"
            "parameters: {normalize: true, lambda: 1, int8_mask: 'no'}",
        ),
    ],
)  # fmt: skip
def test_spellings_of_one_recipe(one: str, other: str) -> None:
    assert recipe(one).canonical == recipe(other).canonical
    same = {name: name for name in ("org/a", "org/b", "a/b", "x/y")}
    assert recipe(one).digest(same) == recipe(other).digest(same)


@pytest.mark.parametrize(
    "change",
    [
        ("0.5", "0.6"),
        ("0.5", "[0.5, 0.6]"),
        ("0.5", "[{filter: mlp, value: 0.5}, {value: 0.4}]"),
        ("- model: org/b", "- model: org/b@v1"),
        ("- model: org/b", "- model: org/b+org/lora"),
        ("base_model: org/a", "base_model: org/b"),
        ("base_model: org/a", "base_model: org/a\ndtype: float16"),
        ("base_model: org/a", "base_model: org/a\nout_dtype: float16"),
        ("base_model: org/a", "base_model: org/a\ntokenizer_source: union"),
        ("base_model: org/a", "base_model: org/a\nchat_template: chatml"),
        ("slerp", "nearswap"),
    ],
)
def test_what_changes_the_result_changes_the_digest(change: tuple[str, str]) -> None:
    other = recipe(SLERP.replace(*change, 1))
    names = {"org/a": "1", "org/b": "2", "org/b@v1": "3", "org/lora": "4"}
    assert other.digest(names) != recipe(SLERP).digest(names)


def test_the_digest_follows_the_weights_not_their_names() -> None:
    one, other = recipe(SLERP), recipe(SLERP.replace("org/a", "/disk/copy-of-a"))
    assert one.digest({"org/a": "1", "org/b": "2"}) == other.digest({"/disk/copy-of-a": "1", "org/b": "2"})
    assert one.digest({"org/a": "1", "org/b": "2"}) != one.digest({"org/a": "9", "org/b": "2"})
    with pytest.raises(RecipeSyntaxError, match="weights digest of org/b is not known"):
        one.digest({"org/a": "1"})


def test_the_seed_counts_only_where_numbers_are_drawn() -> None:
    fixed, drawn = recipe(SLERP), recipe(PUBLISHED["dare_ties"])
    assert fixed.digest(weights(fixed), seed=1) == fixed.digest(weights(fixed), seed=2)
    assert drawn.digest(weights(drawn), seed=1) != drawn.digest(weights(drawn), seed=2)


def test_sources_come_in_order_with_revisions_and_adapters() -> None:
    assert [str(one) for one in recipe(PUBLISHED["linear"]).sources] == ["org/one", "org/two@0123abc"]
    loras = recipe(PUBLISHED["loras"])
    assert [str(one) for one in loras.sources] == ["org/base", "org/adapter", "org/base@v1", "org/other"]
    assert [str(one) for one in loras.adapters] == ["org/adapter", "org/other"]
    assert [str(one) for one in recipe(PUBLISHED["tokens"] + "base_model: org/c").sources] == [
        "org/a",
        "org/b",
        "org/c",
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("org/name", SourceKind.HUB),
        ("gpt2", SourceKind.BARE),
        ("demo/SmolLM2-135M-Instruct", SourceKind.DEMO),
        ("/data/model", SourceKind.LOCAL),
        ("./model", SourceKind.LOCAL),
        ("~/model", SourceKind.LOCAL),
        ("a/b/c", SourceKind.LOCAL),
        ("C:\\models\\x", SourceKind.LOCAL),
    ],
)
def test_kinds_of_sources(name: str, kind: SourceKind) -> None:
    assert SourceRef.parse(name).kind is kind


@pytest.mark.parametrize(
    "text", ["", " ", "a@b@c", "a@", "@b", "x\ny", "x\x00y", "https://huggingface.co/a/b", "a" * 600]
)
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(RecipeSyntaxError):
        SourceRef.parse(text)
    with pytest.raises(RecipeSyntaxError):
        ModelRef.parse(f"{text}+b+c")


def test_mapped_sources() -> None:
    read = recipe(SLERP).with_sources({"org/a": "/disk/a", "org/b": "other/b@abc", "never/used": "x/y"})
    assert [str(one) for one in read.sources] == ["/disk/a", "other/b@abc"]
    in_file = recipe(SLERP + "sources:\n  org/a: /disk/a\n  org/b: other/b@abc\n")
    assert in_file.canonical == read.canonical
    assert in_file.remarks == ()


# --- stages ---------------------------------------------------------------------------------------------------------

TWO = """
name: inner
merge_method: passthrough
slices: [{sources: [{model: org/a, layer_range: [0, 4]}]}, {sources: [{model: org/b, layer_range: [2, 6]}]}]
---
name: unused
merge_method: passthrough
slices: [{sources: [{model: org/z, layer_range: [0, 4]}]}]
---
name: result
merge_method: slerp
slices: [{sources: [{model: inner, layer_range: [0, 8]}, {model: iner, layer_range: [0, 8]}]}]
base_model: inner
parameters: {t: 0.5}
"""


def test_stages() -> None:
    read = recipe(TWO)
    assert [stage.name for stage in read.ordered] == ["inner", "result"]
    assert [str(one) for one in read.sources] == ["org/a", "org/b", "iner"]
    assert "Stage 'unused' is not used" in read.remarks[0]
    assert (
        "'iner' is neither a stage of this recipe nor org/name; the nearest stage is 'inner'"
        in read.remarks[1]
    )
    assert read.n_layers({"org/a": 6, "org/b": 6, "iner": 8}) == 8
    fixed = read.with_sources({"iner": "unused"})
    assert [stage.name for stage in fixed.ordered] == ["inner", "unused", "result"]
    with pytest.raises(RecipeSyntaxError, match=r"takes layers \[0, 8\) of unused, which has 4 layers"):
        fixed.n_layers({})


def test_names_of_stages_do_not_matter_but_their_contents_do() -> None:
    read, renamed = recipe(TWO), recipe(TWO.replace("inner", "core"))
    assert read.canonical == renamed.canonical
    names = {"org/a": "1", "org/b": "2", "iner": "3"}
    assert read.digest(names) == renamed.digest(names)
    assert read.digest(names) != recipe(TWO.replace("[2, 6]", "[1, 5]")).digest(names)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TWO.replace("model: org/a", "model: result"), "cycle"),
        (TWO.replace("name: unused", "name: inner"), "Two stages are called 'inner'"),
        (TWO.replace("name: unused\n", "").replace("name: result\n", ""), "have no `name`"),
        (
            TWO.replace("base_model: inner", "base_model: inner@v1").replace(
                "model: inner,", "model: inner@v1,"
            ),
            "no revision",
        ),
        ("---\n".join(SLERP + f"name: s{n}\n" for n in range(65)), "65 stages"),
        (TWO + "---\nbase: org/a\nlayer_path: (1, 2)\n", "separate recipe"),
    ],
)
def test_stages_that_are_refused(text: str, problem: str) -> None:
    with pytest.raises(RecipeSyntaxError, match=problem):
        recipe(text)


@pytest.mark.parametrize(
    "name", ["../x", "/etc", "a/../b", "~", "a:b", "a@b", "a+b", " x", "x\\y", "", ".", 5, "a//b"]
)
def test_names_of_stages_cannot_leave_the_folder(name: object) -> None:
    with pytest.raises(RecipeSyntaxError, match="name"):
        Recipe.from_data({**recipe(SLERP).canonical[0], "name": name})


# --- layer paths ----------------------------------------------------------------------------------------------------


def test_a_layer_path_and_its_slices_are_one_recipe() -> None:
    symbolic = recipe("base: org/a\nlayer_path: (2, 4)")
    spelled = recipe(
        "merge_method: passthrough\nslices:\n"
        "- sources: [{model: org/a, layer_range: [0, 4]}]\n- sources: [{model: org/a, layer_range: [2, 6]}]"
    )
    layers = {"org/a": 6}
    assert symbolic.resolved(layers).canonical == spelled.canonical
    assert (
        Recipe.from_layer_path(SourceRef(name="org/a"), LayerPath.parse("(2, 4)", 6)).canonical
        == spelled.canonical
    )
    assert symbolic.as_layer_path(layers) == spelled.as_layer_path(layers)
    assert symbolic.n_layers(layers) == spelled.n_layers(layers) == 8
    path = spelled.as_layer_path(layers)
    assert path is not None
    assert path[1].label == "(2, 4)"
    assert symbolic.as_layer_path({}) is None
    assert symbolic.n_layers({}) is None
    with pytest.raises(LayerPathError):
        symbolic.mergekit_documents()
    with pytest.raises(LayerPathError, match="not known"):
        symbolic.resolved({})


@pytest.mark.parametrize(
    "extra",
    [
        "dtype: float16",
        "out_dtype: float16",
        "tokenizer_source: base",
        "chat_template: chatml",
        "base_model: org/b",
        "parameters: {scale: 1}",
    ],
)
def test_what_is_more_than_a_layer_path(extra: str) -> None:
    text = (
        f"merge_method: passthrough\nslices: [{{sources: [{{model: org/a, layer_range: [0, 4]}}]}}]\n{extra}"
    )
    assert recipe(text).as_layer_path({"org/a": 6, "org/b": 6}) is None


def test_a_dtype_that_the_weights_have_already_is_no_change() -> None:
    text = "merge_method: passthrough\ndtype: bfloat16\nmodels: [{model: org/a}]"
    assert recipe(text).as_layer_path({"org/a": 6}) is None
    found = recipe(text).as_layer_path({"org/a": 6}, {"org/a": "bfloat16"})
    assert found is not None
    assert found[1].is_baseline


def test_layers_that_a_source_does_not_have() -> None:
    with pytest.raises(RecipeSyntaxError, match=r"takes layers \[0, 32\) of .*, which has 30 layers"):
        recipe(PUBLISHED["slerp"]).n_layers({"OpenPipe/mistral-ft-optimized-1218": 30})
    with pytest.raises(RecipeSyntaxError, match=r"different depths \(org/a 4, org/b 5 layers\)"):
        recipe(SLERP).n_layers({"org/a": 4, "org/b": 5})
    assert recipe(SLERP).n_layers({"org/a": 4}) is None


def test_a_spec_and_a_path_of_the_base() -> None:
    spec = Recipe.from_layer_path(SourceRef(name="org/a"), LayerPathSpec.parse("(2, 4)"))
    assert spec.canonical == recipe("base: org/a\nlayer_path: 'blocks:2,4'").canonical
    assert spec.digest({"org/a": "1"}) != recipe("base: org/a\nlayer_path: (2, 5)").digest({"org/a": "1"})
    assert spec.with_sources({"org/a": "org/b@x"}).sources == (SourceRef(name="org/b", revision="x"),)
    assert recipe("base: org/a\nlayer_path: [0, 1, 1, 2]").resolved({"org/a": 3}).n_layers({"org/a": 3}) == 4
