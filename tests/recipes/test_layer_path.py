"""Layer paths: every spelling, one canonical form, nothing guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.errors import LayerPathError
from recipes.layer_grid import LayerPathGrid
from recipes.layer_path import LayerPath, LayerPathSpec


def test_block_of_the_article_has_87_layers() -> None:
    path = LayerPath.parse("(45, 52)", 80)
    assert path.layers == (*range(52), *range(45, 80))
    assert (path.block, path.n_added, path.label) == ((45, 52), 7, "(45, 52)")
    assert path.canonical == "layers:0-52,45-80"


@pytest.mark.parametrize(
    "text", ["(0, 0)", "(0,0)", "baseline", "blocks:0,0", "layers:0-30", "layers:0-", "repeat:3*1"]
)
def test_spellings_of_the_baseline(text: str) -> None:
    path = LayerPath.parse(text, 30)
    assert path.is_baseline
    assert path.block == (0, 0)
    assert path == LayerPath.baseline(30)


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("blocks:1,3;4,5", [0, 1, 2, 1, 2, 3, 4, 4, 5]),
        ("(1, 3); (4, 5)", [0, 1, 2, 1, 2, 3, 4, 4, 5]),
        ("(1,3),(1,3)", [0, 1, 2, 1, 2, 1, 2, 3, 4, 5]),
        ("blocks:1,4;2,3", [0, 1, 2, 3, 1, 2, 2, 3, 4, 5]),
        ("blocks:2,3;1,4", [0, 1, 2, 2, 3, 1, 2, 3, 4, 5]),
        ("repeat:2*3", [0, 1, 2, 2, 2, 3, 4, 5]),
        ("repeat:2*2; 5*2", [0, 1, 2, 2, 3, 4, 5, 5]),
        ("layers:0-2,5,[3,5)", [0, 1, 5, 3, 4]),
        ("layers: 4-, 0", [4, 5, 0]),
        ("(0, 6)", [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]),
    ],
)
def test_spellings(text: str, layers: list[int]) -> None:
    path = LayerPath.parse(text, 6)
    assert list(path.layers) == layers
    assert LayerPath.parse(layers, 6) == path
    assert LayerPath.parse(path.canonical, 6) == path
    assert LayerPath.parse(path.label, 6) == path
    assert [path.layers.count(layer) for layer in range(6)] == list(path.visits())


def test_order_of_blocks_matters() -> None:
    assert LayerPath.parse("blocks:1,4;2,3", 6) != LayerPath.parse("blocks:2,3;1,4", 6)


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            "45,52",
            "(45 52)",
            "(5, 3)",
            "(3, 3)",
            "(-1, 3)",
            "(3, 5",
            "3, 5)",
            "(3, 5) x",
            "((3, 5))",
            "( , )",
        ],
        *[
            "blocks:",
            "blocks:3",
            "blocks:3,5,7",
            "blocks:0,0;1,2",
            "blocks:3*5",
            "(0, 0); (1, 2)",
            "blocks:²,5",
        ],
        *[
            "repeat:",
            "repeat:3",
            "repeat:3*0",
            "repeat:3,4",
            "repeat:3*99999999",
            "repeat:3*-1",
            "baseline:3",
            "BASELINE ",
        ],
        *[
            "layers:",
            "layers:1 2",
            "layers:3-1",
            "layers:3-3",
            "layers:1,,2",
            "layers:-3",
            "layers:1-2-3",
            "layers:0x3",
        ],
        *[
            "layers:0-999999999",
            "layers:99999999999",
            "grid: all",
            "(45, 52, 3)",
            "layers:1.5",
            "layers:٣",
            "nonsense",
        ],
    ],
)
def test_what_is_not_a_layer_path_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(LayerPathError) as caught:
        LayerPathSpec.parse(text)
    assert "\n" not in str(caught.value)
    assert 20 < len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text", ["(3, 31)", "layers:0-31", "layers:30", "layers:30-", "repeat:30*2", "blocks:1,2;29,31"]
)
def test_layers_that_the_checkpoint_does_not_have(text: str) -> None:
    spec = LayerPathSpec.parse(text)
    with pytest.raises(LayerPathError, match=r"30 layers|0 to 29"):
        spec.resolve(30)
    assert spec.resolve(64)


@pytest.mark.parametrize(
    "value", [[], [0, -1], [0, 1.5, 2], [True, False, True], ["0", "1", "2"], [0] * 10_000]
)
def test_lists_that_are_not_paths(value: list[int]) -> None:
    with pytest.raises(LayerPathError):
        LayerPath.parse(value, 30)


def test_a_list_of_two_is_not_guessed_at() -> None:
    with pytest.raises(LayerPathError, match=r'write "\(45, 52\)" or "layers:45,52"'):
        LayerPath.parse([45, 52], 80)


def test_absurd_sizes() -> None:
    for call in (
        lambda: LayerPath.baseline(10**9),
        lambda: LayerPath.baseline(0),
        lambda: LayerPathSpec.parse("(0, 1);" * 100_000),
        lambda: LayerPath.parse("blocks:" + ";".join(["0,2000"] * 50), 2000),
        lambda: LayerPathGrid.parse("i=0:99999999999"),
    ):
        with pytest.raises(LayerPathError):
            call()


@pytest.mark.parametrize(("n_layers", "count"), [(80, 3241), (64, 2081), (48, 1177), (1, 2)])
def test_grid_of_all_blocks(n_layers: int, count: int) -> None:
    paths = LayerPathGrid.parse("grid: all").paths(n_layers)
    assert len(set(paths)) == len(paths) == count
    assert paths[0].is_baseline
    assert {path.block for path in paths} >= {(0, 0), (0, n_layers), (n_layers - 1, n_layers)}


@pytest.mark.parametrize(
    ("text", "canonical", "blocks"),
    [
        ("i=0:30:10 j=5:31:15", "grid: i=0:30:10 j=5:31:15", [(0, 0), (0, 5), (0, 20), (10, 20)]),
        ("grid: i=28:", "grid: i=28: j=1:", [(0, 0), (28, 29), (28, 30), (29, 30)]),
        ("grid: i=28: max_added=1", "grid: i=28: j=1: max_added=1", [(0, 0), (28, 29), (29, 30)]),
        ("i=3 j=:7 min_added=2", "grid: i=3:4 j=1:7 min_added=2", [(0, 0), (3, 5), (3, 6)]),
        ("grid: i=0: j=1:", "grid: all", None),
    ],
)
def test_grid_in_one_line(text: str, canonical: str, blocks: list[tuple[int, int]] | None) -> None:
    grid = LayerPathGrid.parse(text)
    assert grid.canonical == canonical
    assert LayerPathGrid.parse(canonical) == grid
    assert blocks is None or [path.block for path in grid.paths(30)] == blocks


@pytest.mark.parametrize(
    "text",
    ["", "grid:", "some", "i", "i=", "i=a", "i=5:3", "i=0:9:0", "i=1 i=2", "k=3", "max_added=-1", "i=-1:3"],
)
def test_grids_that_are_refused(text: str) -> None:
    with pytest.raises(LayerPathError, match="grid"):
        LayerPathGrid.parse(text)


@pytest.mark.parametrize("text", ["i=0:31", "i=30:", "j=0:32", "j=31:"])
def test_grids_that_leave_the_checkpoint(text: str) -> None:
    with pytest.raises(LayerPathError, match="leaves the checkpoint"):
        LayerPathGrid.parse(text).paths(30)


@given(st.lists(st.integers(0, 11), min_size=1, max_size=40).filter(lambda layers: len(layers) != 2))
def test_any_list_has_one_canonical_text(layers: list[int]) -> None:
    path = LayerPath.parse(layers, 12)
    assert path.layers == tuple(layers)
    assert LayerPath.parse(path.canonical, 12) == path
    assert [layer for a, b in path.runs() for layer in range(a, b)] == layers
    if path.block:
        assert LayerPath.of_block(*path.block, 12) == path


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        spec = LayerPathSpec.parse(text)
    except LayerPathError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right, only the message is checked
    else:
        assert LayerPathSpec.parse(spec.text) == spec
