"""Read a model card: its model, its scores, how they were measured, and checks of the card."""

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
from evals.claims.known import match_any, topic_of
from evals.claims.labels import card_suites
from evals.claims.plausible import check_differences, check_luck, check_possible, check_protocols
from evals.claims.records import CardCheck, CheckKind, CheckOutcome, Claim, Figure
from evals.engine import Frozen
from evals.suite import Suite
from orchestrator.cards.boards import of_boards
from orchestrator.cards.data_blocks import figures_of_blocks
from orchestrator.cards.figures import figures_of_index
from orchestrator.cards.front_matter import (
    KEY,
    MAX_BODY_LINES,
    MAX_BYTES,
    FrontMatter,
    decoded,
    find_front_matter,
    find_pasted,
    in_code,
)
from orchestrator.cards.grid import Grid, grids
from orchestrator.cards.lists import Above, figures_of_lists
from orchestrator.cards.orientation import Context, context_of
from orchestrator.cards.prose import figures_of_prose, without_repeats
from orchestrator.cards.protocol import runs_in, tried_in
from orchestrator.cards.stated import stated_facts
from orchestrator.cards.subjects import Names, find_names, headings, is_model_name
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
# Words before sizes that are not the model's.
_OF_OTHERS = re.compile(
    r"\b(?:adds?|added|adding|additional|extra|more|than|versus|vs|compared|from|other|by)\b[^,]*$",
    re.IGNORECASE,
)
_SIZE_IN_NAME = re.compile(r"(?:^|[_-])(?P<number>\d{1,4}(?:\.\d{1,3})?)(?P<unit>[BbMm])(?:$|[_.-])")


_MEASURED = re.compile(r"\b(?:evaluation|benchmarks?|leaderboard|scores|results)\b", re.IGNORECASE)
_MAX_CELLS = 10_000


class StatedSize(Frozen):
    """A parameter count stated in a card."""

    parameters_b: float = Field(gt=0, description="Number of parameters, in 1e9.")
    rounding_b: float = Field(ge=0, description="Rounding error of the stated number, in 1e9.")
    source: str = Field(description="Where the card states it, for messages.")


class Card(Frozen):
    """The content of a model card."""

    source: str = Field(description="File name or address, for messages.")
    name: str | None = Field(description="Name of the model in the card.")
    checkpoint: str | None = Field(description="Repository of the model on the hub; null if not stated.")
    has_front_matter: bool = Field(description="Whether it begins with metadata between '---' lines.")
    model_index: list[Any] | None = Field(description="The `model-index` as data; null if there is none.")
    figures: tuple[Figure, ...] = Field(description="All scores and changes in the card.")
    stated: Facts = Field(description="How the card says that its scores were measured.")
    bases: tuple[str, ...] = Field(description="Repositories that the model is made from, most likely first.")
    mentioned: tuple[str, ...] = Field(description="All repositories named in the card.")
    sizes: tuple[StatedSize, ...] = Field(description="Parameter counts stated in the card.")
    runs: int | None = Field(
        default=None,
        description="Runs that its scores average; 0 for an unknown number, null if it names none.",
    )
    tried: int | None = Field(
        default=None, description="Configurations among which its model is the best; null if it names none."
    )


def load_card(path: Path, suites: Sequence[Suite] | None = None) -> Card:
    """Read a card from a file."""
    return read_card(read_bytes(path), path.name, suites, repository_of(path))


def repository_of(path: Path) -> str | None:
    """The checkpoint's name: that of the folder of a README.md, else of a file like "org__name-7B.card.md"; None if it is none."""
    if path.name.lower() == "readme.md":
        return path.absolute().parent.name or None
    stem = path.name.rpartition(".")[0].removesuffix(".card").rpartition("__")[2]
    return stem if is_model_name(stem) and any(c.isdigit() for c in stem) and not stem[0].isdigit() else None


def read_bytes(path: Path) -> bytes:
    """The bytes of a card's file. Raises CardError if it cannot be read."""
    try:
        return read_file(path, MAX_BYTES)
    except OSError as error:
        raise CardError(f"Card {path} cannot be read ({error.strerror}); give a Markdown file.") from error


