"""Layer paths: the source layers that a forward pass visits, in order.

This module parses all spellings into a tuple of layer indices. Ranges are half-open:

    (45, 52)               block: layers [0, 52), then [45, N); (0, 0) is the unmodified checkpoint
    blocks:3,5;7,9         several blocks, applied in order: each inserts [i, j) after the last visit of layer j - 1
    repeat:10*3            layer 10 three times in place; separate several with `;`
    layers:0-52,45-80      ranges and single layers in order: [0, 52), then [45, 80); `45-` is [45, N)
    baseline               every layer once
    [0, 1, 2, 1, 2, 3]     a list of layers
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from pydantic import Field, model_validator

from recipes.errors import LayerPathError
from recipes.tensor_file import Frozen

MAX_LAYERS = 2048
"""Maximum number of layers of a source checkpoint; published ones have under 200."""
MAX_VISITS = 8192
"""Maximum length of a path."""
MAX_TEXT = 100_000
"""Maximum length of the text of a layer path, in characters."""

_BLOCK = re.compile(r"\(\s*(\d{1,9})\s*,\s*(\d{1,9})\s*\)")
_HELP = (
    'write "(45, 52)", "blocks:3,5;7,9", "repeat:10*3", "layers:0-52,45-80" (half-open ranges) or "baseline"'
)


class LayerPath(Frozen):
    """A layer path of a checkpoint with a known number of layers. Raises LayerPathError for invalid layers."""

    layers: tuple[int, ...] = Field(description="Indices of the source layers in execution order.")
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
        invalid = next((layer for layer in self.layers if not 0 <= layer < self.n_layers), None)
        if invalid is not None:
            raise LayerPathError(
                f"The layer path names layer {invalid}, but the checkpoint has {self.n_layers} layers "
                f"(0 to {self.n_layers - 1})."
            )
        return self

    @classmethod
    def parse(cls, value: str | Sequence[int], n_layers: int) -> LayerPath:
        """Parse a text or a list of layers for a checkpoint with `n_layers` layers."""
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
    def of_blocks(cls, blocks: Sequence[tuple[int, int]], n_layers: int) -> LayerPath:
        """Baseline with each block [i, j) inserted after the last visit of layer j - 1, in the given order."""
        layers = list(cls.baseline(n_layers).layers)
        for i, j in blocks:
            if (i, j) == (0, 0) and len(blocks) == 1:
                break
            if not 0 <= i < j <= n_layers:
                raise LayerPathError(
                    f"Block ({i}, {j}) does not fit {n_layers} layers: it needs 0 <= i < j <= {n_layers}; "
                    "(0, 0), alone, is the baseline."
                )
            position = _end_of_last_visit(layers, j - 1)
            layers[position:position] = range(i, j)
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
        if len(runs) != 2 or runs[0][0] != 0 or runs[1][1] != self.n_layers or runs[1][0] >= runs[0][1]:
            return None
        return (runs[1][0], runs[0][1])

    @property
    def canonical(self) -> str:
        """Canonical text: equal paths have equal texts, and `parse` reads it back."""
        return "layers:" + ",".join(_format_run(a, b) for a, b in self.runs())

    @property
    def label(self) -> str:
        """Short name for tables: `baseline`, `(45, 52)` or the canonical text."""
        if self.is_baseline:
            return "baseline"
        block = self.block
        return f"({block[0]}, {block[1]})" if block else self.canonical

    @property
    def n_added(self) -> int:
        """Length of the path minus the number of source layers."""
        return len(self.layers) - self.n_layers

    def visits(self) -> tuple[int, ...]:
        """Number of visits of each source layer."""
        counts = Counter(self.layers)
        return tuple(counts[layer] for layer in range(self.n_layers))

    def runs(self) -> tuple[tuple[int, int], ...]:
        """Maximal ascending ranges [a, b) of the path, in order: the slices of a passthrough merge."""
        runs: list[tuple[int, int]] = []
        for layer in self.layers:
            if runs and runs[-1][1] == layer:
                runs[-1] = (runs[-1][0], layer + 1)
            else:
                runs.append((layer, layer + 1))
        return tuple(runs)


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
    def parse(cls, value: str | Sequence[int]) -> LayerPathSpec:
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


def _end_of_last_visit(layers: list[int], layer: int) -> int:
    """Index after the last visit of `layer`."""
    return len(layers) - layers[::-1].index(layer)


def _format_run(a: int, b: int) -> str:
    return str(a) if b == a + 1 else f"{a}-{b}"


def _format_list(layers: Sequence[int]) -> str:
    if any(type(layer) is not int for layer in layers):
        raise LayerPathError(
            f"A layer path as a list holds whole numbers only, not {quoted(str(list(layers)[:9]))}."
        )
    if len(layers) > MAX_VISITS:
        raise LayerPathError(
            f"The layer path visits {len(layers):,} layers; at most {MAX_VISITS:,} are built."
        )
    if any(layer < 0 for layer in layers):
        raise LayerPathError(f"Layer {min(layers)} does not exist; layers are counted from 0.")
    if len(layers) == 2:
        i, j = layers
        raise LayerPathError(
            f'[{i}, {j}] could be a block or a list of two layers: write "({i}, {j})" or "layers:{i},{j}".'
        )
    return "layers:" + ",".join(str(layer) for layer in layers)


def _normalize(text: str) -> str:
    """Normalized text; checks everything that does not depend on the number of layers."""
    if len(text) > MAX_TEXT:
        raise LayerPathError(f"A layer path of {len(text):,} characters is not read; at most {MAX_TEXT:,}.")
    compact = re.sub(r" ?([^\w\s]) ?", r"\1", " ".join(text.split()))
    if compact.startswith("("):
        blocks = _BLOCK.findall(compact)
        if re.sub(r"[;,+]", "", _BLOCK.sub("", compact)) or not blocks:
            raise LayerPathError(f"{quoted(text)} is not a layer path: {_HELP}.")
        compact = "blocks:" + ";".join(f"{i},{j}" for i, j in blocks)
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


def _parse_pair(text: str) -> tuple[int, int]:
    first, second = text.split(",")
    return _parse_number(first), _parse_number(second)


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
        for layer, times in pairs:
            if times < 1:
                raise LayerPathError(
                    f"repeat:{layer}*{times} runs layer {layer} {times} times; the least is 1."
                )
            _check_visits(times)
        pairs = [pair for pair in pairs if pair[1] != 1]
    elif pairs == [(0, 0)]:
        pairs = []
    if any(i >= j for i, j in pairs) and kind == "blocks":
        i, j = next(pair for pair in pairs if pair[0] >= pair[1])
        raise LayerPathError(
            f"Block ({i}, {j}) repeats nothing: it needs i < j; (0, 0), alone, is the baseline."
        )
    return f"{kind}:" + ";".join(f"{a}{separator}{b}" for a, b in pairs) if pairs else "baseline"


def _raise_value_error(part: str) -> bool:
    raise ValueError(part)


def _normalize_ranges(_kind: str, body: str) -> str:
    parts: list[str] = []
    count = 0
    for part in re.sub(r"\[(\d+),(\d*)\)", r"\1-\2", body).split(","):
        first, dash, end = part.partition("-")
        start = _parse_number(first)
        if not dash or (end and _parse_number(end) == start + 1):
            parts.append(str(start))
            count += 1
        elif not end:
            parts.append(f"{start}-")
        elif _parse_number(end) <= start:
            raise LayerPathError(
                f"The range {part} is empty: ranges are half-open, {first}-{end} is [{first}, {end})."
            )
        else:
            parts.append(f"{start}-{_parse_number(end)}")
            count += _parse_number(end) - start
        _check_visits(count)
    return "layers:" + ",".join(parts)


def _expand_ranges(body: str, n_layers: int) -> Iterator[int]:
    for part in body.split(","):
        first, dash, end = part.partition("-")
        start, stop = int(first), int(end) if end else (n_layers if dash else int(first) + 1)
        if start >= stop:
            raise LayerPathError(f"The range {part} is empty: the checkpoint has {n_layers} layers.")
        yield from range(start, stop)


def _repeat_layers(repeats: list[tuple[int, int]], n_layers: int) -> LayerPath:
    layers = list(LayerPath.baseline(n_layers).layers)
    for layer, times in repeats:
        if layer >= n_layers:
            raise LayerPathError(
                f"Layer {layer} does not exist: the checkpoint has layers 0 to {n_layers - 1}."
            )
        position = _end_of_last_visit(layers, layer)
        layers[position:position] = [layer] * (times - 1)
        _check_visits(len(layers))
    return LayerPath(layers=tuple(layers), n_layers=n_layers)
