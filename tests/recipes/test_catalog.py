"""The catalogue: known figures without weights, and builds that equal mergekit's, bit for bit."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from recipes.catalog import CatalogEntry, catalog_config, catalog_names, find_in_catalog, load_catalog
from recipes.config_facts import ConfigFacts
from recipes.errors import RecipeError
from recipes.merge import BuildOptions, MergekitProcess, build
from tests.support.by_mergekit import SEED, Command, assert_same_tensors, config_of, run_command, run_mergekit
from tests.support.family_checkpoints import HYBRIDS
from tests.support.tiny_checkpoints import tiny_checkpoint, tiny_of_type

FIGURES = {
    "rys-xlarge": (87, 78.843),
    "nyxene-v2-11b": (48, 10.732),
    "solar-10.7b": (48, 10.732),
    "openchat-40layers-interleaved": (40, 8.987),
    "yi-34b-dare-v5": (60, 34.389),
    "goliath-120b": (137, 117.749),
    "devstral-small-2-24b-circuit-12-14": (43, 25.240),
    "gemma-2-2b-rys-19-23": (30, 2.926),
    "gemma-2-9b-rys-14-18": (46, 10.034),
    "llama-3.2-3b-rys-21-24": (31, 3.515),
    "qwen2.5-coder-32b-circuit-7-9": (67, 34.227),
    "qwen3.5-9b-rys-22-25": (36, 9.819),
}

OF_2026 = tuple(FIGURES)[6:]
"""Blocks that run twice; each is built by copying bytes, which the others compare with mergekit."""
COMPARED = tuple(FIGURES)[:6]


def facts(entry: CatalogEntry) -> dict[str, ConfigFacts]:
    configs = {source.name: entry.config(source.name) for source in entry.recipe.sources}
    return {name: ConfigFacts.from_config(config or {}, name) for name, config in configs.items()}


def test_it_holds_these_recipes() -> None:
    assert set(catalog_names()) == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_without_weights(name: str) -> None:
    entry = load_catalog(name)
    configs = facts(entry)
    layers = entry.recipe.n_layers({source: config.n_layers for source, config in configs.items()})
    source = configs[entry.recipe.sources[0].name]
    as_path = entry.recipe.as_layer_path({name: config.n_layers for name, config in configs.items()}, {})
    parameters = source.parameters_along(as_path[1].source_layers) if as_path else source.parameters(layers)
    assert parameters is not None
    assert (layers, round(parameters / 1e9, 3)) == FIGURES[name]
    assert entry.recipe.remarks == ()
    assert entry.source.startswith("https://")
    assert entry.title


@pytest.mark.parametrize("name", OF_2026)
def test_blocks_of_2026_are_layer_paths_of_one_checkpoint(name: str) -> None:
    """The published block, with the number of layers that its source states."""
    entry = load_catalog(name)
    layers = {source: config.n_layers for source, config in facts(entry).items()}
    as_path = entry.recipe.as_layer_path(layers, {})
    assert as_path is not None
    block = as_path[1].block
    assert block is not None
    assert entry.title.endswith(f"layers {block[0]} to {block[1] - 1} run twice (2026)")
    assert entry.about.notes


def test_the_published_file_of_rys_xlarge_has_another_size() -> None:
    published = load_catalog("rys-xlarge").about.published
    assert published.parameters_b == 77.965
    config = catalog_config("MaziyarPanahi/calme-2.1-qwen2-72b")
    parameters = ConfigFacts.from_config(config or {}, "config").parameters(86)
    assert parameters is not None
    assert round(parameters / 1e9, 3) == published.parameters_b


def test_names() -> None:
    found = find_in_catalog("dnhkng/RYS-XLarge")
    assert found is not None
    assert found == find_in_catalog("rys-xlarge")
    assert find_in_catalog("RYS-Huge") is None
    assert catalog_config("org/none") is None
    with pytest.raises(RecipeError, match=r"did you mean goliath-120b\?"):
        load_catalog("goliath")
    with pytest.raises(RecipeError, match="it has devstral-small-2-24b-circuit-12-14"):
        load_catalog("../../etc/passwd")


@pytest.fixture(scope="module")
def by_mergekit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each recipe its sources, of the right architecture and depth but tiny, and what mergekit builds of them."""
    root = tmp_path_factory.mktemp("catalog")
    commands = []
    for name in COMPARED:
        entry = load_catalog(name)
        for seed, (source, known) in enumerate(facts(entry).items()):
            dtype = known.dtype or "bfloat16"
            folder = root / name / source
            tiny_checkpoint(
                folder, family=known.model_type, layers=known.n_layers, seed=seed, shards=2, dtype=dtype
            )
        several = len(entry.recipe.stages) > 1
        commands.append(Command(entry.path, root / name, root / name / "theirs", several))
    run_mergekit(commands)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPARED)
def test_the_command_itself_writes_the_same(name: str, by_mergekit: Path, tmp_path: Path) -> None:
    """What the builds are compared with comes from mergekit's functions; here from its command, a process per recipe."""
    entry, out = load_catalog(name), tmp_path / "out"
    several = len(entry.recipe.stages) > 1
    run_command(Command(entry.path, by_mergekit / name, out, several))
    last = entry.recipe.stages[-1].name if several else None
    assert_same_tensors(out / (last or ""), by_mergekit / name / "theirs" / (last or ""))


@pytest.fixture(scope="module")
def mergekit() -> Iterator[MergekitProcess]:
    """One mergekit process for all of them."""
    with MergekitProcess(threads=1) as process:
        yield process


@pytest.mark.parametrize("name", COMPARED)
def test_builds_equal_mergekits(
    name: str, by_mergekit: Path, tmp_path: Path, mergekit: MergekitProcess
) -> None:
    recipe = load_catalog(name).recipe
    folder, ours = by_mergekit / name, tmp_path / "ours"
    sources = {source.name: folder / source.name for source in recipe.sources}
    build(recipe, sources, ours, options=BuildOptions(seed=SEED, threads=1), mergekit=mergekit)
    last = recipe.stages[-1].name if len(recipe.stages) > 1 else None
    assert_same_tensors(ours, folder / "theirs" / (last or ""))
    assert config_of(ours)["num_hidden_layers"] == FIGURES[name][0]
    assert {path.name for path in ours.iterdir()} >= {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }


@pytest.mark.parametrize("name", ["gemma-2-2b-rys-19-23", "llama-3.2-3b-rys-21-24", "qwen3.5-9b-rys-22-25"])
def test_builds_keep_the_kinds_of_layers(name: str, tmp_path: Path) -> None:
    """The published block of a checkpoint of that family and depth: bytes of the layers, and their types in the config."""
    entry = load_catalog(name)
    ((source, source_config),) = facts(entry).items()
    settings = dict(HYBRIDS.get(source_config.model_type, {}))
    settings |= {"num_hidden_layers": source_config.n_layers}
    settings |= {"layer_types": list(source_config.layer_types)} if source_config.layer_types else {}
    folder = tiny_of_type(tmp_path / "source", source_config.model_type, **settings)
    build(entry.recipe, {source: folder}, tmp_path / "out", options=BuildOptions(threads=1))
    config = config_of(tmp_path / "out")
    start, end = (entry.recipe.stages[0].modules[0].slices[n].inputs[0].layers for n in (1, 0))
    assert start is not None
    assert end is not None
    path = [*range(end[1]), *range(start[0], source_config.n_layers)]
    assert config["num_hidden_layers"] == FIGURES[name][0] == len(path)
    if source_config.layer_types:
        assert config["layer_types"] == [source_config.layer_types[layer] for layer in path]
