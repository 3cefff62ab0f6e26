"""One question with both responses as HTML: the words that differ are marked; all foreign text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from evals.scores import Sample
from orchestrator.compare.answers import Pair
from orchestrator.display.text_safety import LONG, line, plain
from orchestrator.display.word_diff import Piece, word_diff

LONG_RESPONSE = LONG
"""Longer responses are cut, and can be downloaded."""
_CSS = """
.mb-reader{container-type:inline-size;color:%(ink)s;font-size:14px;line-height:1.5}
.mb-reader h4{font-size:15px;margin:0 0 6px;padding:0;font-weight:600}
.mb-reader .mb-label{color:%(faint)s;font-size:12.5px;margin:10px 0 3px}
.mb-reader .mb-text{white-space:pre-wrap;overflow-wrap:anywhere;margin:0;padding:8px 10px;border:1px solid %(edge)s;
border-radius:6px;background:%(paper)s;font:13px/1.5 "Source Code Pro",ui-monospace,monospace;max-height:340px;overflow:auto;color:%(ink)s}
.mb-reader .mb-question{max-height:240px}
.mb-reader .mb-sides{display:grid;grid-template-columns:minmax(0,1fr);gap:14px;margin-top:4px}
.mb-reader mark{background:%(differs)s;color:inherit;border-radius:2px;box-shadow:inset 0 -2px 0 %(faint)s}
.mb-reader table{border-collapse:collapse;width:100%%;font-size:13px;margin-top:4px}
.mb-reader td,.mb-reader th{border-bottom:1px solid %(grid)s;padding:3px 8px;text-align:left;font-weight:400}
.mb-reader thead th{color:%(faint)s}
.mb-reader .mb-number{text-align:right;font-variant-numeric:tabular-nums}
.mb-reader .mb-right{color:%(better)s;font-weight:600}
.mb-reader .mb-wrong{color:%(worse)s;font-weight:600}
.mb-reader .mb-facts{color:%(faint)s;font-size:12.5px;margin-top:4px;overflow-wrap:anywhere}
@container (min-width:520px){.mb-reader .mb-sides{grid-template-columns:minmax(0,1fr) minmax(0,1fr)}}
"""


class SideNames(NamedTuple):
    """Display names of the two sides."""

    base: str
    candidate: str


def reader_html(pair: Pair, names: SideNames, question: str | None, colours: dict[str, str]) -> str:
    """The question, the right answer, and both responses, with a style sheet of their own."""
    base, candidate = pair.base, pair.candidate
    title = f"{line(base.subset, 80)}, document {base.doc_id}: {pair.flip.value}"
    parts = [f"<h4>{_text(title)}</h4>"]
    if question is not None:
        parts.append(
            '<div class="mb-label">Question</div>'
            + _box(_text(plain(question, LONG)), "Question", " mb-question")
        )
    if base.choices or not base.items:
        parts.append(
            '<div class="mb-label">Right answer</div>' + _box(_text(plain(base.target, 4000)), "Right answer")
        )
    parts.append(_items(base, candidate, names))
    left, right = word_diff(plain(base.response, LONG), plain(candidate.response, LONG))
    sides = zip(names, (base, candidate), (left, right), strict=True)
    boxes = "".join(_side(name, sample, pieces) for name, sample, pieces in sides)
    parts.append(f'<div class="mb-sides">{boxes}</div>')
    if base.choices and base.choices == candidate.choices:
        parts.append(_choices(base, candidate, names))
    if base.response == candidate.response:
        parts.append('<div class="mb-facts">Both responses are the same text.</div>')
    return f'<style>{_CSS % colours}</style><div class="mb-reader">{"".join(parts)}</div>'


def _text(text: str) -> str:
    return escape(text, quote=True)


def _box(content: str, label: str, more: str = "") -> str:
    """A box that scrolls, and can be reached by the keyboard to do so."""
    name = _text(line(label, 80))
    return f'<div class="mb-text{more}" tabindex="0" role="region" aria-label="{name}">{content or "&nbsp;"}</div>'


def _side(name: str, sample: Sample, pieces: Sequence[Piece]) -> str:
    kind, word = _verdict(sample)
    marked = "".join(f"<mark>{_text(p.text)}</mark>" if p.differs else _text(p.text) for p in pieces)
    facts = [f"read as: {line(sample.extracted, 120)}"] if sample.extracted is not None else []
    if sample.truncated:
        facts.append("cut at its length limit")
    if sample.n_tokens:
        facts.append(f"{sample.n_tokens:,} tokens")
    facts.append(f"prompt {line(sample.prompt_hash, 32)}")
    head = f'<div class="mb-label"><span class="{kind}">{word}</span> {_text(line(name, 60))}</div>'
    box = _box(marked, f"Response of {name}")
    return f'<div>{head}{box}<div class="mb-facts">{_text(" · ".join(facts))}</div></div>'


def _verdict(sample: Sample) -> tuple[str, str]:
    if sample.correct > 0.999:
        return "mb-right", "✓ right"
    if sample.correct < 0.001:
        return "mb-wrong", "✗ wrong"
    return "mb-label", f"◐ {sample.correct:.2f} of 1"


def _items(base: Sample, candidate: Sample, names: SideNames) -> str:
    """A document scored in several items: which ones each side kept; their number where that is all that is known."""
    metric = next(iter(sorted({item.metric for item in base.items}, key=_strict_first)), None)
    if metric is None:
        counts = [_count(sample) for sample in (base, candidate)]
        if not all(counts):
            return ""
        text = "; ".join(f"{line(n, 60)}: {c}" for n, c in zip(names, counts, strict=True))
        return f'<div class="mb-label">Items kept</div><div>{_text(text)}</div>'
    sides = [{i.name: i.value for i in s.items if i.metric == metric} for s in (base, candidate)]
    rows = "".join(
        f'<tr><th scope="row">{_text(line(name, 80))}</th>{_kept(sides[0].get(name))}{_kept(sides[1].get(name))}</tr>'
        for name in dict.fromkeys([*sides[0], *sides[1]])
    )
    head = "".join(f'<th scope="col">{_text(line(name, 40))}</th>' for name in names)
    title = f"What the answer must keep ({line(metric, 60)})"
    return (
        f'<div class="mb-label">{_text(title)}</div><table><thead><tr><th scope="col">Item</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _strict_first(metric: str) -> tuple[bool, str]:
    return "strict" not in metric, metric


def _kept(value: float | None) -> str:
    if value is None:
        return "<td>–</td>"
    kind, word = ("mb-right", "✓ kept") if value >= 0.5 else ("mb-wrong", "✗ broken")
    return f'<td class="{kind}">{word}</td>'


def _count(sample: Sample) -> str | None:
    metric = next(iter(sorted(sample.weights, key=_strict_first)), None)
    if metric is None or metric not in sample.metrics or sample.weights[metric] < 2:
        return None
    total = sample.weights[metric]
    return f"{sample.metrics[metric] * total:.0f} of {total:.0f}"


def _choices(base: Sample, candidate: Sample, names: SideNames) -> str:
    """The choices with both sides' log-probabilities; the right one and the chosen ones are marked."""
    rows = []
    for number, choice in enumerate(base.choices[:40]):
        is_right = choice.strip() == base.target.strip()
        right = ' <span class="mb-right">✓ right answer</span>' if is_right else ""
        cells = "".join(
            f'<td class="mb-number">{_logprob(s, number)}{" ◀" if _chose(s, choice) else ""}</td>'
            for s in (base, candidate)
        )
        rows.append(f'<tr><th scope="row">{_text(line(choice, 200))}{right}</th>{cells}</tr>')
    head = "".join(f'<th scope="col" class="mb-number">{_text(line(name, 40))}</th>' for name in names)
    return (
        '<div class="mb-label">Log-probability of each choice (◀ chosen)</div>'
        f'<table><thead><tr><th scope="col">Choice</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def _chose(sample: Sample, choice: str) -> bool:
    """Whether this choice is the answer; a probe's response lists all choices, and its answer is what was read of it."""
    return choice == sample.response or choice.strip() == (sample.extracted or "").strip()


def _logprob(sample: Sample, number: int) -> str:
    return f"{sample.logprobs[number]:.3f}" if number < len(sample.logprobs) else "–"
