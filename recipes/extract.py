"""Recipes out of model cards: what the text says, what is wrong with it, and what somebody has to map.

Nothing is applied: a proposal is a recipe as it stands in the card, with its lines, and the names that mean nothing
outside its author's disk.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence
from enum import StrEnum

from pydantic import Field

from recipes.card_blocks import MAX_BLOCKS, Block, find_blocks, front_matter, looks_like_model_name
from recipes.catalog import catalog_names, load_catalog
from recipes.errors import RecipeError, RecipeSyntaxError
from recipes.layer_path import LayerPathSpec
from recipes.recipe import Recipe, SourceKind, SourceRef
from recipes.recipe.identity import dump_documents
from recipes.tensor_file import Frozen

MAX_CARD = 2_000_000
"""Longest card that is read, in characters."""

_HUB_LINK = re.compile(
    r"huggingface\.co/(?!datasets/|spaces/|collections/|blog/|docs/)([\w.-]{1,96}/[\w.-]{1,96})", re.ASCII
)
_LINK = re.compile(r"\[([^\[\]\n]{1,120}+)\]\(https?://" + _HUB_LINK.pattern, re.ASCII)
_HUB_NAME = re.compile(r"(?<![\w./@-])([A-Za-z][\w.-]{1,95}/[\w.-]{2,96})(?![\w/])", re.ASCII)
_OWNED = re.compile(r"\b([A-Z][\w-]{2,40})['’]s ([\w.-]{2,60}\d{1,6}[bB]\b[\w.-]{0,20})")
_BLOCK = re.compile(r"\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)")
_SNAPSHOT = re.compile(
    r"(?<![\w.-])models--(?P<owner>(?:(?!--)[\w.-])+)--(?P<name>[\w.-]++)/snapshots/(?P<commit>[0-9a-f]{7,40})"
)
"""https://huggingface.co/docs/huggingface_hub/guides/manage-cache"""

_MAX_SUGGESTIONS = 3
_MAX_COMPARED = 100
"""Most names of a card that are compared, letter by letter, with all others."""


class MapReason(StrEnum):
    """Why a name has to be mapped before anything can be built."""

    PRIVATE_PATH = "a path on somebody's disk"
    UNKNOWN_STAGE = "neither a stage of the recipe nor org/name on the hub"
    UNKNOWN_BASE = "a base that the text does not name as org/name"


class ToMap(Frozen):
    """A name that means nothing here."""

    name: str = Field(description="The name as the card has it; the left side of --source NAME=TARGET.")
    reason: MapReason = Field(description="Why it has to be mapped.")
    suggestions: tuple[str, ...] = Field(
        default=(), description="Stages or repositories it could be, best first."
    )

    def __str__(self) -> str:
        if self.suggestions and self.suggestions[0] == self.name:
            confirm = shlex.quote(f"{self.name}={self.name}@REVISION")
            return f"{self.name} is {self.reason}: confirm it with --source {confirm}."
        hint = f"; perhaps {' or '.join(self.suggestions)}" if self.suggestions else ""
        target = self.suggestions[0] if self.suggestions else "ORG/NAME@REVISION"
        return f"{self.name} is {self.reason}{hint}: map it with --source {shlex.quote(f'{self.name}={target}')}."


class Proposal(Frozen):
    """A recipe that a card holds."""

    title: str | None = Field(default=None, description="What the card calls it, if anything.")
    lines: tuple[tuple[int, int], ...] = Field(description="First and last line of each stage in the card.")
    text: str = Field(description="The recipe as YAML, stages named; to be kept or edited.")
    recipe: Recipe | None = Field(default=None, description="The recipe; null where the text is none.")
    problems: tuple[str, ...] = Field(default=(), description="What is wrong or ignored, one sentence each.")
    to_map: tuple[ToMap, ...] = Field(default=(), description="Names to map before it can be built.")


