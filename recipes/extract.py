"""Finds recipes in model cards, with their problems and the names that a user has to map.

Nothing is applied: a proposal holds the recipe as written in the card, its lines, and the names that cannot be resolved
outside the author's machine.
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
"""Maximum length of a card in characters."""

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
"""Path in the hub's cache: https://huggingface.co/docs/huggingface_hub/guides/manage-cache"""

_MAX_SUGGESTIONS = 3
_MAX_COMPARED = 100
"""Maximum number of names per card that are matched approximately."""


class MapReason(StrEnum):
    """Why a name has to be mapped before the recipe can be built."""

    PRIVATE_PATH = "a path on somebody's disk"
    UNKNOWN_STAGE = "neither a stage of the recipe nor org/name on the hub"
    UNKNOWN_BASE = "a base that the text does not name as org/name"


class ToMap(Frozen):
    """A name that cannot be resolved."""

    name: str = Field(description="Name as written in the card; the left side of --source NAME=TARGET.")
    reason: MapReason = Field(description="Why it has to be mapped.")
    suggestions: tuple[str, ...] = Field(
        default=(), description="Stages or repositories with similar names, best first."
    )

    def __str__(self) -> str:
        if self.suggestions and self.suggestions[0] == self.name:
            confirm = shlex.quote(f"{self.name}={self.name}@REVISION")
            return f"{self.name} is {self.reason}: confirm it with --source {confirm}."
        hint = f"; perhaps {' or '.join(self.suggestions)}" if self.suggestions else ""
        target = self.suggestions[0] if self.suggestions else "ORG/NAME@REVISION"
        return f"{self.name} is {self.reason}{hint}: map it with --source {shlex.quote(f'{self.name}={target}')}."


class Proposal(Frozen):
    """A recipe found in a card."""

    title: str | None = Field(default=None, description="Title in the card; null if there is none.")
    lines: tuple[tuple[int, int], ...] = Field(description="First and last line of each stage in the card.")
    text: str = Field(description="The recipe as YAML, with stage names.")
    recipe: Recipe | None = Field(
        default=None, description="The parsed recipe; null if the text does not parse."
    )
    problems: tuple[str, ...] = Field(
        default=(), description="Problems and ignored settings, one sentence each."
    )
    to_map: tuple[ToMap, ...] = Field(default=(), description="Names to map before the recipe can be built.")


def find_proposals(markdown: str, origin: str = "card") -> tuple[Proposal, ...]:
    """Find every recipe in a card, in order; stages in separate blocks that belong together are one proposal.

    Raises RecipeSyntaxError for a text that is too long or binary.
    """
    if len(markdown) > MAX_CARD:
        raise RecipeSyntaxError(
            f"{origin} has {len(markdown):,} characters; at most {MAX_CARD:,} are read as a card."
        )
    if "\0" in markdown:
        raise RecipeSyntaxError(f"{origin} is not text (it holds a zero byte); give a Markdown file.")
    groups = _group_blocks(find_blocks(markdown))
    if not groups:
        return _find_in_prose(markdown, origin)
    return tuple(_make_proposal(group, markdown, origin) for group in groups)


def find_catalog_names(markdown: str) -> tuple[str, ...]:
    """Catalogue entries of the checkpoint that the card describes, then of those that it mentions."""
    entries = {name: load_catalog(name).about.published.repo for name in catalog_names()}
    head = front_matter(markdown[:MAX_CARD])
    described_names = {
        word.strip("\"'").rpartition("/")[2].lower() for word in re.findall(r"name:\s*(\S+)", head)
    }
    described = [name for name, repo in entries.items() if repo.rpartition("/")[2].lower() in described_names]
    text = markdown[:MAX_CARD].lower()
    mentioned = [
        name
        for name, repo in entries.items()
        if repo.lower() in text or repo.rpartition("/")[2].lower() in text
    ]
    return tuple(dict.fromkeys([*described, *mentioned]))


# --- grouping of blocks ---------------------------------------------------------------------------------------------


def _group_blocks(blocks: Sequence[Block]) -> list[list[Block]]:
    """Group blocks that refer to each other by similar names into one recipe each.

    A block that builds what another block takes from org/name is a recipe of its own and also part of the other's group.
    """
    blocks = _add_titles(blocks)
    titles = {block.title: index for index, block in enumerate(blocks) if block.title}
    group_of = list(range(len(blocks)))
    compared = 0
    for index, block in enumerate(blocks):
        for name in _bare_names(block):
            compared += name not in titles
            if compared > _MAX_COMPARED:
                break
            matches = [name] if name in titles else difflib.get_close_matches(name, titles, n=1, cutoff=0.5)
            if matches and titles[matches[0]] != index:
                old, new = group_of[index], group_of[titles[matches[0]]]
                group_of = [new if group == old else group for group in group_of]
    dependencies = [{titles[name] for name in _last_parts(block) if name in titles} for block in blocks]
    groups = []
    for group_id in dict.fromkeys(group_of):
        members = [index for index, group in enumerate(group_of) if group == group_id]
        added = sorted(_reachable(members, dependencies) - set(members))
        ordered = [*added, *members] if blocks[members[-1]].title else sorted([*added, *members])
        groups.append([blocks[index] for index in ordered])
    return groups


