"""Merges that follow each other in one process: what they keep changes no bit and stays within its bound."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

from recipes.merge import MergedWeights, arithmetic
from recipes.merge.kept import KeptTensors, _memory, bytes_to_keep, kept
from recipes.merge.mergekit_worker import ordered_configuration
from recipes.recipe import METHODS, BasePolicy, Recipe
from tests.support.merge_recipes import SOURCES, sources_in
from tests.support.tiny_checkpoints import tiny_checkpoint

SEED = 7
NUMBERS: tuple[dict[str, Any], ...] = (
    {"weight": [0.9, 0.3], "density": 0.6, "t": 0.3, "select_topk": 0.4, "gamma": 0.1, "normalize": True},
    {"weight": [0.2, -0.7], "density": 0.35, "t": [0.9, 0.1], "select_topk": 0.7, "rescale": True, "lambda": 0.7},
    {"weight": 0.5, "density": [0.3, 0.6], "t": 0.8, "epsilon": 0.1, "normalize": False, "int8_mask": True, "scale": 0.5},
)  # fmt: skip
DTYPES = ("bfloat16", "bfloat16", "float32")
ORDER = (0, 1, 0, 0, 2, 1, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sources of two dtypes; many magnitudes are equal in bfloat16."""
    root = tmp_path_factory.mktemp("sources")
    for seed, source in enumerate(SOURCES):
        dtype = "float16" if seed == 2 else "bfloat16"
        tiny_checkpoint(root / source, layers=1, seed=seed, dtype=dtype, vocabulary=64)
    return root


@pytest.fixture(autouse=True)
def nothing_is_kept_from_other_tests() -> Iterator[None]:
    kept.cache_clear()
    yield
    kept.cache_clear()


def recipe(method: str, numbers: dict[str, Any], dtype: str) -> dict[str, Any]:
    """A merge of two or three sources with the numbers that the method reads."""
    rules = {rule.name: rule.scope.value for rule in METHODS[method].parameters}
    models = {1: ["org/one"], 2: ["org/one"]}.get(METHODS[method].max_inputs or 3, ["org/one", "org/two"])
    of_models = {key: value for key, value in numbers.items() if rules.get(key) in ("input", "non_base")}
    document: dict[str, Any] = {
        "merge_method": method,
        "models": [{"model": model, "parameters": of_models} for model in models],
        "parameters": {key: value for key, value in numbers.items() if rules.get(key) == "shared"},
        "dtype": dtype,
    }
    if METHODS[method].base is not BasePolicy.IGNORED:
        document["base_model"] = "org/base"
    return document


def live(text: str, folder: Path, keep_bytes: int | None = None) -> dict[str, torch.Tensor]:
    weights = MergedWeights(
        recipe=Recipe.parse(text).canonical_text,
        digest="0" * 16,
        sources=tuple(sources_in(folder).items()),
        seed=SEED,
        keep_bytes=keep_bytes,
    )
    return {name: tensor.clone() for name, tensor in weights.tensors()}


def built(document: dict[str, Any], folder: Path, out: Path) -> dict[str, torch.Tensor]:
    """What mergekit writes."""
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    text = json.dumps(document).replace("org/", f"{folder}/org/")
    options = MergeOptions(random_seed=SEED, write_model_card=False, quiet=True, copy_tokenizer=False)
    with threads(1):
        run_merge(ordered_configuration(json.loads(text)), str(out), options)
    tensors: dict[str, torch.Tensor] = load_file(out / "model.safetensors")
    return tensors


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run a block with so many threads of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    """Same names, dtypes, shapes and bits."""
    return ours.keys() == theirs.keys() and all(equal_bits(ours[name], theirs[name]) for name in ours)