def proposals(markdown: str, origin: str = "card") -> tuple[Proposal, ...]:
    """Every recipe in the card, in order; the whole of one whose stages stand apart is one proposal."""
    if len(markdown) > MAX_CARD:
        raise RecipeSyntaxError(
            f"{origin} has {len(markdown):,} characters; at most {MAX_CARD:,} are read as a card."
        )
    if "\0" in markdown:
        raise RecipeSyntaxError(f"{origin} is not text (it holds a zero byte); give a Markdown file.")
    groups = _groups(find_blocks(markdown))
    if not groups:
        return _from_prose(markdown, origin)
    return tuple(_proposal(group, markdown, origin) for group in groups)


def offers(markdown: str) -> tuple[str, ...]:
    """Names in the catalogue of recipes for the checkpoint that the card describes, or that it links to."""
    entries = {name: load_catalog(name).about.published.repo for name in catalog_names()}
    head = front_matter(markdown[:MAX_CARD])
    words = {word.strip("\"'").rpartition("/")[2].lower() for word in re.findall(r"name:\s*(\S+)", head)}
    own = [name for name, repo in entries.items() if repo.rpartition("/")[2].lower() in words]
    text = markdown[:MAX_CARD].lower()
    linked = [
        name
        for name, repo in entries.items()
        if repo.lower() in text or repo.rpartition("/")[2].lower() in text
    ]
    return tuple(dict.fromkeys([*own, *linked]))


# --- which blocks make one recipe -----------------------------------------------------------------------------------


def _groups(blocks: Sequence[Block]) -> list[list[Block]]:
    """Blocks that name each other, or nearly, belong together; the others stand alone.

    A block that makes what another takes from org/name stands alone and joins the other as well, for somebody to choose.
    """
    blocks = _titled(blocks)
    titles = {block.title: number for number, block in enumerate(blocks) if block.title}
    group_of = list(range(len(blocks)))
    compared = 0
    for number, block in enumerate(blocks):
        for name in _bare_names(block):
            compared += name not in titles
            if compared > _MAX_COMPARED:
                break
            near = [name] if name in titles else difflib.get_close_matches(name, titles, n=1, cutoff=0.5)
            if near and titles[near[0]] != number:
                old, new = group_of[number], group_of[titles[near[0]]]
                group_of = [new if group == old else group for group in group_of]
    made_here = [{titles[name] for name in _last_parts(block) if name in titles} for block in blocks]
    groups = []
    for wanted in dict.fromkeys(group_of):
        own = [number for number, group in enumerate(group_of) if group == wanted]
        others = sorted(_reached(own, made_here) - set(own))
        named_last = [*others, *own] if blocks[own[-1]].title else sorted([*others, *own])
        groups.append([blocks[number] for number in named_last])
    return groups


def _reached(start: Sequence[int], edges: Sequence[set[int]]) -> set[int]:
    """Numbers that can be reached, the start included."""
    found, ahead = set(start), list(start)
    while ahead:
        new = edges[ahead.pop()] - found
        found |= new
        ahead += new
    return found


def _titled(blocks: Sequence[Block]) -> list[Block]:
    """Blocks without a title get the name of another block's input, where the sentence over them has it."""
    inputs = [set(_last_parts(block)) for block in blocks]
    taken = {block.title for block in blocks}
    found = []
    for number, block in enumerate(blocks):
        of_others = set().union(*inputs[:number], *inputs[number + 1 :]) - inputs[number] - taken
        words = (
            {word.strip(".-") for word in re.findall(r"[\w.-]+", block.lead)} if not block.title else set()
        )
        said = sorted(filter(looks_like_model_name, words & of_others))
        found.append(block.model_copy(update={"title": said[0]}) if len(said) == 1 else block)
        taken |= set(said)
    return found


def _bare_names(block: Block) -> list[str]:
    """Names of inputs that could be stages: a word, or a path whose last part is one."""
    names = [name for name in _inputs(block) if not re.fullmatch(r"[\w.-]+/[\w.-]+", name)]
    return list(dict.fromkeys(name.rstrip("/").rpartition("/")[2] for name in names))


def _last_parts(block: Block) -> list[str]:
    """Last parts of the names of all inputs."""
    return [name.rstrip("/").rpartition("/")[2] for name in _inputs(block)]


