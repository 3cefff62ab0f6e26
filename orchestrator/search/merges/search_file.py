"""The search file: a mergekit document with searched numbers, what to improve, and at what cost, as a frozen value.

```yaml
name: two-specialists
base: demo/SmolLM2-135M-Instruct        # every merge is compared with it and with its parents
recipe:                                 # a mergekit document; any number may be searched
  merge_method: ties
  base_model: demo/SmolLM2-135M-Instruct
  models:
    - {model: ./arithmetic, parameters: {weight: {search: [0, 1]}, density: {search: [0.2, 1]}}}
    - {model: ./reasoning, parameters: {weight: {search: [0, 1], points: 4}, density: 0.6}}
objectives: [arithmetic-easy-scored, {probe: reasoning-easy-scored, weight: 2}]
budget: {evaluations: 60}               # or {seconds: 3600}, or {gpu_hours: 2}
sampler: gp                             # or tpe, cma-es, random
compare_with: [random, grid]            # each with as many evaluations as the search
confirm: {keep: 5, suite: smoke}
```
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from evals.engine import Frozen
from evals.probes import Split, get_probe
from evals.scores import PROBE_SUITE
from orchestrator.errors import SweepError
from orchestrator.plan.candidates import absolute_place
from orchestrator.plan.fields_file import parse_fields, read_fields
from orchestrator.plan.sweep import SuiteEntry, SweepFile, parse_sweep
from orchestrator.search.merges.fidelity import FidelityStep
from orchestrator.search.merges.merge_search import MergeSearch, Objective, Rival, SamplerKind
from orchestrator.search.merges.searched_path import Block, joined
from orchestrator.search.merges.space import Space, SpaceError, Value, Values, is_searched
from recipes.errors import RecipeError
from recipes.layer_path import LayerPath
from recipes.recipe import Recipe
from recipes.yaml_text import YamlDocument

__all__ = ["MergeSearch", "Objective", "Rival", "SamplerKind", "SearchFile", "load_search", "parse_search"]


class SearchFile(Frozen):
    """A merge search and its origin."""

    search: MergeSearch = Field(description="The parsed search.")
    space: Space = Field(description="Its searched parameters.")
    text: str = Field(description="The file's text.")
    origin: str = Field(description="The file's name, for messages.")
    folder: str = Field(description="Folder that its checkpoints are relative to.")

    def recipe(self, values: Mapping[str, Value], base_layers: int | None = None) -> Recipe:
        """The recipe with these values in place of the searched ones; with the base's number of layers along its layer path.

        Raises RecipeError.
        """
        recipe = Recipe.from_data(self.space.fill(self.search.recipe, values), origin="recipe")
        block = self.block(values)
        if block is None or base_layers is None:
            return recipe
        layers = recipe.n_layers(dict.fromkeys(map(str, recipe.sources), base_layers))
        return recipe.along(LayerPath.of_block(*block, layers or base_layers))

    def block(self, values: Mapping[str, Value]) -> Block | None:
        """The block of layers that the merge with these values visits twice; None without one."""
        return self.search.layer_path.of(values) if self.search.layer_path is not None else None

    def entry(self, name: str, values: Mapping[str, Value]) -> dict[str, Any]:
        """The merge with these values as a recipe of a sweep."""
        entry: dict[str, Any] = {
            "name": name,
            "mergekit": self.space.fill(self.search.recipe, values),
        }
        block = self.block(values)
        return entry if block is None else entry | {"layer_path": f"({block[0]}, {block[1]})"}

    def require_layers(self, base_layers: int | None) -> None:
        """Raise SweepError if the block can reach beyond the base's layers."""
        path = self.search.layer_path
        if path is not None and base_layers is not None and path.longest[1] > base_layers:
            raise SweepError(
                f"{self.origin}: layer_path.block: it ends at {path.longest[1]}, and {self.search.base} has {base_layers} layers; "
                f"search ends of at most {base_layers}."
            )

    @property
    def corner(self) -> Values:
        """The upper end of every range and the first of every choice."""
        return {p.name: p.choices[0] if p.choices else p.rounded(p.bounds[1]) for p in self.space.parameters}

    def sweep(
        self,
        recipes: list[dict[str, Any]],
        split: Split,
        *,
        step: FidelityStep = FidelityStep.WHOLE,
        part: str = "",
        score_base: bool = True,
    ) -> SweepFile:
        """The sweep that evaluates recipes and the base on the objectives; on the search set, or to confirm."""
        search = self.search
        probes = [name for o in search.objectives if (name := self.probe_name(o, split, step)) is not None]
        suites: list[dict[str, Any]] = [{"suite": PROBE_SUITE, "benchmarks": probes}] if probes else []
        for objective in search.objectives:
            if objective.suite is not None:
                entry = SuiteEntry(
                    suite=objective.suite,
                    benchmarks=objective.benchmarks,
                    limit=self.limit_of(objective, split, step),
                )
                suites.append(entry.model_dump(mode="json", exclude_defaults=True))
        return self._sweep(f"{search.name}{part}", recipes, suites, score_base=score_base)

    @property
    def steps(self) -> tuple[FidelityStep, ...]:
        """The steps of a trial; one without `fidelity`."""
        return self.search.fidelity.steps if self.search.fidelity is not None else (FidelityStep.WHOLE,)

    def probe_name(self, objective: Objective, split: Split, step: FidelityStep) -> str | None:
        """Name of the probe that a step asks for an objective; None for a suite."""
        if objective.probe is None:
            return None
        probe = get_probe(f"{objective.probe}-{split}")
        fidelity = self.search.fidelity
        return probe.name if fidelity is None else probe.part(fidelity.count(step, len(probe.items))).name

    def limit_of(self, objective: Objective, split: Split, step: FidelityStep) -> int | None:
        """Documents of each subset that a step asks for an objective; None for a probe."""
        limit, fidelity = objective.limit_of(split), self.search.fidelity
        return limit if limit is None or fidelity is None else fidelity.count(step, limit)

    def suite_sweep(self, recipes: list[dict[str, Any]], suite: SuiteEntry) -> SweepFile:
        """The sweep that scores recipes and the base on a suite."""
        entry = suite.model_dump(mode="json", exclude_defaults=True)
        return self._sweep(f"{self.search.name} suite", recipes, [entry])

    def _sweep(
        self,
        name: str,
        recipes: list[dict[str, Any]],
        suites: list[dict[str, Any]],
        *,
        score_base: bool = True,
    ) -> SweepFile:
        import yaml

        search = self.search
        values = {
            "name": name,
            "base": absolute_place(search.base, Path(self.folder)),
            "score_base": score_base,
            "recipes": recipes,
            "sources": dict(search.sources),
            "suites": suites,
            "engines": [search.engine.model_dump(mode="json", exclude_defaults=True)],
            "chat_template": search.chat_template,
            "materialize": search.materialize,
            "build_seed": search.build_seed,
            "trust_remote_code": search.trust_remote_code,
            "allow_pickles": search.allow_pickles,
        }
        text = yaml.safe_dump(values, sort_keys=False)
        options = {"recipes": f"{self.origin}: recipe", "suites": f"{self.origin}: objectives"}
        options |= {"base": f"{self.origin}: base", "engines": f"{self.origin}: engine"}
        return parse_sweep(text.encode(), origin=self.origin, folder=Path(self.folder), options=options)


