"""Beyond the grid: layer paths of several blocks, repeats and skips, by beam search, then halving over fidelity.

    moves      run a block [i, j) once more (after the last visit of its last layer, so that the same block can be run three
               times), or leave layers out; each is tried alone first, or taken from a scan that is in the store
    beam       the best paths so far x the best moves, the most promising by the sum of what both gave; those are measured,
               the best go on, for so many depths
    halving    the best of all on the disjoint probes, the better half of them on a part of a suite, the better half of these
               on the whole of it

Every step is an ordinary run: its paths are measured in any order on all engines that there are, and what is in the store is
not measured again, so that a search that was cut goes on where it was. The next step begins when all of one are measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from pydantic import Field

from evals.engine import Frozen
from evals.probes import Confirmation, Measured, Ranking, RankMethod, Split, confirm, measure_gain, rank
from evals.stats import Delta
from orchestrator.compare.run_comparisons import results_of_run, run_comparisons
from orchestrator.errors import RunError, SweepError
from orchestrator.plan.plan import Plan
from orchestrator.run.run import stored_plan
from orchestrator.search.grid_scan import (
    SCORING,
    Ground,
    Reporting,
    benchmark_deltas,
    levels_of,
    require_base,
    table_of,
)
from orchestrator.search.probe_answers import ProbesOfRun, probes_of_run
from orchestrator.search.report import weights_of
from orchestrator.search.request import ScanRequest
from orchestrator.settings import Settings
from orchestrator.store import Store
from recipes.layer_path import LayerPath

Layers = tuple[int, ...]


class MoveKind(StrEnum):
    """What a step does to a layer path."""

    REPEAT = "repeat"
    SKIP = "skip"


class Move(Frozen):
    """One change of a layer path."""

    kind: MoveKind = Field(description="Whether layers run once more or are left out.")
    i: int = Field(ge=0, description="First layer.")
    j: int = Field(description="Layer after the last.")

    def apply(self, layers: Layers) -> Layers | None:
        """The changed path; null where it cannot be changed so."""
        if self.kind is MoveKind.SKIP:
            left = tuple(layer for layer in layers if not self.i <= layer < self.j)
            return left if left and left != layers else None
        if self.j - 1 not in layers:
            return None
        after = len(layers) - layers[::-1].index(self.j - 1)
        return (*layers[:after], *range(self.i, self.j), *layers[after:])


class SearchRequest(Frozen):
    """What `mergeboard search` is asked for."""

    scan: ScanRequest = Field(
        description="Checkpoint, probes and engine; its grid is where the search begins."
    )
    seed_run: str | None = Field(
        default=None, description="A scan in the store to begin with instead; null is the grid."
    )
    width: int = Field(default=8, ge=1, description="Paths that go on at each depth.")
    depth: int = Field(default=3, ge=2, description="Moves that a path may be made of; the grid has one.")
    pool: int = Field(default=16, ge=1, description="Best moves that paths are extended with.")
    candidates: int = Field(default=32, ge=1, description="Paths that are measured at each depth.")
    max_added: int | None = Field(
        default=None, ge=0, description="Most layers beyond the checkpoint's own; null is its depth."
    )
    keep: int = Field(
        default=8, ge=1, description="Paths that are confirmed; each further rung keeps half of them."
    )


class Depth(Frozen):
    """One depth of the beam."""

    depth: int = Field(description="Moves in its paths.")
    run_id: str = Field(description="The run that measured it.")
    tried: int = Field(description="Paths that were measured.")
    best: str = Field(description="The best of them, by its short name.")
    best_gain: float = Field(description="Its gain over the checkpoint on the search set, in probe units.")


class Rung(Frozen):
    """One step of the halving."""

    what: str = Field(description="What its paths were asked.")
    run_id: str = Field(description="The run.")
    paths: tuple[str, ...] = Field(description="Its paths, best first when they were picked.")


class SearchReport(Frozen):
    """What a search found."""

    request: SearchRequest = Field(description="What was asked for.")
    n_layers: int = Field(description="Layers of the checkpoint.")
    depths: tuple[Depth, ...] = Field(description="The beam, depth by depth; the first is the scan.")
    rungs: tuple[Rung, ...] = Field(description="The halving.")
    confirmation: Confirmation = Field(description="What became of the best.")
    duration_s: float = Field(description="Seconds that this command took; a resumed search took more.")

    @property
    def conclusion(self) -> str:
        """The result in one or two sentences."""
        return self.confirmation.conclusion


def run_search(
    request: SearchRequest, settings: Settings, reporting: Reporting, ground: Ground
) -> SearchReport:
    """Run what is not in the store yet, and tell what it shows."""
    request.scan.check()
    return _Search(request, settings, reporting, ground).run()


class _Search:
    """One search and what it has measured so far."""

    def __init__(
        self, request: SearchRequest, settings: Settings, reporting: Reporting, ground: Ground
    ) -> None:
        self._request = request
        self._settings = settings
        self._reporting = reporting
        self._ground = ground
        self._measured: dict[Layers, Measured] = {}
        self._tried: set[Layers] = set()
        self._gains: dict[Layers, float] = {}
        self._weights: Mapping[str, float] | None = None
        self._depths: list[Depth] = []

    def run(self) -> SearchReport:
        """Beam, then halving."""
        started = time.monotonic()
        first, seeds = self._seeds()
        self._n_layers = first.n_layers
        self._base = tuple(range(first.n_layers))
        self._take(first, 1, seeds)
        moves = self._moves(first)
        frontier = self._best(self._gains, self._request.width)
        for depth in range(2, self._request.depth + 1):
            paths = self._extended(frontier, moves)
            if not paths:
                break
            found, run_id = self._measure(f"depth {depth}: {len(paths)} layer paths", paths)
            self._take(found, depth, run_id)
            frontier = self._best(
                (p.layers for p in found.paths if p.layers != self._base), self._request.width
            )
        rungs, confirmation = self._halving()
        return SearchReport(
            request=self._request,
            n_layers=self._n_layers,
            depths=tuple(self._depths),
            rungs=tuple(rungs),
            confirmation=confirmation,
            duration_s=time.monotonic() - started,
        )

    # --- the beam ---

    def _seeds(self) -> tuple[ProbesOfRun, str]:
        """The scan that the search begins with: one that is in the store, or the grid."""
        if self._request.seed_run is None:
            plan = self._ground.plan(self._request.scan.search_sweep())
            return self._run(f"depth 1: {len(plan.candidates) - 1:,} layer paths", plan)
        plan = stored_plan(self._request.seed_run, self._settings)
        with Store.open(self._settings.database_url, create=False) as store:
            found = probes_of_run(store, plan, self._settings.home)
        mine = {f"{key}-{Split.SEARCH}" for key in self._request.scan.probes}
        asked = {result.probe for path in found.paths for result in path.results}
        if not found.paths or asked != mine:
            raise SweepError(
                f"Run {self._request.seed_run} has no layer paths with all of the probes {', '.join(sorted(mine))}; "
                "name the probes that it asked with --probes, or another scan."
            )
        return found, self._request.seed_run

    def _moves(self, first: ProbesOfRun) -> list[tuple[Move, float]]:
        """The best moves: the scan's single blocks, and each layer left out, which is measured now."""
        skips = {Move(kind=MoveKind.SKIP, i=n, j=n + 1).apply(self._base): n for n in range(self._n_layers)}
        wanted = [path for path in skips if path is not None]
        found, _ = self._measure(f"{len(wanted)} layers left out, one by one", wanted)
        self._keep(found)
        moves: list[tuple[Move, float]] = []
        for layers in self._gains:
            block = LayerPath(layers=layers, n_layers=self._n_layers).block
            if layers in skips:
                moves.append(
                    (Move(kind=MoveKind.SKIP, i=skips[layers], j=skips[layers] + 1), self._gains[layers])
                )
            elif block is not None and block != (0, 0):
                moves.append((Move(kind=MoveKind.REPEAT, i=block[0], j=block[1]), self._gains[layers]))
        return sorted(moves, key=lambda move: -move[1])[: self._request.pool]

    def _extended(self, frontier: Sequence[Layers], moves: Sequence[tuple[Move, float]]) -> list[Layers]:
        """The most promising extensions that nobody has tried, by the sum of the parent's and the move's gain."""
        most = self._n_layers + (
            self._n_layers if self._request.max_added is None else self._request.max_added
        )
        hopes: dict[Layers, float] = {}
        for parent in frontier:
            for move, gain in moves:
                made = move.apply(parent)
                if made is not None and len(made) <= most and made not in self._tried:
                    hopes[made] = max(hopes.get(made, float("-inf")), self._gains[parent] + gain)
        return sorted(hopes, key=lambda layers: (-hopes[layers], layers))[: self._request.candidates]

    def _measure(self, what: str, paths: Sequence[Layers]) -> tuple[ProbesOfRun, str]:
        texts = tuple(LayerPath(layers=layers, n_layers=self._n_layers).canonical for layers in paths)
        scan = self._request.scan.model_copy(update={"grid": None, "paths": texts})
        return self._run(what, self._ground.plan(scan.search_sweep()))

    def _run(self, what: str, plan: Plan) -> tuple[ProbesOfRun, str]:
        with self._reporting(what) as reporter:
            summary = self._ground.run(plan, reporter)
        with Store.open(self._settings.database_url, create=False) as store:
            found = probes_of_run(store, plan, self._settings.home)
        require_base(found, plan, summary)
        return found, summary.run_id

    def _take(self, found: ProbesOfRun, depth: int, run_id: str) -> None:
        if self._weights is None and self._request.scan.rank is RankMethod.BALANCED_Z:
            self._weights = weights_of(self._ranking(found))
        self._keep(found)
        mine = [path.layers for path in found.paths if path.layers != self._base]
        if not mine:
            raise RunError(f"Run {run_id} measured no layer path; `mergeboard status {run_id}` tells why.")
        best = self._best(mine, 1)[0]
        label = LayerPath(layers=best, n_layers=self._n_layers).label
        self._depths.append(
            Depth(depth=depth, run_id=run_id, tried=len(mine), best=label, best_gain=self._gains[best])
        )

    def _keep(self, found: ProbesOfRun) -> None:
        """Note values; a path that failed counts as tried."""
        for path in found.paths:
            self._measured[path.layers] = path
        base = self._measured[self._base].results
        for path in found.paths:
            if path.layers != self._base:
                self._gains[path.layers] = measure_gain(base, path.results, SCORING, self._weights).delta
        self._tried |= {path.layers for path in found.paths} | set(found.lacking)

    def _ranking(self, found: ProbesOfRun) -> Ranking:
        return rank(table_of(found), self._request.scan.probes, found.n_layers, self._request.scan.rank)

    def _best(self, paths: Iterable[Layers], count: int) -> list[Layers]:
        return sorted(paths, key=lambda layers: (-self._gains[layers], len(layers), layers))[:count]

    # --- the halving ---

    def _halving(self) -> tuple[list[Rung], Confirmation]:
        """The disjoint probes, a part of the suite, the whole suite; each for half of those before."""
        picked = self._best(self._gains, self._request.keep)
        rungs, again = [], None
        deltas: dict[Layers, dict[str, Delta]] = {}
        for what, scan in self._rungs():
            paths = [LayerPath(layers=layers, n_layers=self._n_layers) for layers in picked]
            plan = self._ground.plan(scan.confirmation_sweep(paths))
            found, run_id = self._run(f"{what}: {len(paths)} layer paths", plan)
            rungs.append(Rung(what=what, run_id=run_id, paths=tuple(path.label for path in paths)))
            again = again or found
            with Store.open(self._settings.database_url, create=False) as store:
                compared = run_comparisons(results_of_run(store, run_id), self._settings.home)
            deltas |= {layers: dict(gains) for layers, gains in benchmark_deltas(compared, paths).items()}
            picked = self._better_half(picked, again, deltas)
        assert again is not None
        confirmation = confirm(
            list(self._measured.values()),
            again.paths,
            self._n_layers,
            SCORING,
            weights=self._weights,
            n_tried=len(self._tried) - 1,
            benchmarks=deltas,
            levels=levels_of(again),
        )
        return rungs, confirmation

    def _rungs(self) -> list[tuple[str, ScanRequest]]:
        scan = self._request.scan
        rungs = [("disjoint probes", scan.model_copy(update={"suite": None, "limit": None}))]
        if scan.suite is not None and scan.limit is not None:
            rungs.append((f"{scan.limit} documents of each subset of {scan.suite}", scan))
        if scan.suite is not None:
            rungs.append((f"all of {scan.suite}", scan.model_copy(update={"limit": None})))
        return rungs

    def _better_half(
        self, picked: Sequence[Layers], again: ProbesOfRun, deltas: Mapping[Layers, Mapping[str, Delta]]
    ) -> list[Layers]:
        """By the mean difference on benchmarks where there are some, else by the gain on the disjoint probes."""
        results = {path.layers: path.results for path in again.paths}
        base = results[self._base]

        def worth(layers: Layers) -> tuple[float, float]:
            points = [delta.delta_points for delta in deltas.get(layers, {}).values()]
            mine = results.get(layers)
            gain = float("-inf") if mine is None else measure_gain(base, mine, SCORING, self._weights).delta
            return (sum(points) / len(points) if points else 0.0, gain)

        return sorted(picked, key=worth, reverse=True)[: max(1, len(picked) // 2)]
