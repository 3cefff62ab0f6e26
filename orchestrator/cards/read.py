"""A model card as values: who it is about, its figures, what it says of their making, and what can be checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import Field

from evals.claims.arithmetic import (
    RecipeSize,
    base_of_row,
    bases_in,
    check_averages,
    check_changes,
    check_contradictions,
    check_parameters,
    check_readings,
    fitting_base,
)
from evals.claims.board import BoardRow, board_rows, confounds, find_row, rows_of
from evals.claims.build import claims_of
from evals.claims.facts import Facts
from evals.claims.labels import card_suites, match_label
from evals.claims.records import CardCheck, CheckKind, CheckOutcome, Claim, Figure
from evals.engine import Frozen
from evals.suite import Suite
from orchestrator.cards.figures import figures_of_index
from orchestrator.cards.front_matter import (
    KEY,
    MAX_BYTES,
    FrontMatter,
    decoded,
    find_front_matter,
    find_pasted,
    in_code,
)
from orchestrator.cards.grid import Grid, grids
from orchestrator.cards.stated import stated_facts
from orchestrator.cards.subjects import Names, find_names, headings
from orchestrator.cards.tables import figures_of_grid
from orchestrator.errors import CardError
from recipes.outside_file import read_file

_REPO = re.compile(r"(?<![\w./@-])([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}[A-Za-z0-9])(?![\w/])")
_HUB_LINK = re.compile(r"huggingface\.co/([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}[\w])")
_NOT_MODELS = ("spaces/", "datasets/", "docs/", "blog/", "papers/", "collections/", "settings/")
_BASED = re.compile(
    r"\b(?:based on|base model|fine-?tuned? (?:of|from|on)|built (?:on|from)|derived from|self-merge of)\b",
    re.IGNORECASE,
)
_SIZE = re.compile(
    r"(?<![\w.])(?P<number>\d{1,4}(?:\.\d{1,4})?)\s?(?P<unit>[BM]|billion|million)[ -]+param",
    re.IGNORECASE,
)
_SIZE_LISTED = re.compile(
    r"\bparam\w*(?:\s+count)?(?:\s+of)?[\s:|=*`~]{1,12}(?P<number>\d{1,4}(?:\.\d{1,4})?)\s?(?P<unit>[BM]|billion|million)\b",
    re.IGNORECASE,
)
# Sizes that are said of something else than the model.
_OF_OTHERS = re.compile(
    r"\b(?:adds?|added|adding|additional|extra|more|than|versus|vs|compared|from|other|by)\b[^,]*$",
    re.IGNORECASE,
)
_SIZE_IN_NAME = re.compile(r"(?:^|[_-])(?P<number>\d{1,4}(?:\.\d{1,3})?)(?P<unit>[BbMm])(?:$|[_.-])")


_MEASURED = re.compile(r"\b(?:evaluation|benchmarks?|leaderboard|scores|results)\b", re.IGNORECASE)
_MAX_CELLS = 10_000


class StatedSize(Frozen):
    """A count of parameters that a card gives."""

    parameters_b: float = Field(gt=0, description="The count, in 1e9.")
    rounding_b: float = Field(ge=0, description="How far off it may be, in 1e9, as it is written.")
    source: str = Field(description="Where it stands, for people.")


class Card(Frozen):
    """A model card, read."""

    source: str = Field(description="File or address, for people.")
    name: str | None = Field(description="Name of the model, as the card gives it.")
    checkpoint: str | None = Field(description="Its repository on the hub, as far as the card says.")
    has_front_matter: bool = Field(description="Whether it begins with metadata between '---' lines.")
    model_index: list[Any] | None = Field(description="The `model-index` as data; null where there is none.")
    figures: tuple[Figure, ...] = Field(description="Every score and change in it.")
    stated: Facts = Field(description="What it says of how its figures were measured.")
    bases: tuple[str, ...] = Field(description="Repositories that it says it is made from, likeliest first.")
    mentioned: tuple[str, ...] = Field(description="Every repository that it names.")
    sizes: tuple[StatedSize, ...] = Field(description="Counts of parameters that it gives.")


def load_card(path: Path, suites: Sequence[Suite] | None = None) -> Card:
    """The card in a file."""
    return read_card(read_bytes(path), path.name, suites, repository_of(path))


def repository_of(path: Path) -> str | None:
    """The folder of a checkpoint that a README.md lies in, by its name."""
    return path.absolute().parent.name or None if path.name.lower() == "readme.md" else None


def read_bytes(path: Path) -> bytes:
    """The bytes of a card's file; CardError where there is none."""
    try:
        return read_file(path, MAX_BYTES)
    except OSError as error:
        raise CardError(f"Card {path} cannot be read ({error.strerror}); give a Markdown file.") from error