def read_card(
    card: str | bytes, source: str, suites: Sequence[Suite] | None = None, repository: str | None = None
) -> Card:
    """Parse a card. `repository` is the name of its folder. Raises CardError if it is not a card."""
    text = decoded(card, source)
    suites = card_suites() if suites is None else suites
    metadata = find_front_matter(text, source) or find_pasted(text, source)
    body = text if metadata is None else _blanked(text, metadata)
    lines = body.splitlines()
    if (count := len(text[metadata.end if metadata else 0 :].splitlines())) > MAX_BODY_LINES:
        raise CardError(
            f"{source} has {count:,} lines of text; a card of more than {MAX_BODY_LINES:,} is not read."
        )
    figures, names = figures_of_index(metadata, suites) if metadata else ([], ())
    checkpoint = _checkpoint(figures)
    stated_own = [n for n in (*names[:1], checkpoint) if n]
    first_group = max((f.group for f in figures), default=-1) + 1
    tables = grids(body, lambda label: match_any(label, suites) is not None)
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
    stated_names = [*stated_own, repository, *titles]
    fenced = in_code(lines)
    above = headings(lines, fenced)
    title = next(filter(None, above), None)
    model = find_names(body, title, stated=stated_names, bases=bases, mentioned=mentioned)
    for group, grid in enumerate(tables, start=first_group):
        owner, context, topic = _owner(grid, lines, above, title, model)
        figures += figures_of_grid(grid, group, model, owner, suites, context, topic)
    figures += _of_text(lines, fenced, tables, above, figures, model, bases, suites)
    figures = of_boards(figures, suites)
    model = model.with_others(f.subject for f in figures if f.subject is not None)
    index = data.get(KEY)
    return Card(
        source=source,
        name=(names[0] if names and names[0] else None) or checkpoint or next(iter(titles), model.heading),
        checkpoint=checkpoint,
        has_front_matter=metadata is not None and metadata.fenced,
        model_index=index if isinstance(index, list) else None,
        figures=tuple(figures),
        stated=stated_facts(_about_own(lines, fenced, above, tables, model), model.of_others),
        bases=bases,
        mentioned=mentioned,
        sizes=_sizes(names[0] if names else None, body),
        runs=runs_in(body),
        tried=tried_in(body),
    )


def card_claims(
    card: Card, suites: Sequence[Suite] | None = None, rows: Sequence[BoardRow] | None = None
) -> tuple[Claim, ...]:
    """The card's claims about its own model per benchmark, in the suites' order."""
    return claims_of(
        card.figures,
        source=card.source,
        checkpoint=card.checkpoint or card.name,
        stated=card.stated,
        suites=card_suites() if suites is None else suites,
        rows=board_rows() if rows is None else rows,
        runs=card.runs,
    )


def card_checks(
    card: Card,
    recipe: RecipeSize | None = None,
    suites: Sequence[Suite] | None = None,
    rows: Sequence[BoardRow] | None = None,
) -> tuple[CardCheck, ...]:
    """Check the card's scores for consistency with each other, published rows and the recipe's size."""
    suites = card_suites() if suites is None else suites
    rows = board_rows() if rows is None else rows
    row = find_row(card.figures, card.checkpoint, rows)
    named_rows = [r for name in (*card.bases, *card.mentioned) for r in rows_of(name, rows)]
    options = [*bases_in(card.figures), *(base_of_row(r) for r in named_rows)]
    claims = card_claims(card, suites, rows)
    checks = [
        *check_readings(card.figures, claims),
        *check_averages(card.figures, suites),
        *check_contradictions(card.figures),
        *check_changes(card.figures, options),
        *check_possible(claims),
        *check_differences(card.figures, card.bases),
        *check_protocols(card.figures, card.bases),
        *check_luck(card.figures, card.bases, card.tried),
    ]
    if row is not None:
        checks.append(_row_check(row))
        fits = fitting_base(card.figures, [base_of_row(r) for r in named_rows])
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


def _owner(
    grid: Grid, lines: Sequence[str], above: Sequence[str | None], title: str | None, names: Names
) -> tuple[str | None, Context, str | None]:
    """The model named in the line above a table, else in its heading; what these two announce, and the benchmark they name."""
    at = grid.start - 2
    while at >= 0 and (not lines[at].strip() or lines[at].lstrip().startswith(("```", "~~~"))):
        at -= 1
    caption = lines[at] if at >= 0 and "|" not in lines[at] and len(lines[at]) < 300 else ""
    heading = above[at] if at >= 0 else None
    owner = names.owner(caption) or (names.owner(heading or "") if at >= 0 else None)
    context = context_of(caption, heading, is_title=heading == title)
    return owner, context, topic_of(caption) or topic_of(heading or "")


def _of_text(
    lines: Sequence[str],
    fenced: Sequence[bool],
    tables: Sequence[Grid],
    headings_above: Sequence[str | None],
    figures: Sequence[Figure],
    names: Names,
    bases: Sequence[str],
    suites: Sequence[Suite],
) -> list[Figure]:
    """The scores outside tables: in JSON and YAML blocks, lists and sentences."""
    title = next(filter(None, headings_above), None)
    below = {
        h: Above(h, context_of(None, h, is_title=h == title), names.owner(h or "")) for h in {*headings_above}
    }
    above = [below[h] for h in headings_above]
    of_tables = {n for t in tables for n in range(t.start, t.lines[-1] + 1)}
    of_code = {n for n, inside in enumerate(fenced, start=1) if inside}
    names = names.with_others(f.subject for f in figures if f.subject is not None)
    group = max((f.group for f in figures), default=-1) + 1 + len(tables)
    found = figures_of_blocks(lines, fenced, [a.context for a in above], group, names, suites)
    group += len(found) + 1
    skip = frozenset(of_tables | of_code)
    listed, read = figures_of_lists(lines, skip, above, group, names, suites)
    group += len(lines) + 1
    prose = figures_of_prose(lines, skip | read, above, group, names, bases, suites)
    return [*found, *listed, *without_repeats([*figures, *found, *listed], prose)]


