"""Search files: what is accepted, and the one sentence for what is not."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from orchestrator.cli.sweep import search_reference_page
from orchestrator.errors import SweepError
from orchestrator.search.merges.references import AVERAGE, average_recipe, parent_names, reference_entries
from orchestrator.search.merges.schema import search_schema
from orchestrator.search.merges.search_file import SamplerKind, SearchFile, load_search, parse_search
from recipes.yaml_text import load_yaml

GOOD = """\
name: s
base: org/base@main
recipe:
  merge_method: ties
  base_model: org/base@main
  models:
    - {model: org/a, parameters: {weight: {search: [0, 1]}, density: 0.5}}
    - {model: org/b, parameters: {weight: {search: [0, 1], points: 2}, density: 0.5}}
objectives: [arithmetic-easy-scored, {suite: smoke, limit: 4, weight: 2}]
budget: {evaluations: 20}
sampler: tpe
compare_with: [random, grid]
engine: {kind: transformers, dtype: float32}
chat_template: off
"""


def parse(text: str) -> SearchFile:
    return parse_search(text.encode(), origin="s.yaml", folder=Path("."))


def test_a_search_is_parsed() -> None:
    file = parse(GOOD)
    assert file.search.sampler is SamplerKind.TPE
    assert file.search.objectives[0].probe == "arithmetic-easy-scored"
    assert file.search.together((0.1, 0.4)) == pytest.approx(0.3)
    assert len(file.space.parameters) == 3
    assert parent_names(file) == ["org/a", "org/b"]
    assert [entry["name"] for entry in reference_entries(file)] == ["a", "b", AVERAGE]


def test_the_average_of_two_where_one_is_the_base() -> None:
    slerp = """\
name: s
base: org/a
recipe: {merge_method: slerp, base_model: org/a, models: [{model: org/b}], dtype: float32, parameters: {t: {search: [0, 1]}}}
objectives: [arithmetic-easy-scored]
budget: {evaluations: 20}
"""
    file = parse(slerp)
    assert parent_names(file) == ["org/b"]
    average = average_recipe(file)
    assert average is not None
    assert {model["model"] for model in average["models"]} == {"org/a", "org/b"}
    assert average["dtype"] == "float32"


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("name: s", "nmae: s"), 1, ["nmae", "did you mean `name`"]),
        (("limit: 4", "limti: 4"), 9, ["objectives.1.limti", "did you mean `limit`"]),
        (("limit: 4, ", ""), 9, ["objectives.1", "give `limit`"]),
        (("arithmetic-easy-scored", "arithmetic-hard"), 9, ["no probe 'arithmetic-hard'"]),
        (("evaluations: 20", "evaluations: 20, seconds: 3"), 10, ["budget", "exactly one"]),
        (("evaluations: 20", "evaluations: 1"), 10, ["budget.evaluations"]),
        (("sampler: tpe", "sampler: cmaes"), 11, ["sampler", "cma-es"]),
        (("compare_with: [random, grid]", "compare_with: [grid, grid]"), 1, ["twice"]),
        (
            ("{search: [0, 1]}, density", "{search: [1, 0]}, density"),
            7,
            ["recipe.models.0.parameters.weight"],
        ),
        (("merge_method: ties", "merge_method: tie"), 3, ["tie"]),
        (("sampler: tpe", "sampler: cma-es\npareto: true"), 1, ["cma-es searches one value"]),
    ],
)
def test_an_error_names_file_line_and_field(change: tuple[str, str], line: int, words: list[str]) -> None:
    with pytest.raises(SweepError) as caught:
        parse(GOOD.replace(*change, 1))
    message = str(caught.value)
    assert message.startswith(f"s.yaml:{line}: "), message
    assert "\n" not in message
    for word in words:
        assert word in message


def test_evolution_needs_two_ranges() -> None:
    text = GOOD.replace("sampler: tpe", "sampler: cma-es").replace(
        "density: 0.5", "density: {choices: [0.5, 1]}", 1
    )
    with pytest.raises(SweepError, match="at least two searched ranges"):
        parse(text)


@pytest.mark.parametrize("data", [b"", b"- a\n", b"just text", b"a: &a [*a]\n", b"[" * 20_000])
def test_what_is_no_search_is_refused_in_one_sentence(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    with pytest.raises(SweepError) as caught:
        load_search(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"none\.yaml cannot be read"):
        load_search(tmp_path / "none.yaml")


def test_the_reference_page_is_the_models() -> None:
    page = (Path(__file__).parents[4] / "docs/search-file.md").read_text(encoding="utf-8")
    assert page == search_reference_page(), (
        "write it anew: mergeboard sweep reference --search > docs/search-file.md"
    )


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        (("", ""), True),
        (("evaluations", "evaluation"), False),
        (("sampler: tpe", "sampler: tpe\nfidelity: {anchors: 8, keep: 0.3}"), True),
        (("sampler: tpe", "sampler: tpe\nfidelity: {anchor: 8}"), False),
        (("sampler: tpe", "sampler: tpe\nlayer_path: {block: [1, {search: [2, 4]}]}"), True),
        (("sampler: tpe", "sampler: tpe\nstop: true"), True),
        (("[arithmetic-easy-scored, ", "[4, "), False),
    ],
)
def test_the_schema_accepts_what_the_reader_accepts(change: tuple[str, str], valid: bool) -> None:
    search = load_yaml(GOOD.replace(*change, 1).encode(), "s.yaml").data | {"chat_template": False}
    jsonschema.Draft202012Validator.check_schema(search_schema())
    assert jsonschema.Draft202012Validator(search_schema()).is_valid(search) is valid