def read_card(
    card: str | bytes, source: str, suites: Sequence[Suite] | None = None, repository: str | None = None
) -> Card:
    """A card from its text; CardError in one sentence where it is none. `repository` is the name of its folder."""
    text = decoded(card, source)
    suites = card_suites() if suites is None else suites
    metadata = find_front_matter(text, source) or find_pasted(text, source)
    body = text if metadata is None else _blanked(text, metadata)
    figures, names = figures_of_index(metadata, suites) if metadata else ([], ())
    checkpoint = _checkpoint(figures)
    own = [n for n in (*names[:1], checkpoint) if n]
    first_group = max((f.group for f in figures), default=-1) + 1
    tables = grids(body, lambda label: match_label(label, suites) is not None)
    cells = len(figures) + sum(len(row) for table in tables for row in table.rows)
    if cells > _MAX_CELLS:
        raise CardError(
            f"{source} has tables of {cells:,} cells; a card of more than {_MAX_CELLS:,} is not read."
        )
    data = metadata.data if metadata else {}
    mentioned = _mentioned(body, checkpoint, board_rows())
    bases = _bases(data, body, mentioned)
    titles = [
        t for key in ("model_name", "model-name", "name", "title") if isinstance(t := data.get(key), str)
    ]
    stated_names = [*own, repository, *titles]
    model = find_names(body, stated=stated_names, bases=bases, mentioned=mentioned)
    lines = body.splitlines()
    above = headings(lines)
    for group, grid in enumerate(tables, start=first_group):
        owner = _owner(grid, lines, above, model)
        figures += figures_of_grid(grid, group, model, owner, suites)
    model = model.with_others(f.subject for f in figures if f.subject is not None)
    index = data.get(KEY)
    return Card(
        source=source,
        name=(names[0] if names and names[0] else None) or checkpoint or next(iter(titles), model.heading),
        checkpoint=checkpoint,
        has_front_matter=metadata is not None and metadata.fenced,
        model_index=index if isinstance(index, list) else None,
        figures=tuple(figures),
        stated=stated_facts(_about_own(lines, above, tables, model), model.of_others),
        bases=bases,
        mentioned=mentioned,
        sizes=_sizes(names[0] if names else None, body),
    )


def card_claims(
    card: Card, suites: Sequence[Suite] | None = None, rows: Sequence[BoardRow] | None = None
) -> tuple[Claim, ...]:
    """What the card claims about its own model, benchmark by benchmark, in the suites' order."""
    return claims_of(
        card.figures,
        source=card.source,
        checkpoint=card.checkpoint or card.name,
        stated=card.stated,
        suites=card_suites() if suites is None else suites,
        rows=board_rows() if rows is None else rows,
    )


def card_checks(
    card: Card,
    recipe: RecipeSize | None = None,
    suites: Sequence[Suite] | None = None,
    rows: Sequence[BoardRow] | None = None,
) -> tuple[CardCheck, ...]:
    """What the card's figures say against each other, against published rows, and against the recipe's size."""
    suites = card_suites() if suites is None else suites
    rows = board_rows() if rows is None else rows
    row = find_row(card.figures, card.checkpoint, rows)
    known = [r for name in (*card.bases, *card.mentioned) for r in rows_of(name, rows)]
    options = [*bases_in(card.figures), *(base_of_row(r) for r in known)]
    checks = [
        *check_readings(card.figures, card_claims(card, suites, rows)),
        *check_averages(card.figures, suites),
        *check_contradictions(card.figures),
        *check_changes(card.figures, options),
    ]
    if row is not None:
        checks.append(_row_check(row))
        fits = fitting_base(card.figures, [base_of_row(r) for r in known])
        bases = [fits.name] if fits else list(card.bases)
        for base in [r for name in bases for r in rows_of(name, rows) if r is not row][:1]:
            checks += confounds(row, base)
    if recipe is not None:
        if row is not None and row.parameters_b is not None:
            checks.append(
                check_parameters(row.parameters_b, 0.0005, recipe, f"the board, for {row.checkpoint},")
            )
        checks += [check_parameters(s.parameters_b, s.rounding_b, recipe, s.source) for s in card.sizes]
    return tuple(checks)


def _row_check(row: BoardRow) -> CardCheck:
    template = "with" if row.chat_template.value == "on" else "without"
    return CardCheck(
        kind=CheckKind.BOARD,
        outcome=CheckOutcome.NOTE,
        sentence=f"The figures are those of {row.checkpoint} on the board ({row.source}), submitted {row.submitted} "
        f"in {row.dtype}, {template} a chat template.",
    )