def _inputs(block: Block) -> list[str]:
    return re.findall(
        r"(?:^|[{,])[^\S\n]*+(?:-[^\S\n]*+)?(?:model|base_model)\s*+:\s*+[\"']?([^\s\"'#,}]{1,200})",
        block.text,
        re.MULTILINE,
    )


# --- one proposal ---------------------------------------------------------------------------------------------------


def _proposal(blocks: Sequence[Block], markdown: str, origin: str) -> Proposal:
    several = len(blocks) > 1
    text = _joined(blocks) if several else blocks[0].text + "\n"
    lines = tuple((block.first_line, block.last_line) for block in blocks)
    result = next((block for block in blocks if not block.title), blocks[-1])
    title = result.title
    try:
        recipe = Recipe.parse(_aligned(blocks) if several else _at_line(blocks[0]), origin)
    except RecipeError as error:
        return Proposal(title=title, lines=lines, text=text, problems=(str(error),))
    return Proposal(
        title=title,
        lines=lines,
        text=text,
        recipe=recipe,
        problems=(
            *recipe.remarks,
            *_other_links(recipe, markdown, origin),
            *_made_here(recipe, blocks, origin),
        ),
        to_map=_to_map(recipe, markdown),
    )


def _at_line(block: Block) -> str:
    """The block with as many empty lines before it as it has in the card, so that messages name the card's lines."""
    return "\n" * (block.first_line - 1) + block.text + "\n"


def _named(block: Block) -> str:
    """The block with its title as the stage's name, unless it has one."""
    has_name = re.search(r"^name\s*:", block.text, re.MULTILINE)
    return "" if has_name or not block.title else dump_documents([{"name": block.title}]).strip().strip("{}")


def _joined(blocks: Sequence[Block]) -> str:
    return "---\n".join("\n".join(filter(None, [_named(block), block.text])) + "\n" for block in blocks)


def _aligned(blocks: Sequence[Block]) -> str:
    """As `_joined`, each block at its own line of the card; separators and names take lines between the blocks."""
    lines: list[str] = []
    for block in blocks:
        head = (["---"] if lines else []) + ([_named(block)] if _named(block) else [])
        room = block.first_line - 1 - len(lines)
        if room < len(head):
            return _joined(blocks)
        lines += [""] * (room - len(head)) + head + block.text.splitlines()
    return "\n".join(lines) + "\n"


def _to_map(recipe: Recipe, markdown: str) -> tuple[ToMap, ...]:
    hub = _hub_names(markdown)
    found = []
    for number, source in enumerate(recipe.sources):
        hub = hub if number < _MAX_COMPARED else []
        if source.kind is SourceKind.LOCAL:
            stages = _nearest(source.name, sorted(recipe.stage_names), cutoff=0.85)
            suggestions = stages or _spelled_out(source.name) or _nearest(source.name, hub, cutoff=0.6)
            found.append(ToMap(name=str(source), reason=MapReason.PRIVATE_PATH, suggestions=suggestions))
        elif source.kind is SourceKind.BARE:
            stages = _nearest(source.name, sorted(recipe.stage_names), cutoff=0.5)
            suggestions = (*stages, *_nearest(source.name, hub, cutoff=0.75))[:_MAX_SUGGESTIONS]
            found.append(ToMap(name=str(source), reason=MapReason.UNKNOWN_STAGE, suggestions=suggestions))
    return tuple(found)


def _other_links(recipe: Recipe, markdown: str, origin: str) -> list[str]:
    """Sources that the card's own text links to a repository of another name."""
    names = {source.name for source in recipe.sources if source.kind is SourceKind.HUB}
    linked = [(text.strip("*_` "), repo.rstrip(".")) for text, repo in _LINK.findall(markdown[:MAX_CARD])]
    return [
        f"{origin}: the recipe names {name}, and the text links that name to {repo}; map it if that is what is meant."
        for text, repo in dict.fromkeys(linked)
        for name in sorted(names)
        if (text == name or text.endswith("/" + name)) and repo.lower() != name.lower()
    ]