def load_search(path: Path) -> SearchFile:
    """Read a search file; SweepError names file, line and field of the first error."""
    data = read_fields(path, "search")
    return parse_search(data, origin=str(path), folder=path.resolve().parent)


def parse_search(data: bytes, *, origin: str, folder: Path) -> SearchFile:
    """Parse a search file's bytes. Raises SweepError."""
    search, document = parse_fields(
        data,
        MergeSearch,
        origin=origin,
        whole="search",
        fields="`name`, `base`, `recipe`, `objectives` and `budget`",
    )
    file = SearchFile(
        search=search,
        space=_space_of(search, document, origin),
        text=data.decode("utf-8"),
        origin=origin,
        folder=str(folder),
    )
    _check(file, document)
    return file


def _space_of(search: MergeSearch, document: YamlDocument, origin: str) -> Space:
    part = "layer_path"
    try:
        path = search.layer_path.space() if search.layer_path is not None else None
        part = "recipe"
        if path is not None and path.parameters and not is_searched(search.recipe):
            return path.model_copy(update={"places": ()})
        return joined(Space.of(search.recipe), path)
    except SpaceError as error:
        location = (part, *error.location)
        place = f"{origin}:{document.line_of(location)}: {'.'.join(map(str, location))}"
        raise SweepError(f"{place}: {error.problem}") from error


def _check(file: SearchFile, document: YamlDocument) -> None:
    """Raise SweepError for a recipe that mergekit refuses, and for a sampler that cannot search this space."""
    search, space = file.search, file.space
    line = document.line_of(("recipe",))
    try:
        file.recipe(file.corner)
    except RecipeError as error:
        raise SweepError(f"{file.origin}:{line}: {error}") from error
    ranges = sum(p.is_range for p in space.parameters)
    if search.sampler is SamplerKind.CMA_ES and (ranges < 2 or ranges < len(space.parameters)):
        raise SweepError(
            f"{file.origin}:{document.line_of(('sampler',))}: sampler: cma-es needs at least two searched ranges and no "
            "choices; choose gp or tpe."
        )
