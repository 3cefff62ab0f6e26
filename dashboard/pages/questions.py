"""Questions that two sides answered: a list with keys, and at its right a reader with both responses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import address, widgets
from dashboard.components.colours import component_colours
from dashboard.components.reader import LONG_RESPONSE, SideNames, reader_html
from dashboard.pairing import counted
from evals.documents import Document, question_of
from evals.scores import Sample
from orchestrator.compare.answers import Flip, Pair
from orchestrator.display.text_safety import escaped, line

Asked = dict[tuple[str, int], Document]
WINDOW = 100
"""Number of questions that the list holds at a time; the keys go on beyond them."""
_HERE = Path(__file__).parents[1] / "components"
_list = st.components.v2.component(
    "mergeboard_questions",
    html='<div class="questions"></div>',
    css=(_HERE / "question_list.css").read_text(encoding="utf-8"),
    js=(_HERE / "question_list.js").read_text(encoding="utf-8"),
)
_FLIPS = {
    Flip.GAINED: "Gained",
    Flip.LOST: "Lost",
    Flip.BOTH_RIGHT: "Both right",
    Flip.BOTH_WRONG: "Both wrong",
}
_MEANING = {
    Flip.GAINED: "The candidate did better than the base.",
    Flip.LOST: "The base did better than the candidate.",
    Flip.BOTH_RIGHT: "Both did equally well.",
    Flip.BOTH_WRONG: "Neither was right.",
}


def show(pairs: Sequence[Pair], base: str, candidate: str, asked: Asked, *, lost_first: bool = False) -> None:
    """Draw the questions that both sides answered; `base`, `candidate` are names.

    The page opens with the lost questions if `lost_first`, else with the gained ones.
    """
    counts = counted(pairs)
    order = (Flip.LOST, Flip.GAINED) if lost_first else (Flip.GAINED, Flip.LOST)
    default = next((f for f in (*order, Flip.BOTH_WRONG, Flip.BOTH_RIGHT) if counts[f]), Flip.GAINED)
    named = _named_pair(pairs)
    if named is not None and not address.value("flips"):
        default = named.flip
    flip = Flip(
        address.segments(
            "Show",
            "flips",
            [f.value for f in Flip],
            default=default.value,
            label_of=lambda f: f"{_FLIPS[Flip(f)]} ({counts[Flip(f)]:,})",
            resets=("doc",),
        )
    )
    matching = [p for p in pairs if p.flip is flip]
    if not matching:
        st.caption(f"No question is of this kind. {_MEANING[flip]}")
        return
    index = next((n for n, p in enumerate(matching) if named is not None and p.name == named.name), 0)
    if named is not None and named.flip is not flip:
        st.warning(
            f"The question of the address, {escaped(named.name, 80)}, is not in this list but in "
            f"“{_FLIPS[named.flip]}”: the first of this list is shown."
        )
    _draw(matching, index, flip, SideNames(base, candidate), asked)


def _named_pair(pairs: Sequence[Pair]) -> Pair | None:
    """The question that the address names; None, with a sentence on the page, if it names none of these."""
    name = address.value("doc")
    if not name:
        return None
    pair = next((p for p in pairs if p.name == name), None)
    if pair is None:
        address.say_unknown("question", name, "the first one")
    return pair


def _draw(matching: Sequence[Pair], index: int, flip: Flip, names: SideNames, asked: Asked) -> None:
    left, right = st.columns([4, 7], gap="medium")
    with left:
        _question_list(matching, index, flip, asked)
        st.caption(f"{_MEANING[flip]} Keys in the list: ↓ or j next, ↑ or k previous, Home, End.")
    pair = matching[index]
    with right, st.container(border=True, key="side_by_side"):
        st.html(reader_html(pair, names, question_of(pair.base, asked), component_colours()))
        for name, sample in zip(names, (pair.base, pair.candidate), strict=True):
            if len(sample.response) > LONG_RESPONSE:
                _whole_response(name, sample)


def _question_list(matching: Sequence[Pair], index: int, flip: Flip, asked: Asked) -> None:
    first = index // WINDOW * WINDOW
    several = len({pair.base.subset for pair in matching}) > 1

    def picked() -> None:
        chosen = st.session_state["question_list"].get("picked")
        if isinstance(chosen, int | float) and 0 <= int(chosen) < len(matching):
            address.put(doc=matching[int(chosen)].name)

    _list(
        key="question_list",
        data={
            "colours": component_colours(),
            "name": f"Questions: {_FLIPS[flip]}",
            "of": f"{flip.value} {len(matching)} {matching[0].name}",
            "first": first,
            "total": len(matching),
            "index": index,
            "items": [_item(pair, flip, asked, several) for pair in matching[first : first + WINDOW]],
        },
        on_picked_change=picked,
    )


def _item(pair: Pair, flip: Flip, asked: Asked, several: bool) -> dict[str, Any]:
    question = question_of(pair.base, asked)
    subset = f"{line(pair.base.subset.removeprefix('leaderboard_'), 50)}, " if several else ""
    return {
        "kind": flip.value.replace(" ", "-"),
        "marks": f"{mark(pair.base)} {'→' if flip in (Flip.GAINED, Flip.LOST) else ' '} {mark(pair.candidate)}",
        "meaning": flip.value,
        "title": line(question or _answer(pair.candidate) or "–", 160),
        "about": f"{subset}document {pair.base.doc_id}",
    }


def mark(sample: Sample) -> str:
    """✓ for right, ✗ for wrong, ◐ for an answer that is right in part."""
    return "✓" if sample.correct > 0.999 else "✗" if sample.correct < 0.001 else "◐"


def _answer(sample: Sample) -> str:
    return sample.extracted if sample.extracted is not None else sample.response[:400]


def _whole_response(name: str, sample: Sample) -> None:
    st.caption(f"Whole response of {escaped(name, 60)}: {len(sample.response):,} characters")
    widgets.download(
        "Whole response",
        "response.txt",
        lambda: sample.response.encode("utf-8", "replace"),
        "text/plain",
        f"response_{id(sample)}",
    )