def equal_bits(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    alike = (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    return alike and torch.equal(ours.reshape(-1).view(torch.uint8), theirs.reshape(-1).view(torch.uint8))


@pytest.mark.parametrize("method", METHODS)
def test_numbers_that_change_back_and_forth(method: str, folder: Path, tmp_path: Path) -> None:
    """Every merge of a sequence is what mergekit writes, also where nothing changed and where memory is short."""
    documents = [recipe(method, *values) for values in zip(NUMBERS, DTYPES, strict=True)]
    expected = [built(document, folder, tmp_path / str(n)) for n, document in enumerate(documents)]
    sizes = []
    for number in ORDER:
        assert same(live(json.dumps(documents[number]), folder), expected[number]), number
        sizes.append(kept().size)
    assert sizes[-1] == sizes[-2]  # nothing but results comes again, and those were kept before
    for number in (0, 1):
        assert same(live(json.dumps(documents[number]), folder, keep_bytes=100_000), expected[number]), number
        assert kept().size <= 100_000


@pytest.mark.parametrize("method", ["ties", "dare_ties", "della_linear"])
def test_only_the_weight_changes(method: str, folder: Path, tmp_path: Path) -> None:
    """Sparsified vectors are kept from the second merge on; the weight of the third and fourth is new."""
    sizes = []
    for number, weight in enumerate((0.2, 0.4, 0.9, -0.3)):
        document = recipe(method, {"weight": weight, "density": 0.4}, "bfloat16")
        assert same(live(json.dumps(document), folder), built(document, folder, tmp_path / str(number)))
        sizes.append(kept().size)
    assert sizes[0] < sizes[1] == sizes[2] == sizes[3]


def test_what_a_stage_made_is_not_taken_for_a_source(folder: Path) -> None:
    """Results of earlier stages are in memory; nothing identifies them, and the numbers of the first stage change."""
    merges = []
    for density, weight in itertools.product((0.3, 0.6), (0.4, 0.9)):
        first = {**recipe("dare_ties", {"weight": 0.5, "density": density}, "bfloat16"), "name": "drawn"}
        second = recipe("ties", {"weight": weight, "density": 0.5}, "float32")
        second["models"][0]["model"] = "drawn"
        text = f"{json.dumps(first)}\n---\n{json.dumps(second)}\n"
        after_others = live(text, folder)
        kept.cache_clear()
        assert same(after_others, live(text, folder))
        merges.append(after_others["model.layers.0.mlp.up_proj.weight"])
    assert not any(torch.equal(first, second) for first, second in itertools.combinations(merges, 2))


def special(count: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Numbers with zeros of both signs, infinities, and equal magnitudes."""
    values = torch.randint(-4, 5, (count,), generator=torch.Generator().manual_seed(seed)).to(dtype) / 4
    values[::7] = -0.0
    values[1::53] = float("inf")
    return values.reshape(-1, 5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("piece", [1 << 18, 61])
def test_kernels_are_mergekits(dtype: torch.dtype, piece: int) -> None:
    """Pieces of any size, one to four sources, signed zeros and infinities: the bits of mergekit's own kernels."""
    from mergekit.merge_methods import linear, registry, slerp
    from mergekit.merge_methods.base import TensorBatch, TensorGroup
    from mergekit.merge_methods.generalized_task_arithmetic import GeneralizedTaskArithmeticMerge

    ours = arithmetic.merge_group(GeneralizedTaskArithmeticMerge.merge_group)
    tensors = [special(1015, dtype, seed) for seed in range(5)]
    with patch.object(arithmetic, "PIECE", piece):
        for sources, normalize, name in itertools.product(
            (1, 2, 3, 4), (True, False), ("ties", "breadcrumbs")
        ):
            method = registry.get(name)
            assert isinstance(method, GeneralizedTaskArithmeticMerge)
            group = TensorGroup.from_tensors(tensors[: sources + 1], base_index=0)
            names = [entry.id for entry in group.non_base]
            parameters = {
                "weight": dict(zip(names, (0.7, -0.2, 0.0, 1.3), strict=False)),
                "density": dict(zip(names, (0.5, 1.0, 0.3, 0.0), strict=False)),
                "gamma": dict.fromkeys(names, 0.1),
                "normalize": normalize, "lambda": 0.3 if sources == 3 else 1.0, "rescale": True, "int8_mask": sources == 2,
            }  # fmt: skip
            # The sign of what is not a number depends on the processor's kernel.
            got, expected = ours(method, group, **parameters), method.merge_group(group, **parameters)
            assert equal_bits(*(torch.where(tensor.isnan(), 0, tensor) for tensor in (got, expected)))
            assert torch.equal(got.isnan(), expected.isnan())
            batch = TensorBatch(tuple(tensor.unsqueeze(0) for tensor in tensors[:sources]))
            weight = torch.tensor([[0.7, -0.2, 0.1, 1.3][:sources]])
            kernel = linear.linear_merge.implementation
            got, expected = (f(batch, weight, normalize) for f in (arithmetic.linear(kernel), kernel))
            assert equal_bits(*(torch.where(tensor.isnan(), 0, tensor) for tensor in (got, expected)))
        finite = [tensor.nan_to_num(posinf=1).unsqueeze(0) for tensor in tensors]
        for size, pair in itertools.product((1 << 20, 100), (finite[:2], [finite[0], finite[0]])):
            with patch.object(slerp, "_CHUNK_ELEMENTS", size):
                angles = arithmetic.Angles(KeptTensors(), lambda: "sources", slerp.slerp)
                for t in (0.0, 0.3, 1.0):
                    number = torch.tensor([t])
                    assert equal_bits(angles(number, *pair), slerp.slerp(number, *pair))


def test_what_is_kept_is_bounded_and_given_back(folder: Path) -> None:
    """Every merge of a search keeps what the first ones did; after another search began, nothing of the old one is left."""
    sizes, numbers = [], []
    with patch("recipes.merge.kept.MERGES", 3):
        for number in range(12):
            values = {"weight": number / 12, "density": 0.3 + number / 100}
            live(json.dumps(recipe("dare_ties", values, "bfloat16")), folder)
            sizes.append(kept().size)
            numbers.append(len(kept()))
        assert sizes[1] == sizes[-1] > 0
        assert numbers[4] == numbers[-1]
        for number in range(5):
            live(json.dumps(recipe("linear", {"weight": number + 1}, "bfloat16")), folder)
        assert kept().size == 0


def test_entries_of_this_and_the_last_merge_stay() -> None:
    store = KeptTensors()
    tensor = torch.zeros(100, dtype=torch.uint8)
    store.begin(250)
    for key in "abc":
        store.keep(key, (tensor,))
    assert [store.get(key) is not None for key in "abc"] == [True, True, False]
    store.begin(250)
    store.get("b")
    store.begin(250)
    store.keep("c", (tensor,))
    assert [store.get(key) is not None for key in "abc"] == [False, True, True]
    store.begin(100)
    assert store.size == 100


def test_nothing_is_kept_while_memory_is_short() -> None:
    with patch("recipes.merge.kept._memory", return_value=(8000, 999)):
        assert bytes_to_keep(None) == bytes_to_keep(1 << 40) == 0
    with patch("recipes.merge.kept._memory", return_value=(8000, 1000)):
        assert bytes_to_keep(1 << 20) == 1 << 20
        assert bytes_to_keep(None) == 1000


def test_a_container_has_the_memory_that_it_is_given() -> None:
    files = {"MemAvailable:": 1 << 30, "inactive_file": 300}
    group: dict[str, int | None] = {"memory.max": 4000, "memory.current": 3500}
    with patch(
        "recipes.merge.kept._number", lambda file, name=None: files[name] if name else group[file.name]
    ):
        assert _memory() == (4000, 800)
        group["memory.max"] = None
        assert _memory()[1] == (1 << 30) * 1024
    total, available = _memory()
    assert 0 < available <= total


@pytest.mark.parametrize("method", ["dare_ties", "breadcrumbs", "nuslerp", "model_stock", "karcher"])
def test_the_number_of_threads_changes_no_bit(method: str, tmp_path: Path) -> None:
    """Sums over so many elements are shared by threads; norms of rescaled vectors, cosines and angles are such sums."""
    for seed, source in enumerate(SOURCES):
        tiny_checkpoint(tmp_path / source, layers=1, hidden=256, seed=seed, dtype="float32", vocabulary=64)
    text = json.dumps(recipe(method, NUMBERS[1], "float32"))
    merges = []
    for count in (1, 2, 3):
        with threads(count):
            merges.append(live(text, tmp_path, keep_bytes=0))
    assert all(same(merges[0], other) for other in merges[1:])
