"""Finds blocks of lines in a card that look like merge recipes: fenced, indented, quoted, or plain text."""

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
"""Lines that occur only in a merge recipe."""

_FENCE = re.compile(r"(?P<lead>[\s>]*+)(?P<fence>`{3,}+|~{3,}+)(?P<info>[^`]*+)$")
_TAG = re.compile(r"</?(pre|code|details|summary|p|br|div|span)\b[^<>\n]{0,200}+>")
_QUOTE = re.compile(r"^(\s{0,3}>\s?)+")
_TITLE = re.compile(r"[\w][\w .+/-]{0,118}[\w]")


class Block(Frozen):
    """Consecutive lines that look like a recipe."""

    first_line: int = Field(description="First line in the card, counted from 1.")
    last_line: int = Field(description="Last line in the card.")
    text: str = Field(description="Text without the common indent.")
    title: str | None = Field(
        default=None, description="Name in the line above the block; null if there is none."
    )
    lead: str = Field(default="", description="Last line of text above the block.")


def find_blocks(markdown: str) -> tuple[Block, ...]:
    """All blocks that look like recipes, in order; front matter is skipped."""
    lines = [_TAG.sub("", line).replace("\u00a0", " ").rstrip() for line in markdown.splitlines()[:MAX_LINES]]
    start = _after_front_matter(lines)
    blocks: list[Block] = []
    unfenced_start = start
    for opening, closing in _fences(lines, start):
        blocks += _unfenced_blocks(lines, unfenced_start, opening)
        fenced = _make_block(lines, opening + 1, closing)
        if fenced and _TOP.match(_first_content(fenced.text)):
            blocks.append(fenced)
        else:
            blocks += _unfenced_blocks(lines, opening + 1, closing)
        unfenced_start = closing + 1
    blocks += _unfenced_blocks(lines, unfenced_start, len(lines))
    return tuple(blocks[:MAX_BLOCKS])


def front_matter(markdown: str) -> str:
    """The YAML front matter of a card; empty if there is none."""
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
    """Indices of opening and closing line of each fenced block; an unclosed one ends with the text."""
    index = start
    while index < len(lines):
        opening = _FENCE.match(lines[index])
        if not opening:
            index += 1
            continue
        fence = opening["fence"]
        closing = index + 1
        while closing < len(lines):
            end = _FENCE.match(lines[closing])
            if end and not end["info"].strip() and end["fence"].startswith(fence):
                break
            closing += 1
        yield index, closing
        index = closing + 1


def _unfenced_blocks(lines: Sequence[str], start: int, end: int) -> list[Block]:
    """Recipes in unfenced lines: each starts at a top-level key and ends where lines stop being YAML of that indent."""
    blocks: list[Block] = []
    index = start
    while index < end:
        key_line = _TOP.match(_QUOTE.sub("", lines[index]))
        if not key_line:
            index += 1
            continue
        stop = _yaml_end(lines, index, end, len(key_line["indent"]))
        block = _make_block(lines, index, stop)
        if block:
            blocks.append(block)
        index = max(stop, index + 1)
    return blocks


def _yaml_end(lines: Sequence[str], start: int, end: int, indent: int) -> int:
    """Index after the last line of the YAML document that starts at `start`."""
    last = start
    for index in range(start + 1, end):
        line = _QUOTE.sub("", lines[index])
        content = line.lstrip()
        if not content or content.startswith("#"):
            continue
        line_indent = len(line) - len(content)
        top = _TOP.match(line)
        deeper = line_indent > indent or (line_indent == indent and content.startswith("- "))
        if not deeper and not (top and line_indent == indent) and content != "---":
            break
        last = index
    return last + 1


def _make_block(lines: Sequence[str], start: int, end: int) -> Block | None:
    while start < end and not lines[start].strip():
        start += 1
    while start < end and not lines[end - 1].strip():
        end -= 1
    text = textwrap.dedent("\n".join(_QUOTE.sub("", line) for line in lines[start:end]))
    if not _MARKS.search(text):
        return None
    lead = _text_above(lines, start)
    return Block(first_line=start + 1, last_line=end, text=text, title=_title_of(lead), lead=lead)


def _first_content(text: str) -> str:
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return next((line for line in lines if line.strip() != "---"), "")


def _text_above(lines: Sequence[str], start: int) -> str:
    """Last line of text above the block or its fence."""
    lines_above = [
        line for line in lines[max(0, start - 5) : start] if line.strip() and not _FENCE.match(line)
    ]
    return lines_above[-1].strip() if lines_above else ""


def _title_of(lead: str) -> str | None:
    """The name, if the line holds nothing else: `Name :`, `### Name`, `**Name**`, `Name.yml`."""
    text = lead.lstrip("#>-* ").rstrip(": ").strip("*_`\"' ").rstrip(": ").strip("*_`\"' ")
    for ending in (".yaml", ".yml"):
        text = text.removesuffix(ending)
    return text if _TITLE.fullmatch(text) and len(text.split()) <= 2 and looks_like_model_name(text) else None


def looks_like_model_name(word: str) -> bool:
    """Whether a word could be the name of a model: it has a digit, `_` or `-`."""
    return re.search(r"[\d_-]", word) is not None