def _owner(grid: Grid, lines: Sequence[str], above: Sequence[str | None], names: Names) -> str | None:
    """The model that the line above a table names, else the one that its heading names."""
    at = grid.start - 2
    while at >= 0 and (not lines[at].strip() or lines[at].lstrip().startswith(("```", "~~~"))):
        at -= 1
    caption = lines[at] if at >= 0 and "|" not in lines[at] and len(lines[at]) < 300 else ""
    return names.owner(caption) or (names.owner(above[at] or "") if at >= 0 else None)


def _about_own(
    lines: Sequence[str], above: Sequence[str | None], tables: Sequence[Grid], names: Names
) -> str:
    """The lines that may speak of the card's own model: no tables, and no sections that are headed by another.

    A line below a heading such as "Evaluation" speaks of the figures: it begins with its heading.
    """
    of_tables = {n for t in tables for n in range(t.start, t.lines[-1] + 1)}
    others = {heading: names.owner(heading) not in (None, "own") for heading in {*above} if heading}
    measured = {heading: _MEASURED.search(heading) is not None for heading in others}
    fenced = in_code(lines)
    return "\n".join(
        f"{heading}: {line}" if heading and measured[heading] and not fenced[number - 1] else line
        for number, (line, heading) in enumerate(zip(lines, above, strict=True), start=1)
        if number not in of_tables and not (heading and others[heading])
    )


def _blanked(text: str, metadata: FrontMatter) -> str:
    """The card without its metadata, every line where it was."""
    return "\n" * text.count("\n", 0, metadata.end) + text[metadata.end :]


def _checkpoint(figures: Sequence[Figure]) -> str | None:
    """The repository that the figures' source asks the board for, as in '...?query=org/name'."""
    for figure in figures:
        if figure.source_url is None:
            continue
        try:
            query = parse_qs(urlsplit(figure.source_url).query).get("query", [])
        except ValueError:
            continue
        if query and _REPO.fullmatch(query[0]):
            return query[0]
    return None


def _mentioned(body: str, checkpoint: str | None, rows: Sequence[BoardRow]) -> tuple[str, ...]:
    """Repositories that the text names, with their owner or, where the board lists them, by name alone."""
    found = dict.fromkeys(
        name.rstrip(".")
        for pattern in (_HUB_LINK, _REPO)
        for name in pattern.findall(body)
        if not name.startswith(_NOT_MODELS)
    )
    words = {word.rstrip(".-") for word in re.findall(r"[\w.-]+", body.lower())}
    listed = [row.checkpoint for row in rows if row.checkpoint.partition("/")[2].lower() in words]
    return tuple(n for n in dict.fromkeys([*listed, *found]) if n != checkpoint)[:200]


def _bases(data: dict[str, Any], body: str, mentioned: Sequence[str]) -> tuple[str, ...]:
    """`base_model` of the metadata first, then repositories named where the text says what it is based on."""
    stated = data.get("base_model")
    found = [stated] if isinstance(stated, str) else [s for s in stated or [] if isinstance(s, str)]
    for line in body.splitlines():
        match = _BASED.search(line) if len(line) < 4000 else None
        if match is not None:
            found += [
                n.rstrip(".") for n in _REPO.findall(line[match.start() :]) if n.rstrip(".") in mentioned
            ]
    return tuple(dict.fromkeys(found))[:50]


def _sizes(name: str | None, body: str) -> tuple[StatedSize, ...]:
    sizes = []
    for number, line in enumerate(body.splitlines(), start=1):
        if len(line) < 4000:
            said = [m for m in _SIZE.finditer(line) if not _OF_OTHERS.search(_before(line, m.start()))]
            said += _SIZE_LISTED.finditer(line)
            sizes += [_size(m, 0.02, f"line {number} of the card") for m in said]
    if name:
        sizes += [_size(m, 0.1, f"the name {name}") for m in _SIZE_IN_NAME.finditer(name)]
    distinct = {(s.parameters_b, s.rounding_b): s for s in sizes}
    return tuple(distinct.values())[:20]


def _before(line: str, at: int) -> str:
    """The words of the same sentence before a place, 40 characters at most."""
    return re.split(r"[.;]", line[max(0, at - 40) : at])[-1]


def _size(match: re.Match[str], looseness: float, source: str) -> StatedSize:
    """A size with the room that its writing leaves: half its last decimal; more where it has no two decimals."""
    unit = 1e-3 if match["unit"].lower().startswith("m") else 1.0
    decimals = len(match["number"].partition(".")[2])
    value = float(match["number"]) * unit
    rounding = 0.5 * 10.0**-decimals * unit
    return StatedSize(
        parameters_b=max(value, 1e-9),
        rounding_b=rounding if decimals >= 2 else max(rounding, looseness * value),
        source=source,
    )