def _about_own(
    lines: Sequence[str],
    fenced: Sequence[bool],
    above: Sequence[str | None],
    tables: Sequence[Grid],
    names: Names,
) -> str:
    """The lines about the card's own model: without tables and sections whose heading names another model.

    Lines below a heading such as "Evaluation" are about the scores and get the heading as prefix.
    """
    of_tables = {n for t in tables for n in range(t.start, t.lines[-1] + 1)}
    of_other_model = {heading: names.owner(heading) not in (None, "own") for heading in {*above} if heading}
    measured = {heading: _MEASURED.search(heading) is not None for heading in of_other_model}
    return "\n".join(
        f"{heading}: {line}" if heading and measured[heading] and not fenced[number - 1] else line
        for number, (line, heading) in enumerate(zip(lines, above, strict=True), start=1)
        if number not in of_tables and not (heading and of_other_model[heading])
    )


def _blanked(text: str, metadata: FrontMatter) -> str:
    """The card without its metadata, with unchanged line numbers."""
    return "\n" * text.count("\n", 0, metadata.end) + text[metadata.end :]


def _checkpoint(figures: Sequence[Figure]) -> str | None:
    """The repository in the query of a score's source address, as in '...?query=org/name'."""
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
    """Repositories named in the text, with their owner or, if the leaderboard lists them, by name alone."""
    named = dict.fromkeys(
        name.rstrip(".")
        for pattern in (_HUB_LINK, _REPO)
        for name in pattern.findall(body)
        if not name.startswith(_NOT_MODELS)
    )
    words = {word.rstrip(".-") for word in re.findall(r"[\w.-]+", body.lower())}
    listed = [row.checkpoint for row in rows if row.checkpoint.partition("/")[2].lower() in words]
    return tuple(n for n in dict.fromkeys([*listed, *named]) if n != checkpoint)[:200]


def _bases(data: dict[str, Any], body: str, mentioned: Sequence[str]) -> tuple[str, ...]:
    """`base_model` of the metadata, then repositories in lines such as "based on org/name"."""
    stated = data.get("base_model")
    bases = [stated] if isinstance(stated, str) else [s for s in stated or [] if isinstance(s, str)]
    for line in body.splitlines():
        match = _BASED.search(line) if len(line) < 4000 else None
        if match is not None:
            bases += [
                n.rstrip(".") for n in _REPO.findall(line[match.start() :]) if n.rstrip(".") in mentioned
            ]
    return tuple(dict.fromkeys(bases))[:50]


def _sizes(name: str | None, body: str) -> tuple[StatedSize, ...]:
    sizes = []
    for number, line in enumerate(body.splitlines(), start=1):
        if len(line) < 4000:
            matches = [m for m in _SIZE.finditer(line) if not _OF_OTHERS.search(_before(line, m.start()))]
            matches += _SIZE_LISTED.finditer(line)
            sizes += [_size(m, 0.02, f"line {number} of the card") for m in matches]
    if name:
        sizes += [_size(m, 0.1, f"the name {name}") for m in _SIZE_IN_NAME.finditer(name)]
    distinct = {(s.parameters_b, s.rounding_b): s for s in sizes}
    return tuple(distinct.values())[:20]


def size_in_name(name: str) -> StatedSize | None:
    """The parameter count in a model's name, as in "Some-7B"; None if it has none."""
    match = _SIZE_IN_NAME.search(name)
    return _size(match, 0.1, f"the name {name}") if match is not None and float(match["number"]) > 0 else None


def _before(line: str, at: int) -> str:
    """The words of the sentence before a position, at most 40 characters."""
    return re.split(r"[.;]", line[max(0, at - 40) : at])[-1]


def _size(match: re.Match[str], looseness: float, source: str) -> StatedSize:
    """A size with its rounding error: half its last decimal, or more if it has fewer than two decimals."""
    unit = 1e-3 if match["unit"].lower().startswith("m") else 1.0
    decimals = len(match["number"].partition(".")[2])
    value = float(match["number"]) * unit
    rounding = 0.5 * 10.0**-decimals * unit
    return StatedSize(
        parameters_b=max(value, 1e-9),
        rounding_b=rounding if decimals >= 2 else max(rounding, looseness * value),
        source=source,
    )
