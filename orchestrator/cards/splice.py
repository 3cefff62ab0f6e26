"""Write one of the forms of `mergeboard card` into a file of a model repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field

from evals.engine import Frozen
from orchestrator.cards.front_matter import KEY, decoded, find_front_matter, new_front_matter
from orchestrator.cards.read import read_bytes
from orchestrator.cards.write import update_readme
from orchestrator.errors import CardError
from recipes.atomic_file import write_file

MODEL_INDEX, EVAL_RESULTS = "model-index", "eval-results"
_BEGIN, _END = "<!-- mergeboard: begin {form} -->", "<!-- mergeboard: end {form} -->"
_YAML = (".yaml", ".yml")


class CardText(Frozen):
    """What `card` writes in one form."""

    form: str = Field(description="model-index, eval-results, table or improvement.")
    text: str = Field(description="The text in this form.")
    index: list[dict[str, Any]] | None = Field(
        default=None, description="The model-index; null in other forms and for smoke test scores."
    )
    refused: tuple[str, ...] = Field(default=(), description="Scores that are left out, and why.")


def require_for_a_file(written: CardText) -> None:
    """Raise CardError for the metadata of smoke test scores, which is shown but goes into no file."""
    if written.form == MODEL_INDEX and written.index is None:
        raise CardError(
            "Scores of smoke test data only show that everything works; a card takes a leaderboard's suite."
        )


def updated(path: Path, written: CardText) -> tuple[str, tuple[str, ...]]:
    """The new text of a file, and the names of results in its model-index that are kept because they are of other data sets.

    A README without metadata gets a metadata block, a README that does not exist is begun; tables replace the ones that
    mergeboard wrote before, or are added at the end; `.eval_results` go into a YAML file of their own.
    """
    if written.form == EVAL_RESULTS:
        if path.suffix.lower() not in _YAML:
            raise CardError(
                f"{path} cannot hold .eval_results; give --update a file of the repository's folder .eval_results, "
                "for example .eval_results/mergeboard.yaml."
            )
        return written.text, ()
    if path.suffix.lower() in _YAML:
        raise CardError(f"{path} is not a card; --format {written.form} goes into a README.md.")
    text = decoded(read_bytes(path), str(path)) if path.exists() else ""
    if written.form == MODEL_INDEX and written.index is not None:
        return _with_index(text, written.index, str(path))
    return _with_table(text, written), ()


def write_text(path: Path, text: str) -> None:
    """Write a file atomically, and its folder if that is `.eval_results`."""
    try:
        if path.parent.name == ".eval_results":
            path.parent.mkdir(exist_ok=True)
        write_file(path, text.encode("utf-8"))
    except OSError as error:
        raise CardError(f"Card {path} cannot be written ({error.strerror}); it is as it was.") from error


def _with_index(text: str, index: list[dict[str, Any]], source: str) -> tuple[str, tuple[str, ...]]:
    metadata = find_front_matter(text, source)
    if metadata is None:
        return new_front_matter(text, index, source), ()
    merged, kept = _merged(metadata.data.get(KEY), index)
    return update_readme(text, merged, source), kept


def _merged(old: Any, index: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The new model-index with the results of the old one that are of other data sets at its end, and their names."""
    entry = old[0] if isinstance(old, list) and len(old) == 1 and isinstance(old[0], dict) else {}
    results = entry.get("results")
    new = {_dataset(result) for result in index[0]["results"]}
    others = [
        result
        for result in (results if isinstance(results, list) else [])
        if isinstance(result, dict) and _dataset(result)[0] and _dataset(result) not in new
    ]
    names = tuple(str(r["dataset"].get("name") or r["dataset"].get("type")) for r in others)
    return [{**index[0], "results": [*index[0]["results"], *others]}], names


def _dataset(result: dict[str, Any]) -> tuple[str, str]:
    dataset = result.get("dataset")
    if not isinstance(dataset, dict):
        return "", ""
    return str(dataset.get("type") or ""), str(dataset.get("config") or "")


def _with_table(text: str, written: CardText) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    begin, end = (mark.format(form=written.form) for mark in (_BEGIN, _END))
    block = f"{begin}\n{written.text.rstrip()}\n{end}".replace("\n", newline)
    present = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", text, re.DOTALL)
    if present is not None:
        return text[: present.start()] + block + text[present.end() :]
    gap = "" if not text else newline if text.endswith(("\n", "\r")) else newline * 2
    return f"{text}{gap}{block}{newline}"
