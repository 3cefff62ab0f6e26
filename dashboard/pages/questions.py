"""Question view: how both sides answered, and one question with both responses side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import streamlit as st

from dashboard import address, widgets
from dashboard.pairing import counted
from dashboard.samples import Flip, Pair
from evals.documents import Document, question_of
from evals.scores import Sample
from orchestrator.display.text_safety import LONG, escaped, line, plain

Asked = dict[tuple[str, int], Document]
_QUESTIONS_PER_PAGE = 12
_FLIPS = {
    Flip.GAINED: "Gained: only the candidate is right",
    Flip.LOST: "Lost: only the base is right",
    Flip.BOTH_RIGHT: "Both right",
    Flip.BOTH_WRONG: "Both wrong",
}


def show(pairs: Sequence[Pair], base: str, candidate: str, asked: Asked) -> None:
    """Draw the questions that both sides answered, and the selected one; `base`, `candidate` are names."""
    counts = counted(pairs)
    default = next((f for f in (Flip.LOST, Flip.GAINED) if counts[f]), Flip.BOTH_WRONG)
    flip = address.segments(
        "Questions",
        "flips",
        [f.value for f in Flip],
        default=default.value,
        label_of=lambda f: f"{_FLIPS[Flip(f)]} ({counts[Flip(f)]:,})",
        resets=("doc", "questions"),
    )
    matching = [p for p in pairs if p.flip == flip]
    if not matching:
        st.caption("There is no such question.")
        return
    first = address.pager("questions", len(matching), _QUESTIONS_PER_PAGE, "questions")
    page = matching[first : first + _QUESTIONS_PER_PAGE]
    selected = widgets.table(
        [_cells(p, asked) for p in page],
        "flipped",
        select=("single-row", "single-cell"),
        columns={
            "Document": st.column_config.NumberColumn(width=90),
            "Question": st.column_config.TextColumn(width="large"),
        },
        height=widgets.table_height(len(page)),
        name="Questions",
    )
    for index in widgets.picked(selected, len(page)):
        address.put(doc=f"{page[index].base.subset}:{page[index].base.doc_id}")
    wanted_doc = address.value("doc")
    chosen = next((p for p in pairs if f"{p.base.subset}:{p.base.doc_id}" == wanted_doc), page[0])
    _side_by_side(chosen, (base, candidate), question_of(chosen.base, asked))


def _cells(pair: Pair, asked: Asked) -> dict[str, Any]:
    question = question_of(pair.base, asked)
    return {
        "Subset": line(pair.base.subset, 60),
        "Document": pair.base.doc_id,
        **({"Question": line(question or "–", 200)} if asked else {}),
        "Right answer": line(pair.base.target, 80),
        "Base": f"{_tick(pair.base)} {line(_answer(pair.base), 120)}",
        "Candidate": f"{_tick(pair.candidate)} {line(_answer(pair.candidate), 120)}",
    }


def _side_by_side(pair: Pair, names: tuple[str, str], question: str | None) -> None:
    with st.container(border=True, key="side_by_side"):
        st.markdown(f"**{escaped(pair.base.subset, 80)}, document {pair.base.doc_id}: {pair.flip.value}**")
        if question is not None:
            st.caption("Question")
            tall: int | Literal["content"] = 260 if _is_long(question) else "content"
            st.code(plain(question, LONG), language=None, wrap_lines=True, height=tall)
        st.caption("Right answer")
        st.code(plain(pair.base.target, 4000), language=None, wrap_lines=True)
        left, right = st.columns(2)
        for column, name, sample in zip((left, right), names, (pair.base, pair.candidate), strict=True):
            with column:
                _answer_box(name, sample)


def _answer_box(name: str, sample: Sample) -> None:
    st.markdown(f"{_tick(sample)} **{escaped(name, 60)}** · {sample.correct:.2f}")
    tall: int | Literal["content"] = 320 if _is_long(sample.response) else "content"
    st.code(plain(sample.response, LONG) or " ", language=None, wrap_lines=True, height=tall)
    facts = [f"found in it: {line(sample.extracted, 120)}"] if sample.extracted is not None else []
    if sample.truncated:
        facts.append("cut at its length limit")
    if sample.n_tokens:
        facts.append(f"{sample.n_tokens:,} tokens")
    facts.append(f"prompt {sample.prompt_hash}")
    st.caption(escaped(" · ".join(facts), 400))
    if sample.choices:
        widgets.table(
            [
                {"Choice": line(c, 200), "Log-probability": round(p, 4)}
                for c, p in zip(sample.choices, sample.logprobs, strict=False)
            ],
            f"choices_{name}_{id(sample)}",
            name="Choices",
        )
    if len(sample.response) > LONG:
        widgets.download(
            "Whole response",
            "response.txt",
            lambda: sample.response.encode("utf-8", "replace"),
            "text/plain",
            f"response_{id(sample)}",
        )


def _is_long(text: str) -> bool:
    return len(text) > 1200 or text.count("\n") > 14


def _answer(sample: Sample) -> str:
    return sample.extracted if sample.extracted is not None else sample.response[:400]


def _tick(sample: Sample) -> str:
    return "✓" if sample.correct >= 0.5 else "✗"
