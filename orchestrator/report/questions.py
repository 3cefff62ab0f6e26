"""Choose questions that flipped, and mark where the two responses differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.claims.facts import Fact
from evals.documents import Document, documents_path, question_of, read_documents
from evals.errors import EvaluationError
from orchestrator.compare import Comparison, Side
from orchestrator.compare.answers import Flip, Pair, paired
from orchestrator.compare.run_comparisons import definition
from orchestrator.display.text_safety import plain
from orchestrator.display.word_diff import Piece, word_diff
from orchestrator.report.page import FlippedQuestion, ResponsePart

MOST_QUESTIONS = 200
"""Most questions that a report shows."""
LONGEST_QUESTION = 1_200
LONGEST_RESPONSE = 900
"""Characters of a question and of a response that are shown; a longer one is cut with a note of its length."""
_MOST_CHARACTERS = 400_000
"""Characters of all questions and responses together; where many are shown, each is cut shorter."""
_MOST_GROUPS = 40

Key = tuple[str, str]
Documents = Callable[[Side], Mapping[tuple[str, int], Document]]


@dataclass(frozen=True)
class FlipGroup:
    """Where questions are taken from: one benchmark of one candidate, and whether gains or losses come first."""

    candidate: str
    key: Key
    gained: bool


def flip_groups(comparisons: Sequence[Comparison]) -> tuple[FlipGroup, ...]:
    """The benchmarks to choose questions from: those with a shown difference; all of the candidates where there is none.

    Documents of which only the log-probability is measured are neither right nor wrong: such benchmarks have none.
    """
    rows = [
        (c.candidate, row)
        for c in comparisons
        for row in c.rows
        if row.delta is not None and not row.lower_is_better
    ]
    real = [(name, row) for name, row in rows if row.significant and row.delta is not None]
    chosen = real or sorted(
        rows, key=lambda item: -abs(item[1].delta.delta_points) if item[1].delta is not None else 0.0
    )
    groups = []
    for name, row in chosen[:_MOST_GROUPS]:
        assert row.delta is not None
        key = (row.suite, row.benchmark or "")
        groups += [FlipGroup(name, key, row.improved)]
    groups += [FlipGroup(group.candidate, group.key, not group.gained) for group in groups]
    return tuple(groups)


def choose_questions(
    groups: Sequence[FlipGroup],
    sides_of: Callable[[str], tuple[Sequence[Side], Sequence[Side]]],
    documents: Documents,
    count: int,
) -> tuple[tuple[FlippedQuestion, ...], tuple[str, ...]]:
    """At most `count` flipped questions, in turn from every group, spread over its documents; and remarks.

    `sides_of` gives the base's and the candidate's sides by the candidate's name. Questions of gated data sets are left out:
    their authors ask that they are not published.
    """
    queues: list[Iterator[FlippedQuestion]] = []
    notes: dict[str, None] = {}
    if count <= 0:
        return (), ()
    for group in groups:
        benchmark = definition(*group.key)
        if benchmark is not None and benchmark.dataset.gated:
            notes[
                f"Questions of {benchmark.title} are left out: its data set is gated and must not be published."
            ] = None
            continue
        base, candidate = (_side(sides, group.key) for sides in sides_of(group.candidate))
        if base is not None and candidate is not None:
            queues.append(_flips(group, base, candidate, documents, _MOST_CHARACTERS // (4 * count)))
    chosen: list[FlippedQuestion] = []
    while queues and len(chosen) < count:
        remaining = []
        for queue in queues:
            question = next(queue, None)
            if question is not None and len(chosen) < count:
                chosen.append(question)
                remaining.append(queue)
        queues = remaining
    order = {(g.candidate, g.gained): n for n, g in reversed(list(enumerate(groups)))}
    chosen.sort(key=lambda q: order.get((q.candidate, q.gained), 0))
    return tuple(chosen), tuple(notes)


def stored_documents(home: Path) -> Documents:
    """Reads the questions of a side's benchmark from the store's files, each file once."""
    kept: dict[str, Mapping[tuple[str, int], Document]] = {}

    def read(side: Side) -> Mapping[tuple[str, int], Document]:
        facts = side.measurement.facts
        path = documents_path(facts.get(Fact.DEFINITION) or "", facts.get(Fact.DATA) or "")
        if path not in kept:
            try:
                kept[path] = read_documents(home / path)
            except EvaluationError:
                kept[path] = {}
        return kept[path]

    return read


def _side(sides: Sequence[Side], key: Key) -> Side | None:
    for side in sides:
        facts = side.measurement.facts
        if (facts.get(Fact.SUITE), side.measurement.result.benchmark) == key and side.samples:
            return side
    return None


def _flips(
    group: FlipGroup, base: Side, candidate: Side, documents: Documents, room: int
) -> Iterator[FlippedQuestion]:
    flip = Flip.GAINED if group.gained else Flip.LOST
    flipped = [pair for pair in paired(base.samples, candidate.samples) if pair.flip is flip]
    title = base.measurement.result.title
    longest = min(LONGEST_RESPONSE, room)
    for pair in _spread(flipped):
        left, right = pair.base, pair.candidate
        asked = question_of(left, dict(documents(base)))
        parts = marked_difference(plain(left.response, longest), plain(right.response, longest))
        yield FlippedQuestion(
            candidate=group.candidate,
            place=f"{title} · {left.subset}, document {left.doc_id}",
            gained=group.gained,
            question=None if asked is None else plain(asked, min(LONGEST_QUESTION, room)),
            target=plain(left.target, longest),
            base=parts[0],
            response=parts[1],
        )


def _spread(items: Sequence[Pair]) -> Iterator[Pair]:
    """All items, far apart ones first: by the reversed bits of their index."""
    return (items[at] for at in sorted(range(len(items)), key=lambda at: int(f"{at:032b}"[::-1], 2)))


def marked_difference(base: str, candidate: str) -> tuple[tuple[ResponsePart, ...], tuple[ResponsePart, ...]]:
    """Both texts in parts; the words that the other does not have are marked as changed."""
    left, right = word_diff(base, candidate)
    return _parts(left), _parts(right)


def _parts(pieces: Sequence[Piece]) -> tuple[ResponsePart, ...]:
    return tuple(ResponsePart(text=piece.text, changed=piece.differs) for piece in pieces)
