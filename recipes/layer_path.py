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

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pydantic import Field, model_validator

from recipes.errors import LayerPathError
from recipes.layer_visit import (
    WHOLE,
    Layers,
    Variant,
    Visit,
    attention_visits,
    is_whole_path,
    layer_of,
    variant_of,
    variant_runs,
    visit_of,
)
from recipes.tensor_file import Frozen

MAX_LAYERS = 2048
"""Maximum number of layers of a source checkpoint; published ones have under 200."""
MAX_VISITS = 8192
"""Maximum length of a path."""
MAX_TEXT = 100_000
"""Maximum length of the text of a layer path, in characters."""

_BLOCK = re.compile(r"\(\s*(\d{1,9})\s*,\s*(\d{1,9})\s*\)(?::([a-z0-9.=:]{1,60}))?")
_HELP = (
    'write "(45, 52)", "blocks:3,5;7,9", "repeat:10*3", "layers:0-52,45-80" (half-open ranges) or "baseline"; '
    "a visit can be followed by :attention, :mlp or :damped=0.5"
)

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
            _check_visits(len(layers))
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

    @property
    def is_whole(self) -> bool:
        """Whether every visit runs the whole layer, undamped."""
        return is_whole_path(self.layers)

    @property
    def canonical(self) -> str:
        """Canonical text: equal paths have equal texts, and `parse` reads it back."""
        return "layers:" + ",".join(
            _format_run(a, b) + _suffix(variant) for a, b, variant in variant_runs(self.layers)
        )

    @property
    def label(self) -> str:
        """Short name for tables: `baseline`, `(45, 52)`, `(45, 52):attention` or the canonical text."""
        if self.is_baseline:
            return "baseline"
        if varied := self.varied_block:
            return f"({varied[0]}, {varied[1]}){_suffix(varied[2])}"
        return f"({self.block[0]}, {self.block[1]})" if self.block else self.canonical

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
        if _normalize(self.text) != self.text:
            raise LayerPathError(
                f"{quoted(self.text)} is not the canonical text of a layer path; use LayerPathSpec.parse."
            )
        return self

    @classmethod
    def parse(cls, value: str | Sequence[int | str | Visit]) -> LayerPathSpec:
        """Parse any spelling of a layer path. Raises LayerPathError."""
        return cls(text=_normalize(value if isinstance(value, str) else _format_list(value)))

    def resolve(self, n_layers: int) -> LayerPath:
        """Resolve the path for a checkpoint with `n_layers` layers. Raises LayerPathError."""
        check_source(n_layers)
        kind, _, body = self.text.partition(":")
        if kind == "baseline":
            return LayerPath.baseline(n_layers)
        if kind == "blocks":
            return LayerPath.of_blocks([_parse_pair(part) for part in body.split(";")], n_layers)
        if kind == "repeat":
            return _repeat_layers([_parse_pair(part.replace("*", ",")) for part in body.split(";")], n_layers)
        return LayerPath(layers=tuple(_expand_ranges(body, n_layers)), n_layers=n_layers)


def check_source(n_layers: int) -> None:
    """Raise LayerPathError for an unsupported number of layers."""
    if not 1 <= n_layers <= MAX_LAYERS:
        raise LayerPathError(
            f"A checkpoint of {n_layers} layers is not supported; it may have 1 to {MAX_LAYERS:,}."
        )


def _check_visits(count: int) -> None:
    if count > MAX_VISITS:
        raise LayerPathError(
            f"The layer path visits more than {MAX_VISITS:,} layers; longer paths are not built."
        )


