"""Layer paths: the source layers that a forward pass visits, in order.

This module parses all spellings into a tuple of layer indices. Ranges are half-open:

    (45, 52)               block: layers [0, 52), then [45, N); (0, 0) is the unmodified checkpoint
    blocks:3,5;7,9         several blocks, applied in order: each inserts [i, j) after the last visit of layer j - 1
    repeat:10*3            layer 10 three times in place; separate several with `;`
    layers:0-52,45-80      ranges and single layers in order: [0, 52), then [45, 80); `45-` is [45, N)
    baseline               every layer once
    [0, 1, 2, 1, 2, 3]     a list of layers

A visit runs the whole layer, or what a suffix says (`recipes.layer_visit`): `attention`, `mlp`, `damped=0.5`, or both of the last:

    layers:0-8,5:attention,8-30,29:damped=0.5     of a layer or of each layer of a range
    (45, 52):mlp           the second pass through the block runs the MLPs alone; also blocks:45,52:mlp
    repeat:10*3:damped=0.5 the two visits that are added are damped
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from pydantic import Field, model_validator

from recipes.errors import LayerPathError
from recipes.layer_path_text import (
    MAX_VISITS,
    check_visits,
    format_list,
    normalize,
    parse_pair,
    quoted,
    split_variant,
    suffix_of,
)
from recipes.layer_visit import (
    WHOLE,
    Layers,
    Variant,
    Visit,
    attention_visits,
    is_whole_path,
    layer_of,
    variant_runs,
    visit_of,
)
from recipes.tensor_file import Frozen

MAX_LAYERS = 2048
"""Maximum number of layers of a source checkpoint; published ones have under 200."""


Block = tuple[int, int] | tuple[int, int, Variant]
"""A block [i, j), and the variant of the visits that it adds; without one they are whole."""


class LayerPath(Frozen):
    """A layer path of a checkpoint with a known number of layers. Raises LayerPathError for invalid layers."""

    layers: Layers = Field(
        description="Visits in execution order: the index of the source layer, or for example `5:attention`."
    )
    n_layers: int = Field(description="Number of layers of the source checkpoint.")

    @model_validator(mode="after")
    def _check(self) -> LayerPath:
        check_source(self.n_layers)
        if not self.layers:
            raise LayerPathError("The layer path visits no layer; name at least one.")
        if len(self.layers) > MAX_VISITS:
            raise LayerPathError(
                f"The layer path visits {len(self.layers):,} layers; at most {MAX_VISITS:,} are built."
            )
        invalid = next((v for v in map(layer_of, self.layers) if not 0 <= v < self.n_layers), None)
        if invalid is not None:
            raise LayerPathError(
                f"The layer path names layer {invalid}, but the checkpoint has {self.n_layers} layers "
                f"(0 to {self.n_layers - 1})."
            )
        return self

    @classmethod
    def parse(cls, value: str | Sequence[int | str | Visit], n_layers: int) -> LayerPath:
        """Parse a text or a list of visits for a checkpoint with `n_layers` layers."""
        return LayerPathSpec.parse(value).resolve(n_layers)

    @classmethod
    def of_validated(cls, layers: tuple[object, ...], n_layers: int) -> LayerPath:
        """A path of visits that were validated when it was planned; it is not validated again, which is slow for thousands."""
        return cls.model_construct(layers=cast("Layers", layers), n_layers=n_layers)

    @classmethod
    def baseline(cls, n_layers: int) -> LayerPath:
        """Path that visits every layer once, in order."""
        check_source(n_layers)
        return cls(layers=tuple(range(n_layers)), n_layers=n_layers)

    @classmethod
    def of_block(cls, i: int, j: int, n_layers: int) -> LayerPath:
        """Path [0, j), then [i, n_layers); (0, 0) is the baseline."""
        return cls.of_blocks(((i, j),), n_layers)

    @classmethod
    def of_blocks(cls, blocks: Sequence[Block], n_layers: int) -> LayerPath:
        """Baseline with each block [i, j) inserted after the last visit of layer j - 1, in the given order."""
        layers = list(cls.baseline(n_layers).layers)
        for i, j, *variant in blocks:
            if (i, j) == (0, 0) and len(blocks) == 1:
                break
            if not 0 <= i < j <= n_layers:
                raise LayerPathError(
                    f"Block ({i}, {j}) does not fit {n_layers} layers: it needs 0 <= i < j <= {n_layers}; "
                    "(0, 0), alone, is the baseline."
                )
            position = _end_of_last_visit(layers, j - 1)
            layers[position:position] = _visits(range(i, j), *variant)
            check_visits(len(layers))
        return cls(layers=tuple(layers), n_layers=n_layers)

    @property
    def is_baseline(self) -> bool:
        """Whether every layer runs once, in order."""
        return self.layers == tuple(range(self.n_layers))

    @property
    def block(self) -> tuple[int, int] | None:
        """The block (i, j) of this path, (0, 0) for the baseline, or None if it is not a single block."""
        if self.is_baseline:
            return (0, 0)
        runs = self.runs()
        if not self.is_whole or len(runs) != 2 or runs[0][0] != 0 or runs[1][1] != self.n_layers:
            return None
        return (runs[1][0], runs[0][1]) if runs[1][0] < runs[0][1] else None

    @property
    def varied_block(self) -> tuple[int, int, Variant] | None:
        """Block (i, j) and variant of a path [0, j), [i, j) in that variant, [j, n_layers); None for others."""
        runs = variant_runs(self.layers)
        if len(runs) not in (2, 3) or runs[1][2].is_whole or runs[0][0] != 0:
            return None
        (_, end, first), (i, j, variant) = runs[:2]
        rest = runs[2:] or ((j, self.n_layers, WHOLE),)
        fits = end == j and i < j and first.is_whole and rest == ((j, self.n_layers, WHOLE),)
        return (i, j, variant) if fits and bool(runs[2:]) == (j < self.n_layers) else None

    def block_of(self, variant: Variant) -> tuple[int, int] | None:
        """Block (i, j) of a path whose second pass runs in this variant; (0, 0) for the baseline; None for others."""
        if variant.is_whole or self.is_baseline:
            return self.block
        varied = self.varied_block
        return varied[:2] if varied and varied[2] == variant else None

    @property
    def is_whole(self) -> bool:
        """Whether every visit runs the whole layer, undamped."""
        return is_whole_path(self.layers)

    @property
    def canonical(self) -> str:
        """Canonical text: equal paths have equal texts, and `parse` reads it back."""
        return "layers:" + ",".join(
            _format_run(a, b) + suffix_of(variant) for a, b, variant in variant_runs(self.layers)
        )

    @property
    def label(self) -> str:
        """Short name for tables: `baseline`, `(45, 52)`, `(45, 52):attention` or the canonical text."""
        if self.is_baseline:
            return "baseline"
        if varied := self.varied_block:
            return f"({varied[0]}, {varied[1]}){suffix_of(varied[2])}"
        block = self.block
        return f"({block[0]}, {block[1]})" if block else self.canonical

    @property
    def source_layers(self) -> tuple[int, ...]:
        """The source layer of each visit."""
        return tuple(layer_of(visit) for visit in self.layers)

    @property
    def n_attention(self) -> int:
        """Number of visits that keep keys and values of their own."""
        return attention_visits(self.layers)

    @property
    def n_added(self) -> int:
        """Length of the path minus the number of source layers."""
        return len(self.layers) - self.n_layers

    def visits(self) -> tuple[int, ...]:
        """Number of visits of each source layer."""
        counts = Counter(self.source_layers)
        return tuple(counts[layer] for layer in range(self.n_layers))

    def runs(self) -> tuple[tuple[int, int], ...]:
        """Maximal ascending ranges [a, b) of visits of one variant, in order: the slices of a passthrough merge."""
        return tuple((a, b) for a, b, _ in variant_runs(self.layers))


class LayerPathSpec(Frozen):
    """A layer path of a checkpoint whose number of layers is not known yet, as normalized text."""

    text: str = Field(description="Normalized text of the path; `LayerPath.parse` reads it.")

    @model_validator(mode="after")
    def _check(self) -> LayerPathSpec:
        if normalize(self.text) != self.text:
            raise LayerPathError(
                f"{quoted(self.text)} is not the canonical text of a layer path; use LayerPathSpec.parse."
            )
        return self

    @classmethod
    def parse(cls, value: str | Sequence[int | str | Visit]) -> LayerPathSpec:
        """Parse any spelling of a layer path. Raises LayerPathError."""
        return cls(text=normalize(value if isinstance(value, str) else format_list(value)))

    def resolve(self, n_layers: int) -> LayerPath:
        """Resolve the path for a checkpoint with `n_layers` layers. Raises LayerPathError."""
        check_source(n_layers)
        kind, _, body = self.text.partition(":")
        if kind == "baseline":
            return LayerPath.baseline(n_layers)
        if kind == "blocks":
            return LayerPath.of_blocks([parse_pair(part) for part in body.split(";")], n_layers)
        if kind == "repeat":
            return _repeat_layers([parse_pair(part.replace("*", ",")) for part in body.split(";")], n_layers)
        return LayerPath(layers=tuple(_expand_ranges(body, n_layers)), n_layers=n_layers)


def check_source(n_layers: int) -> None:
    """Raise LayerPathError for an unsupported number of layers."""
    if not 1 <= n_layers <= MAX_LAYERS:
        raise LayerPathError(
            f"A checkpoint of {n_layers} layers is not supported; it may have 1 to {MAX_LAYERS:,}."
        )


def _end_of_last_visit(layers: list[int | Visit], layer: int) -> int:
    """Index after the last visit of `layer`, whole or not."""
    return len(layers) - [layer_of(visit) for visit in reversed(layers)].index(layer)


def _visits(layers: Iterable[int], variant: Variant = WHOLE) -> list[int | Visit]:
    return [visit_of(layer, variant) for layer in layers]


def _format_run(a: int, b: int) -> str:
    return str(a) if b == a + 1 else f"{a}-{b}"


def _expand_ranges(body: str, n_layers: int) -> Iterator[int | Visit]:
    for part in body.split(","):
        range_, variant = split_variant(part)
        first, dash, end = range_.partition("-")
        start, stop = int(first), int(end) if end else (n_layers if dash else int(first) + 1)
        if start >= stop:
            raise LayerPathError(f"The range {part} is empty: the checkpoint has {n_layers} layers.")
        yield from _visits(range(start, stop), variant)


def _repeat_layers(repeats: list[tuple[int, int, Variant]], n_layers: int) -> LayerPath:
    layers = list(LayerPath.baseline(n_layers).layers)
    for layer, times, variant in repeats:
        if layer >= n_layers:
            raise LayerPathError(
                f"Layer {layer} does not exist: the checkpoint has layers 0 to {n_layers - 1}."
            )
        position = _end_of_last_visit(layers, layer)
        layers[position:position] = _visits([layer] * (times - 1), variant)
        check_visits(len(layers))
    return LayerPath(layers=tuple(layers), n_layers=n_layers)


def map_variant(paths: Iterable[LayerPath]) -> Variant:
    """The variant whose blocks a map of (i, j) shows: whole if any path is a whole block, else the first one that varies."""
    first: Variant | None = None
    for path in paths:
        if path.block not in (None, (0, 0)):
            return WHOLE
        if first is None and (varied := path.varied_block):
            first = varied[2]
    return first or WHOLE