def _reachable(start: Sequence[int], edges: Sequence[set[int]]) -> set[int]:
    """Indices reachable from `start`, which is included."""
    reached, pending = set(start), list(start)
    while pending:
        new = edges[pending.pop()] - reached
        reached |= new
        pending += new
    return reached


def _add_titles(blocks: Sequence[Block]) -> list[Block]:
    """Give blocks without a title the name of another block's input if the line above mentions exactly one."""
    inputs = [set(_last_parts(block)) for block in blocks]
    titles = {block.title for block in blocks}
    titled = []
    for index, block in enumerate(blocks):
        other_inputs = set().union(*inputs[:index], *inputs[index + 1 :]) - inputs[index] - titles
        words = (
            {word.strip(".-") for word in re.findall(r"[\w.-]+", block.lead)} if not block.title else set()
        )
        mentioned = sorted(filter(looks_like_model_name, words & other_inputs))
        titled.append(block.model_copy(update={"title": mentioned[0]}) if len(mentioned) == 1 else block)
        titles |= set(mentioned)
    return titled


def _bare_names(block: Block) -> list[str]:
    """Names of inputs that could be stages: every name except org/name, reduced to its last part."""
    names = [name for name in _input_names(block) if not re.fullmatch(r"[\w.-]+/[\w.-]+", name)]
    return list(dict.fromkeys(name.rstrip("/").rpartition("/")[2] for name in names))


def _last_parts(block: Block) -> list[str]:
    """Last path component of the names of all inputs."""
    return [name.rstrip("/").rpartition("/")[2] for name in _input_names(block)]


def _input_names(block: Block) -> list[str]:
    return re.findall(
        r"(?:^|[{,])[^\S\n]*+(?:-[^\S\n]*+)?(?:model|base_model)\s*+:\s*+[\"']?([^\s\"'#,}]{1,200})",
        block.text,
        re.MULTILINE,
    )


# --- one proposal ---------------------------------------------------------------------------------------------------


def _make_proposal(blocks: Sequence[Block], markdown: str, origin: str) -> Proposal:
    several = len(blocks) > 1
    text = _join_blocks(blocks) if several else blocks[0].text + "\n"
    lines = tuple((block.first_line, block.last_line) for block in blocks)
    result = next((block for block in blocks if not block.title), blocks[-1])
    title = result.title
    try:
        recipe = Recipe.parse(_join_at_lines(blocks) if several else _at_line(blocks[0]), origin)
    except RecipeError as error:
        return Proposal(title=title, lines=lines, text=text, problems=(str(error),))
    return Proposal(
        title=title,
        lines=lines,
        text=text,
        recipe=recipe,
        problems=(
            *recipe.remarks,
            *_conflicting_links(recipe, markdown, origin),
            *_builds_in_card(recipe, blocks, origin),
        ),
        to_map=_unmapped_names(recipe, markdown),
    )


def _at_line(block: Block) -> str:
    """Text of the block after empty lines, so that messages contain line numbers of the card."""
    return "\n" * (block.first_line - 1) + block.text + "\n"


def _name_line(block: Block) -> str:
    """YAML line with the title as stage name; empty if the block has a name or no title."""
    has_name = re.search(r"^name\s*:", block.text, re.MULTILINE)
    return "" if has_name or not block.title else dump_documents([{"name": block.title}]).strip().strip("{}")


def _join_blocks(blocks: Sequence[Block]) -> str:
    return "---\n".join("\n".join(filter(None, [_name_line(block), block.text])) + "\n" for block in blocks)


def _join_at_lines(blocks: Sequence[Block]) -> str:
    """As `_join_blocks`, but each block keeps its line number of the card; separators and names use the lines between."""
    lines: list[str] = []
    for block in blocks:
        head = (["---"] if lines else []) + ([_name_line(block)] if _name_line(block) else [])
        room = block.first_line - 1 - len(lines)
        if room < len(head):
            return _join_blocks(blocks)
        lines += [""] * (room - len(head)) + head + block.text.splitlines()
    return "\n".join(lines) + "\n"


def _unmapped_names(recipe: Recipe, markdown: str) -> tuple[ToMap, ...]:
    repositories = _hub_names(markdown)
    unmapped = []
    for index, source in enumerate(recipe.sources):
        repositories = repositories if index < _MAX_COMPARED else []
        if source.kind is SourceKind.LOCAL:
            stages = _similar_names(source.name, sorted(recipe.stage_names), cutoff=0.85)
            suggestions = (
                stages
                or _repository_in_path(source.name)
                or _similar_names(source.name, repositories, cutoff=0.6)
            )
            unmapped.append(ToMap(name=str(source), reason=MapReason.PRIVATE_PATH, suggestions=suggestions))
        elif source.kind is SourceKind.BARE:
            stages = _similar_names(source.name, sorted(recipe.stage_names), cutoff=0.5)
            suggestions = (*stages, *_similar_names(source.name, repositories, cutoff=0.75))[
                :_MAX_SUGGESTIONS
            ]
            unmapped.append(ToMap(name=str(source), reason=MapReason.UNKNOWN_STAGE, suggestions=suggestions))
    return tuple(unmapped)