def quoted(text: str) -> str:
    """The text in quotes, shortened for messages."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _end_of_last_visit(layers: list[int | Visit], layer: int) -> int:
    """Index after the last visit of `layer`, whole or not."""
    return len(layers) - [layer_of(visit) for visit in reversed(layers)].index(layer)


def _visits(layers: Iterable[int], variant: Variant = WHOLE) -> list[int | Visit]:
    return [visit_of(layer, variant) for layer in layers]


def _suffix(variant: Variant) -> str:
    return f":{variant.text}" if variant.text else ""


def _format_run(a: int, b: int) -> str:
    return str(a) if b == a + 1 else f"{a}-{b}"


def _format_list(layers: Sequence[int | str | Visit]) -> str:
    if len(layers) > MAX_VISITS:
        raise LayerPathError(
            f"The layer path visits {len(layers):,} layers; at most {MAX_VISITS:,} are built."
        )
    numbers = [layer for layer in layers if type(layer) is int]
    texts = [layer.text if isinstance(layer, Visit) else layer for layer in layers]
    if any(type(text) is not int and not (isinstance(text, str) and ":" in text) for text in texts):
        raise LayerPathError(
            "A layer path as a list holds whole numbers, or visits such as '5:attention', only, not "
            f"{quoted(str(list(layers)[:9]))}."
        )
    if any(layer < 0 for layer in numbers):
        raise LayerPathError(f"Layer {min(numbers)} does not exist; layers are counted from 0.")
    if len(layers) == len(numbers) == 2:
        i, j = numbers
        raise LayerPathError(
            f'[{i}, {j}] could be a block or a list of two layers: write "({i}, {j})" or "layers:{i},{j}".'
        )
    return "layers:" + ",".join(str(text) for text in texts)


def _normalize(text: str) -> str:
    """Normalized text; checks everything that does not depend on the number of layers."""
    if len(text) > MAX_TEXT:
        raise LayerPathError(f"A layer path of {len(text):,} characters is not read; at most {MAX_TEXT:,}.")
    compact = re.sub(r" ?([^\w\s]) ?", r"\1", " ".join(text.split()))
    if compact.startswith("("):
        blocks = _BLOCK.findall(compact)
        if re.sub(r"[;,+]", "", _BLOCK.sub("", compact)) or not blocks:
            raise LayerPathError(f"{quoted(text)} is not a layer path: {_HELP}.")
        compact = "blocks:" + ";".join(
            f"{i},{j}:{variant}" if variant else f"{i},{j}" for i, j, variant in blocks
        )
    kind, _, body = compact.partition(":")
    parsers = {
        "baseline": _normalize_baseline,
        "blocks": _normalize_pairs,
        "repeat": _normalize_pairs,
        "layers": _normalize_ranges,
    }
    if kind not in parsers:
        raise LayerPathError(f"{quoted(text)} is not a layer path: {_HELP}.")
    try:
        return parsers[kind](kind, body)
    except ValueError:
        raise LayerPathError(f"{quoted(text)} is not a layer path: {_HELP}.") from None


def _parse_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError(text)
    return int(text)


def _parse_pair(text: str) -> tuple[int, int, Variant]:
    pair, variant = _split_variant(text)
    first, second = pair.split(",")
    return _parse_number(first), _parse_number(second), variant


def _split_variant(text: str) -> tuple[str, Variant]:
    """The text before the first colon and the variant after it."""
    place, colon, variant = text.partition(":")
    return place, Variant.parse(variant) if colon else WHOLE


def _normalize_baseline(_kind: str, body: str) -> str:
    if body:
        raise ValueError(body)
    return "baseline"


def _normalize_pairs(kind: str, body: str) -> str:
    separator = "," if kind == "blocks" else "*"
    pairs = [
        _parse_pair(part.replace("*", ","))
        for part in body.rstrip(";").split(";")
        if separator in part or _raise_value_error(part)
    ]
    if kind == "repeat":
        for layer, times, _ in pairs:
            if times < 1:
                raise LayerPathError(
                    f"repeat:{layer}*{times} runs layer {layer} {times} times; the least is 1."
                )
            _check_visits(times)
        pairs = [pair for pair in pairs if pair[1] != 1]
    elif pairs == [(0, 0, WHOLE)]:
        pairs = []
    if any(i >= j for i, j, _ in pairs) and kind == "blocks":
        i, j, _ = next(pair for pair in pairs if pair[0] >= pair[1])
        raise LayerPathError(
            f"Block ({i}, {j}) repeats nothing: it needs i < j; (0, 0), alone, is the baseline."
        )
    texts = [f"{a}{separator}{b}{_suffix(variant)}" for a, b, variant in pairs]
    return f"{kind}:" + ";".join(texts) if texts else "baseline"


def _raise_value_error(part: str) -> bool:
    raise ValueError(part)


def _normalize_ranges(_kind: str, body: str) -> str:
    parts: list[str] = []
    count = 0
    for part in re.sub(r"\[(\d+),(\d*)\)", r"\1-\2", body).split(","):
        range_, variant = _split_variant(part)
        suffix = _suffix(variant)
        first, dash, end = range_.partition("-")
        start = _parse_number(first)
        if not dash or (end and _parse_number(end) == start + 1):
            parts.append(f"{start}{suffix}")
            count += 1
        elif not end:
            parts.append(f"{start}-{suffix}")
        elif _parse_number(end) <= start:
            raise LayerPathError(
                f"The range {part} is empty: ranges are half-open, {first}-{end} is [{first}, {end})."
            )
        else:
            parts.append(f"{start}-{_parse_number(end)}{suffix}")
            count += _parse_number(end) - start
        _check_visits(count)
    return "layers:" + ",".join(parts)


def _expand_ranges(body: str, n_layers: int) -> Iterator[int | Visit]:
    for part in body.split(","):
        range_, variant = _split_variant(part)
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
        _check_visits(len(layers))
    return LayerPath(layers=tuple(layers), n_layers=n_layers)
