"""The diagram of a recipe's path, what it says in words, and how it is bounded."""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree

from dashboard.pages.recipe.made_of import read_recipe, recipe_text
from dashboard.pages.recipe.path import PathDiagram, diagram_html, diagram_of
from orchestrator.store.records import CandidateRecord
from recipes.layer_path import LayerPath
from recipes.layer_visit import Layers
from recipes.recipe import Recipe
from tests.support.time_bound import cpu_bound

COLOURS = dict.fromkeys(("ink", "faint", "grid", "edge", "accent", "paper", "worse", "better"), "#123456")


def record(path: Layers | None, recipe: str | None = None, layers: int | None = None) -> CandidateRecord:
    return CandidateRecord(
        position=1, name="x", is_base=False, weights_digest="d", layer_path=path, recipe=recipe, layers=layers
    )


def of_path(*layers: int, n: int = 30) -> PathDiagram:
    diagram = diagram_of(record(layers), n, None)
    assert diagram is not None
    return diagram


def lines(diagram: PathDiagram) -> list[ElementTree.Element]:
    """The drawn lines."""
    found = re.search(r"base64,([^\"]+)", diagram_html(diagram, COLOURS))
    assert found is not None
    return list(ElementTree.fromstring(base64.b64decode(found[1])))


def test_a_repeated_block_is_marked_and_said() -> None:
    diagram = of_path(*LayerPath.of_block(10, 17, 30).layers)
    assert diagram.visits == 37
    assert diagram.words() == (
        "A forward pass visits 37 layers, in this order: [0, 17), [10, 30). Repeated: [10, 17) twice. Left out, of 30: none."
    )
    assert [part[1:] for part in diagram.parts()] == [(0, 17, False), (10, 17, True), (17, 30, False)]
    assert len(lines(diagram)) == 4, "three lines and the jump back"


def test_visits_in_part_are_dotted_and_said() -> None:
    path = LayerPath.parse("(10, 17):attention", 30).layers
    diagram = diagram_of(record(path), 30, None)
    assert diagram is not None
    assert "[0, 17), [10, 17) (attention alone), [17, 30)." in diagram.words()
    dotted = [shape for shape in lines(diagram) if shape.get("stroke-dasharray") == "1 10"]
    assert [(shape.get("x1"), shape.get("x2")) for shape in dotted] == [("17", "24")]
    assert "in part or damped" in diagram_html(diagram, COLOURS)
    assert "in part or damped" not in diagram_html(of_path(0, 1), COLOURS)
    text = recipe_text(record(path), "org/base", 30)
    assert text == 'base: org/base\nlayer_path: "(10, 17):attention"\n'


def test_layers_that_are_left_out_are_marked_and_said() -> None:
    diagram = of_path(*range(10), *range(20, 30))
    assert "Left out, of 30: [10, 20)." in diagram.words()
    assert "mb-out" in diagram_html(diagram, COLOURS).partition("</style>")[2].partition("mb-key")[0]


def test_slices_of_two_checkpoints_are_named_and_are_no_repetition() -> None:
    text = """
merge_method: passthrough
dtype: bfloat16
slices:
- sources: [{model: a/b, layer_range: [0, 20]}]
- sources: [{model: c/d, layer_range: [10, 30]}]
"""
    diagram = diagram_of(record(None, text), 30, Recipe.parse(text))
    assert diagram is not None
    assert "[0, 20) of a/b, [10, 30) of c/d" in diagram.words()
    assert not any(again for *_, again in diagram.parts())


def test_hostile_names_are_text_and_the_longest_path_is_bounded() -> None:
    text = """
merge_method: passthrough
dtype: bfloat16
slices:
- sources: [{model: "<b>x</b>", layer_range: [0, 2]}]
- sources: [{model: b, layer_range: [0, 2]}]
"""
    diagram = diagram_of(record(None, text), 30, Recipe.parse(text))
    assert diagram is not None
    assert "<b>" not in diagram_html(diagram, COLOURS)
    with cpu_bound(5):
        html = diagram_html(of_path(*(n % 2 for n in range(8192)), n=2), COLOURS)
        assert len(html) < 300_000


def test_a_layer_path_is_shown_as_a_file_that_can_be_built() -> None:
    path = LayerPath.of_block(10, 17, 30).layers
    text = recipe_text(record(path), "org/base", 30)
    assert text == 'base: org/base\nlayer_path: "(10, 17)"\n'
    recipe = Recipe.parse(text)
    assert recipe.path_of is not None
    assert recipe.path_of.path.resolve(30).layers == path
    assert read_recipe(record(None, "merge_method: nonsense\n")) is None
    assert diagram_of(record(None, "merge_method: nonsense\n"), None, None) is None
