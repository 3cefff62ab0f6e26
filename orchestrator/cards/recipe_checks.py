"""Check whether a card's recipe can be what the card describes: lost layers, misplaced settings, a base that is no source.

The recipe is read as text, so that one that mergekit refuses can be judged too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evals.claims.records import CardCheck, CheckKind, CheckOutcome
from recipes.errors import RecipeSyntaxError
from recipes.extract import Proposal
from recipes.yaml_text import load_yaml_documents

_SETTINGS = (
    "t",
    "weight",
    "density",
    "gamma",
    "epsilon",
    "lambda",
    "normalize",
    "int8_mask",
    "scale",
    "filter_wise",
)
_BASE_AMONG_SOURCES = ("slerp", "nuslerp")
_MAX_LAYERS = 10_000
_MAX_ITEMS = 500


def check_recipe(proposal: Proposal, layers: Mapping[str, int]) -> tuple[CardCheck, ...]:
    """Check one recipe of a card. `layers` has the number of layers of each source that is known."""
    try:
        documents = load_yaml_documents(proposal.text, "the recipe")
    except RecipeSyntaxError:
        return ()
    line = proposal.lines[0][0] if proposal.lines else None
    checks = []
    for document in documents:
        if isinstance(document.data, dict):
            for outcome, sentence in _problems(document.data, layers):
                checks.append(CardCheck(kind=CheckKind.RECIPE, outcome=outcome, sentence=sentence, line=line))
    return tuple(dict.fromkeys(checks))


def _problems(data: Mapping[str, Any], layers: Mapping[str, int]) -> Iterator[tuple[CheckOutcome, str]]:
    yield from _misplaced(data)
    yield from _base(data)
    yield from _twice(data)
    yield from _lost_layers(data, layers)


def _misplaced(data: Mapping[str, Any]) -> Iterator[tuple[CheckOutcome, str]]:
    """Settings that stand beside `merge_method` or beside `model` instead of under `parameters`."""
    top = [key for key in _SETTINGS if key in data and "merge_method" in data]
    inputs = {key for entry in _entries(data) for key in _SETTINGS if key in entry}
    for key in top:
        yield (
            CheckOutcome.FAILS,
            f"`{key}` stands beside `merge_method`, where mergekit ignores it; it belongs under `parameters`.",
        )
    for key in sorted(inputs):
        yield (
            CheckOutcome.FAILS,
            f"`{key}` stands beside `model`, where mergekit ignores it; it belongs under `parameters` of that input.",
        )


def _base(data: Mapping[str, Any]) -> Iterator[tuple[CheckOutcome, str]]:
    base, names = _text(data.get("base_model")), _names(data)
    if base and names and base not in names and _text(data.get("merge_method")) in _BASE_AMONG_SOURCES:
        yield (
            CheckOutcome.FAILS,
            f"The base {base} is no source of this {data['merge_method']} ({_join(sorted(set(names)))}): mergekit refuses it today; "
            "that of 2023 took the second source as the base, so that t counts from there, and so it is built.",
        )


def _twice(data: Mapping[str, Any]) -> Iterator[tuple[CheckOutcome, str]]:
    models = [_text(e.get("model")) for e in _mappings(data.get("models"))]
    for name in sorted({m for m in models if m and models.count(m) > 1}):
        yield (
            CheckOutcome.FAILS,
            f"{name} is listed {models.count(name)} times under `models`: mergekit before 0.1.5 counted it once, with the "
            "first entry's parameters, and so it is built.",
        )


def _lost_layers(data: Mapping[str, Any], layers: Mapping[str, int]) -> Iterator[tuple[CheckOutcome, str]]:
    """Layers that no slice has: between the slices, before the first, after the last. Ranges are half-open."""
    ranges = [r for entry in _slice_entries(data) if (r := _range(entry)) is not None]
    if not ranges:
        return
    covered = sorted({(a, b) for _, a, b in ranges})
    reached, end = covered[0][0], covered[0][0]
    if reached > 0:
        yield (
            CheckOutcome.FAILS,
            f"{_layers(0, reached)} in no slice: the first layer that is used is {reached}.",
        )
    for first, last in covered:
        if first > end:
            yield (
                CheckOutcome.FAILS,
                f"{_layers(end, first)} in no slice: `layer_range` does not include its end, so the ranges must meet as [a, b] and [b, c].",
            )
        end = max(end, last)
    depths = {layers[name] for name, _, _ in ranges if name in layers}
    if len(depths) == 1 and (depth := depths.pop()) > end:
        yield (
            CheckOutcome.FAILS,
            f"{_layers(end, depth)} in no slice: the source has {depth} layers and `layer_range` does not include its end.",
        )
    elif not depths and end % 4 == 3:
        yield (
            CheckOutcome.NOTE,
            f"The slices end with layer {end - 1}, since `layer_range` does not include its end: if the source has {end + 1} layers, its last "
            "one is lost.",
        )


def _entries(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from _mappings(data.get("models"))
    yield from _slice_entries(data)


def _slice_entries(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for part in _mappings(data.get("slices")):
        yield from _mappings(part.get("sources"))


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value[:_MAX_ITEMS] if isinstance(item, dict)] if isinstance(value, list) else []


def _names(data: Mapping[str, Any]) -> list[str]:
    return [name for entry in _entries(data) if (name := _text(entry.get("model")))]


def _range(entry: Mapping[str, Any]) -> tuple[str, int, int] | None:
    value = entry.get("layer_range")
    if not isinstance(value, list) or len(value) != 2:
        return None
    first, last = value
    if not all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= _MAX_LAYERS for v in value):
        return None
    return (_text(entry.get("model")), first, last) if first < last else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _layers(first: int, end: int) -> str:
    return f"Layer {first} is" if end - first == 1 else f"Layers {first} to {end - 1} are"


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