def _spelled_out(path: str) -> tuple[str, ...]:
    """The repository that is in the name: a path into the hub's own cache, or mergekit's old `model:ORG/NAME`."""
    if old := re.fullmatch(r"model:([\w.-]+/[\w.-]+)", path):
        return (old[1],)
    found = _SNAPSHOT.search(path.replace("\\", "/"))
    return (f"{found['owner']}/{found['name']}@{found['commit']}",) if found else ()


def _made_here(recipe: Recipe, blocks: Sequence[Block], origin: str) -> list[str]:
    """Sources named org/name whose making the card describes too, as another stage than the result."""
    lines = {block.title: block.first_line for block in blocks}
    names = sorted({source.name for source in recipe.sources if source.kind is SourceKind.HUB})
    return [
        f"{origin}:{lines[stage]}: the card also says how {name} was made; --source {name}={stage} builds it here."
        for name in names
        if (stage := name.rpartition("/")[2]) in lines
        and stage in recipe.stage_names - {recipe.ordered[-1].name}
    ]


def _hub_names(markdown: str) -> list[str]:
    """Repositories that the card links to or names."""
    text = markdown[:MAX_CARD]
    named = [name for name in _HUB_NAME.findall(text) if re.search(r"\d", name)]
    found = dict.fromkeys(name.rstrip(".") for name in [*_HUB_LINK.findall(text), *named])
    return list(found)[:500]


def _nearest(name: str, candidates: Sequence[str], cutoff: float) -> tuple[str, ...]:
    """Candidates whose last part, alone or after the organisation, is like the last part of the name."""
    last = _plain(name.rstrip("/").rpartition("/")[2])
    scored = []
    for candidate in candidates:
        forms = {_plain(candidate), _plain(candidate.rpartition("/")[2])}
        score = max(_likeness(last, form, cutoff) for form in forms)
        if score >= cutoff:
            scored.append((-score, candidate))
    best = sorted(scored)[:_MAX_SUGGESTIONS]
    return tuple(candidate for score, candidate in best if -score >= -best[0][0] - 0.15)


def _likeness(one: str, other: str, cutoff: float) -> float:
    matcher = difflib.SequenceMatcher(None, one, other)
    if matcher.real_quick_ratio() < cutoff or matcher.quick_ratio() < cutoff:
        return 0.0
    return matcher.ratio()


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


# --- layer paths in prose -------------------------------------------------------------------------------------------


def _from_prose(markdown: str, origin: str) -> tuple[Proposal, ...]:
    """A block (i, j) that a sentence about repeated layers names; the base is left to the reader where it is not plain."""
    found: dict[str, Proposal] = {}
    seen: set[tuple[int, int]] = set()
    bases = [f"{owner}/{name}" for owner, name in _OWNED.findall(markdown[:MAX_CARD])]
    for number, line in enumerate(markdown.splitlines(), 1):
        for i, j in _BLOCK.findall(line) if re.search(r"layer|block", line, re.IGNORECASE) else ():
            if not int(i) < int(j) or (int(i), int(j)) in seen:
                continue
            if len(seen) >= MAX_BLOCKS:
                return tuple(found.values())
            seen.add((int(i), int(j)))
            path = LayerPathSpec.parse(f"({i}, {j})")
            suggestions = tuple(dict.fromkeys(bases))[:_MAX_SUGGESTIONS]
            base = suggestions[0] if suggestions else "BASE"
            recipe = Recipe.from_layer_path(SourceRef(name=base), path)
            found[path.text] = Proposal(
                lines=((number, number),),
                text=dump_documents([{"base": base, "layer_path": f"({i}, {j})"}]),
                recipe=recipe,
                problems=(
                    f"{origin}:{number}: read out of a sentence, not of a recipe; check the block and the base.",
                ),
                to_map=(ToMap(name=base, reason=MapReason.UNKNOWN_BASE, suggestions=suggestions),),
            )
    return tuple(found.values())
