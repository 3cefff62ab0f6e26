"""What a report is asked about: a run, a comparison or a card, found by the name that the user gave."""

from __future__ import annotations

from pydantic import Field

from evals.engine import Frozen
from orchestrator.display.text_safety import line
from orchestrator.errors import RunError
from orchestrator.store import Store
from orchestrator.store.claim_records import CardSummary

DEFAULT_QUESTIONS = 12
_MOST_CARDS = 10_000


class ReportRequest(Frozen):
    """The options of `mergeboard report`."""

    names: tuple[str, ...] = Field(
        min_length=1, description="A run, a card, or candidates and imported results."
    )
    base: str | None = Field(
        default=None, description="What candidates are compared with; null is their own."
    )
    run: str | None = Field(default=None, description="Run that the names are candidates of.")
    force: bool = Field(default=False, description="Whether to show differences that are not like for like.")
    questions: int = Field(
        default=DEFAULT_QUESTIONS, ge=0, le=200, description="Flipped questions that are shown."
    )

    @property
    def command(self) -> str:
        """The command line of this report, without its file."""
        import shlex

        words = ["mergeboard", "report", *self.names]
        words += ["--base", self.base] if self.base is not None else []
        words += ["--run", self.run] if self.run is not None else []
        words += ["--force"] if self.force else []
        words += [] if self.questions == DEFAULT_QUESTIONS else ["--questions", str(self.questions)]
        return shlex.join([*words, "--out", "report.html"])


class ReportSubject(Frozen):
    """The subject of a report: exactly one of a run, a card, or candidates."""

    run_id: str | None = Field(default=None, description="Id of a run.")
    card_id: str | None = Field(default=None, description="Id of a card.")
    candidates: tuple[str, ...] = Field(default=(), description="Candidates and imported results.")


def find_subject(store: Store, request: ReportRequest) -> ReportSubject:
    """What the names of a request are. Raises RunError where they are nothing, or several things."""
    if request.base is not None or request.run is not None or len(request.names) > 1:
        return ReportSubject(candidates=request.names)
    name = request.names[0]
    try:
        return ReportSubject(run_id=store.find_run(name))
    except RunError as error:
        card = _card(store, name)
        if card is not None:
            return ReportSubject(card_id=card)
        if store.find_candidates(name, scored=True, limit=1) or store.find_imports(name):
            return ReportSubject(candidates=(name,))
        if "Several runs" in str(error):
            raise
        raise RunError(
            f"There is no run, card, candidate or imported result {line(name, 80)!r} in the store; `mergeboard status` lists the runs."
        ) from error


def _card(store: Store, name: str) -> str | None:
    """Id of the card of this id, file name, model name or checkpoint, the newest first; None if there is none."""
    matches = [card for card in store.cards(limit=_MOST_CARDS) if name in _names(card)]
    checked = [card for card in matches if card.reproduced_at is not None]
    return next((card.id for card in (*checked, *matches)), None)


def _names(card: CardSummary) -> tuple[str | None, ...]:
    return card.id, card.source, card.name, card.checkpoint
