"""Normalizes the text of a layer path as far as that does not depend on the number of layers; see `recipes.layer_path`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from recipes.errors import LayerPathError
from recipes.layer_visit import WHOLE, Variant, Visit

MAX_VISITS = 8192
"""Maximum length of a path."""
MAX_TEXT = 100_000
"""Maximum length of the text of a layer path, in characters."""
_BLOCK = re.compile(r"\(\s*(\d{1,9})\s*,\s*(\d{1,9})\s*\)(?::([a-z0-9.=:]{1,60}))?")
_HELP = (
    'write "(45, 52)", "blocks:3,5;7,9", "repeat:10*3", "layers:0-52,45-80" (half-open ranges) or "baseline"; '
    "a visit can be followed by :attention, :mlp or :damped=0.5"
)


def quoted(text: str) -> str:
    """The text in quotes, shortened for messages."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def check_visits(count: int) -> None:
    """Raise LayerPathError for more visits than a path may have."""
    if count > MAX_VISITS:
        raise LayerPathError(
            f"The layer path visits more than {MAX_VISITS:,} layers; longer paths are not built."
        )


def format_list(layers: Sequence[int | str | Visit]) -> str:
    """A list of visits as text. Raises LayerPathError."""
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


def normalize(text: str) -> str:
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


def parse_pair(text: str) -> tuple[int, int, Variant]:
    """Two numbers and a variant, for example `3,5:mlp`. Raises ValueError or LayerPathError."""
    pair, variant = split_variant(text)
    first, second = pair.split(",")
    return _parse_number(first), _parse_number(second), variant


def split_variant(text: str) -> tuple[str, Variant]:
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
        parse_pair(part.replace("*", ","))
        for part in body.rstrip(";").split(";")
        if separator in part or _raise_value_error(part)
    ]
    if kind == "repeat":
        for layer, times, _ in pairs:
            if times < 1:
                raise LayerPathError(
                    f"repeat:{layer}*{times} runs layer {layer} {times} times; the least is 1."
                )
            check_visits(times)
        pairs = [pair for pair in pairs if pair[1] != 1]
    elif pairs == [(0, 0, WHOLE)]:
        pairs = []
    if any(i >= j for i, j, _ in pairs) and kind == "blocks":
        i, j, _ = next(pair for pair in pairs if pair[0] >= pair[1])
        raise LayerPathError(
            f"Block ({i}, {j}) repeats nothing: it needs i < j; (0, 0), alone, is the baseline."
        )
    texts = [f"{a}{separator}{b}{suffix_of(variant)}" for a, b, variant in pairs]
    return f"{kind}:" + ";".join(texts) if texts else "baseline"


def _raise_value_error(part: str) -> bool:
    raise ValueError(part)


def _normalize_ranges(_kind: str, body: str) -> str:
    parts: list[str] = []
    count = 0
    for part in re.sub(r"\[(\d+),(\d*)\)", r"\1-\2", body).split(","):
        range_, variant = split_variant(part)
        suffix = suffix_of(variant)
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
        check_visits(count)
    return "layers:" + ",".join(parts)


def suffix_of(variant: Variant) -> str:
    """The text after a layer or range: a colon and the variant, or nothing."""
    return f":{variant.text}" if variant.text else ""