def _conflicting_links(recipe: Recipe, markdown: str, origin: str) -> list[str]:
    """Problems for sources whose name the card links to a repository of another name."""
    names = {source.name for source in recipe.sources if source.kind is SourceKind.HUB}
    linked = [(text.strip("*_` "), repo.rstrip(".")) for text, repo in _LINK.findall(markdown[:MAX_CARD])]
    return [
        f"{origin}: the recipe names {name}, and the text links that name to {repo}; map it if that is what is meant."
        for text, repo in dict.fromkeys(linked)
        for name in sorted(names)
        if (text == name or text.endswith("/" + name)) and repo.lower() != name.lower()
    ]


def _repository_in_path(path: str) -> tuple[str, ...]:
    """Repository that a path contains: a path in the hub's cache, or mergekit's old `model:ORG/NAME`."""
    if prefixed := re.fullmatch(r"model:([\w.-]+/[\w.-]+)", path):
        return (prefixed[1],)
    snapshot = _SNAPSHOT.search(path.replace("\\", "/"))
    return (f"{snapshot['owner']}/{snapshot['name']}@{snapshot['commit']}",) if snapshot else ()


def _builds_in_card(recipe: Recipe, blocks: Sequence[Block], origin: str) -> list[str]:
    """Notes about sources named org/name that another stage in the card builds."""
    lines = {block.title: block.first_line for block in blocks}
    names = sorted({source.name for source in recipe.sources if source.kind is SourceKind.HUB})
    return [
        f"{origin}:{lines[stage]}: the card also says how {name} was made; --source {name}={stage} builds it here."
        for name in names
        if (stage := name.rpartition("/")[2]) in lines
        and stage in recipe.stage_names - {recipe.ordered[-1].name}
    ]


def _hub_names(markdown: str) -> list[str]:
    """Repositories that the card links to or mentions."""
    text = markdown[:MAX_CARD]
    mentioned = [name for name in _HUB_NAME.findall(text) if re.search(r"\d", name)]
    repositories = dict.fromkeys(name.rstrip(".") for name in [*_HUB_LINK.findall(text), *mentioned])
    return list(repositories)[:500]


def _similar_names(name: str, candidates: Sequence[str], cutoff: float) -> tuple[str, ...]:
    """Candidates whose full name or last part is similar to the last part of `name`, best first."""
    last = _squeeze(name.rstrip("/").rpartition("/")[2])
    scored = []
    for candidate in candidates:
        forms = {_squeeze(candidate), _squeeze(candidate.rpartition("/")[2])}
        score = max(_similarity(last, form, cutoff) for form in forms)
        if score >= cutoff:
            scored.append((-score, candidate))
    best = sorted(scored)[:_MAX_SUGGESTIONS]
    return tuple(candidate for score, candidate in best if -score >= -best[0][0] - 0.15)


def _similarity(name: str, candidate: str, cutoff: float) -> float:
    matcher = difflib.SequenceMatcher(None, name, candidate)
    if matcher.real_quick_ratio() < cutoff or matcher.quick_ratio() < cutoff:
        return 0.0
    return matcher.ratio()


def _squeeze(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


# --- layer paths in prose -------------------------------------------------------------------------------------------


def _find_in_prose(markdown: str, origin: str) -> tuple[Proposal, ...]:
    """Find blocks (i, j) in sentences about layers; the base is a placeholder if the text does not name it."""
    by_path: dict[str, Proposal] = {}
    blocks: set[tuple[int, int]] = set()
    bases = [f"{owner}/{name}" for owner, name in _OWNED.findall(markdown[:MAX_CARD])]
    for line_number, line in enumerate(markdown.splitlines(), 1):
        for i, j in _BLOCK.findall(line) if re.search(r"layer|block", line, re.IGNORECASE) else ():
            if not int(i) < int(j) or (int(i), int(j)) in blocks:
                continue
            if len(blocks) >= MAX_BLOCKS:
                return tuple(by_path.values())
            blocks.add((int(i), int(j)))
            path = LayerPathSpec.parse(f"({i}, {j})")
            suggestions = tuple(dict.fromkeys(bases))[:_MAX_SUGGESTIONS]
            base = suggestions[0] if suggestions else "BASE"
            recipe = Recipe.from_layer_path(SourceRef(name=base), path)
            by_path[path.text] = Proposal(
                lines=((line_number, line_number),),
                text=dump_documents([{"base": base, "layer_path": f"({i}, {j})"}]),
                recipe=recipe,
                problems=(
                    f"{origin}:{line_number}: read out of a sentence, not of a recipe; check the block and the base.",
                ),
                to_map=(ToMap(name=base, reason=MapReason.UNKNOWN_BASE, suggestions=suggestions),),
            )
    return tuple(by_path.values())
