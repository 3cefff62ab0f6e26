"""Finds the stretches of a card's text that look like merge recipes: fenced, indented, quoted, or plain in a page."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from pydantic import Field

from recipes.tensor_file import Frozen

MAX_LINES = 100_000
MAX_BLOCKS = 100

_KEYS = (
    "merge_method|slices|models|modules|base_model|parameters|dtype|out_dtype|tokenizer_source|tokenizer|chat_template|"
    "name|gate_mode|experts|genome|layer_slices|base|layer_path"
)
_TOP = re.compile(rf"(?P<indent>\s*+)(?P<key>{_KEYS})\s*+:(\s|$)")
_MARKS = re.compile(
    r"^[^\S\n]*+(merge_method\s*+:\s*+\S|slices[^\S\n]*+:[^\S\n]*+$|(layer_range|gate_mode|layer_slices|genome|layer_path)\s*+:)",
    re.MULTILINE,
)
"""What makes a stretch of YAML a merge and nothing else."""

_FENCE = re.compile(r"(?P<lead>[\s>]*+)(?P<fence>`{3,}+|~{3,}+)(?P<info>[^`]*+)$")
_TAG = re.compile(r"</?(pre|code|details|summary|p|br|div|span)\b[^<>\n]{0,200}+>")
_QUOTE = re.compile(r"^(\s{0,3}>\s?)+")
_TITLE = re.compile(r"[\w][\w .+/-]{0,118}[\w]")


class Block(Frozen):
    """A stretch of lines that looks like a recipe."""

    first_line: int = Field(description="Its first line in the card, from 1.")
    last_line: int = Field(description="Its last line.")
    text: str = Field(description="Its text without the common indent.")
    title: str | None = Field(default=None, description="The name that stands over it, if one does.")
    lead: str = Field(default="", description="The last line of text over it, a sentence perhaps.")


def find_blocks(markdown: str) -> tuple[Block, ...]:
    """All stretches that look like recipes, in order; the card's front matter is none."""
    lines = [_TAG.sub("", line).replace("\u00a0", " ").rstrip() for line in markdown.splitlines()[:MAX_LINES]]
    start = _after_front_matter(lines)
    found: list[Block] = []
    plain_from = start
    for opening, closing in _fences(lines, start):
        found += _plain(lines, plain_from, opening)
        inside = _block(lines, opening + 1, closing)
        if inside and _TOP.match(_first_content(inside.text)):
            found.append(inside)
        else:
            found += _plain(lines, opening + 1, closing)
        plain_from = closing + 1
    found += _plain(lines, plain_from, len(lines))
    return tuple(found[:MAX_BLOCKS])


def front_matter(markdown: str) -> str:
    """The YAML at the head of a card, or nothing."""
    lines = markdown.splitlines()[:MAX_LINES]
    return "\n".join(lines[1 : max(1, _after_front_matter(lines) - 1)])


def _after_front_matter(lines: Sequence[str]) -> int:
    if not lines or lines[0].lstrip("\ufeff").rstrip() != "---":
        return 0
    closing = next((n for n, line in enumerate(lines[1:], 1) if line.rstrip() in ("---", "...")), None)
    if closing is None or any(_TOP.match(line) and "merge_method" in line for line in lines[:closing]):
        return 0
    return closing + 1


def _fences(lines: Sequence[str], start: int) -> Iterator[tuple[int, int]]:
    """(opening line, closing line) of each fenced block; one that is never closed runs to the end."""
    number = start
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        if not opening:
            number += 1
            continue
        mark = opening["fence"]
        closing = number + 1
        while closing < len(lines):
            end = _FENCE.match(lines[closing])
            if end and not end["info"].strip() and end["fence"].startswith(mark):
                break
            closing += 1
        yield number, closing
        number = closing + 1


def _plain(lines: Sequence[str], start: int, end: int) -> list[Block]:
    """Recipes among lines without fences: from a top-level key as far as the lines go on being YAML of one indent."""
    found: list[Block] = []
    number = start
    while number < end:
        top = _TOP.match(_QUOTE.sub("", lines[number]))
        if not top:
            number += 1
            continue
        stop = _yaml_end(lines, number, end, len(top["indent"]))
        block = _block(lines, number, stop)
        if block:
            found.append(block)
        number = max(stop, number + 1)
    return found


def _yaml_end(lines: Sequence[str], start: int, end: int, indent: int) -> int:
    """The line after the last that belongs to the document that starts at `start`."""
    last = start
    for number in range(start + 1, end):
        line = _QUOTE.sub("", lines[number])
        content = line.lstrip()
        if not content or content.startswith("#"):
            continue
        here = len(line) - len(content)
        top = _TOP.match(line)
        deeper = here > indent or (here == indent and content.startswith("- "))
        if not deeper and not (top and here == indent) and content != "---":
            break
        last = number
    return last + 1


def _block(lines: Sequence[str], start: int, end: int) -> Block | None:
    while start < end and not lines[start].strip():
        start += 1
    while start < end and not lines[end - 1].strip():
        end -= 1
    text = textwrap.dedent("\n".join(_QUOTE.sub("", line) for line in lines[start:end]))
    if not _MARKS.search(text):
        return None
    lead = _lead(lines, start)
    return Block(first_line=start + 1, last_line=end, text=text, title=_title(lead), lead=lead)


def _first_content(text: str) -> str:
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return next((line for line in lines if line.strip() != "---"), "")


def _lead(lines: Sequence[str], start: int) -> str:
    """The text in the line over the block or its fence."""
    above = [line for line in lines[max(0, start - 5) : start] if line.strip() and not _FENCE.match(line)]
    return above[-1].strip() if above else ""


def _title(lead: str) -> str | None:
    """A name on its own: `Name :`, `### Name`, `**Name**`, `Name.yml`."""
    text = lead.lstrip("#>-* ").rstrip(": ").strip("*_`\"' ").rstrip(": ").strip("*_`\"' ")
    for ending in (".yaml", ".yml"):
        text = text.removesuffix(ending)
    return text if _TITLE.fullmatch(text) and len(text.split()) <= 2 and like_a_name(text) else None


def like_a_name(word: str) -> bool:
    """Whether a word of a text could name a model: plain words do not count."""
    return re.search(r"[\d_-]", word) is not None
