"""Beam search over layer paths of several repeats and skips, followed by successive halving.

    moves      repeat a block [i, j) after the last visit of its last layer (a block can run three times), whole or
               in one of the scan's variants (attention or MLP alone, damped), or leave layers out; each is measured
               alone first, or taken from a stored scan
    beam       at each depth, extend the best paths with the best moves, rank the extensions by the sum of
               both gains, measure the top ones and keep the best
    halving    the best paths of all depths on the disjoint probes, the better half on a part of a suite, the
               better half of these on the whole suite

Every step is an ordinary run: its paths are measured in any order on all engines, and stored results are
reused, so that an interrupted search resumes. A step begins when the step before is complete.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from pydantic import Field

from evals.engine import Frozen
from evals.layer_visits import VisitPath as Layers
from evals.layer_visits import layer_of, path_order_key
from evals.probes import Confirmation, Measured, Ranking, RankMethod, Split, confirm, measure_gain, rank
from evals.stats import Delta
from orchestrator.compare.run_comparisons import results_of_run, run_comparisons
from orchestrator.errors import RunError, SweepError
from orchestrator.plan.plan import Confirms, Plan
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
from orchestrator.search.request import ScanRequest
from orchestrator.settings import Settings
from orchestrator.store import Store
from recipes.layer_path import LayerPath
from recipes.layer_visit import WHOLE, Variant, visit_of


class MoveKind(StrEnum):
    """Kind of change to a layer path."""

    REPEAT = "repeat"
    SKIP = "skip"


class Move(Frozen):
    """One change of a layer path."""

    kind: MoveKind = Field(description="Whether layers run once more or are left out.")
    i: int = Field(ge=0, description="First layer.")
    j: int = Field(description="Layer after the last.")
    variant: Variant = Field(default=WHOLE, description="How a repeat runs its layers.")

    def apply(self, layers: Layers) -> Layers | None:
        """The changed path; None if the move does not apply."""
        if self.kind is MoveKind.SKIP:
            left = tuple(visit for visit in layers if not self.i <= layer_of(visit) < self.j)
            return left if left and left != layers else None
        sources = [layer_of(visit) for visit in layers]
        if self.j - 1 not in sources:
            return None
        after = len(sources) - sources[::-1].index(self.j - 1)
        repeated = (visit_of(layer, self.variant) for layer in range(self.i, self.j))
        return (*layers[:after], *repeated, *layers[after:])


class SearchRequest(Frozen):
    """The options of `mergeboard search`."""

    scan: ScanRequest = Field(
        description="Checkpoint, probes and engine; its grid is the first depth of the search."
    )
    seed_run: str | None = Field(
        default=None, description="Id of a stored scan to begin with instead of the grid."
    )
    width: int = Field(default=8, ge=1, description="Paths kept at each depth.")
    depth: int = Field(default=3, ge=2, description="Maximum number of moves in a path; the grid has one.")
    pool: int = Field(default=16, ge=1, description="Number of best moves used to extend paths.")
    candidates: int = Field(default=32, ge=1, description="Paths measured at each depth.")
    max_added: int | None = Field(
        default=None,
        ge=0,
        description="Maximum number of added layers; null is the checkpoint's depth.",
    )
    keep: int = Field(default=8, ge=1, description="Paths to confirm; each further rung keeps half of them.")


class Depth(Frozen):
    """One depth of the beam."""

    depth: int = Field(description="Number of moves in its paths.")
    run_id: str = Field(description="Id of the run that measured it.")
    tried: int = Field(description="Number of paths measured.")
    best: str = Field(description="Short name of the best path.")
    best_gain: float = Field(description="Its gain over the checkpoint on the search set, in probe units.")


class Rung(Frozen):
    """One step of the halving."""

    what: str = Field(description="What its paths were evaluated on.")
    run_id: str = Field(description="Id of the run.")
    paths: tuple[str, ...] = Field(description="Short names of its paths, ranked by the rung before.")


class SearchReport(Frozen):
    """The result of a search."""

    request: SearchRequest = Field(description="Options of the search.")
    n_layers: int = Field(description="Number of layers of the checkpoint.")
    depths: tuple[Depth, ...] = Field(description="The beam, depth by depth; the first is the scan.")
    rungs: tuple[Rung, ...] = Field(description="The halving.")
    confirmation: Confirmation = Field(description="Results of the best paths on the confirmation set.")
    duration_s: float = Field(description="Duration of this command in seconds, without resumed parts.")

    @property
    def conclusion(self) -> str:
        """The result in one or two sentences."""
        return self.confirmation.conclusion


def run_search(
    request: SearchRequest, settings: Settings, reporting: Reporting, ground: Ground
) -> SearchReport:
    """Run what is not in the store yet and report the result."""
    request.scan.check()
    return _Search(request, settings, reporting, ground).run()


class _Search:
    """State of a search: what it has measured so far."""

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
        self._runs: list[str] = []

    def run(self) -> SearchReport:
        """Run the beam search, then the halving."""
        started = time.monotonic()
        first, seeds = self._seeds()
        self._runs.append(seeds)
        self._n_layers = first.n_layers
        self._base = tuple(range(first.n_layers))
        self._take(first, 1, seeds)
        moves = self._moves(first)
        frontier = self._best(self._gains, self._request.width)
        for depth in range(2, self._request.depth + 1):
            paths = self._extended(frontier, moves)
            if not paths:
                break
            probes, run_id = self._measure(f"depth {depth}: {len(paths)} layer paths", paths)
            self._take(probes, depth, run_id)
            frontier = self._best(
                (p.layers for p in probes.paths if p.layers != self._base), self._request.width
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
        """The scan that the search begins with: a stored one, or the grid."""
        if self._request.seed_run is None:
            plan = self._ground.plan(self._request.scan.search_sweep())
            return self._run(f"depth 1: {len(plan.candidates) - 1:,} layer paths", plan)
        plan = stored_plan(self._request.seed_run, self._settings)
        with Store.open(self._settings.database_url, create=False) as store:
            probes = probes_of_run(store, plan, self._settings.home)
        names = {f"{key}-{Split.SEARCH}" for key in self._request.scan.probes}
        asked = {result.probe for path in probes.paths for result in path.results}
        if not probes.paths or asked != names:
            raise SweepError(
                f"Run {self._request.seed_run} has no layer paths with all of the probes {', '.join(sorted(names))}; "
                "name the probes that it asked with --probes, or another scan."
            )
        return probes, self._request.seed_run

    def _moves(self, first: ProbesOfRun) -> list[tuple[Move, float]]:
        """The best moves: single blocks of the scan, and skips of one layer, which are measured here."""
        skips = {Move(kind=MoveKind.SKIP, i=n, j=n + 1).apply(self._base): n for n in range(self._n_layers)}
        paths = [path for path in skips if path is not None]
        probes, _ = self._measure(f"{len(paths)} layers left out, one by one", paths)
        self._keep(probes)
        moves: list[tuple[Move, float]] = []
        for layers in self._gains:
            path = LayerPath.of_validated(layers, self._n_layers)
            block = path.varied_block or path.block
            if layers in skips:
                moves.append(
                    (Move(kind=MoveKind.SKIP, i=skips[layers], j=skips[layers] + 1), self._gains[layers])
                )
            elif block is not None and block != (0, 0):
                i, j, *variant = block
                move = Move(kind=MoveKind.REPEAT, i=i, j=j, variant=variant[0] if variant else WHOLE)
                moves.append((move, self._gains[layers]))
        return sorted(moves, key=lambda move: -move[1])[: self._request.pool]

    def _extended(self, frontier: Sequence[Layers], moves: Sequence[tuple[Move, float]]) -> list[Layers]:
        """The untried extensions with the largest sum of the parent's and the move's gain."""
        max_layers = self._n_layers + (
            self._n_layers if self._request.max_added is None else self._request.max_added
        )
        gains: dict[Layers, float] = {}
        for parent in frontier:
            for move, gain in moves:
                layers = move.apply(parent)
                if layers is not None and len(layers) <= max_layers and layers not in self._tried:
                    gains[layers] = max(gains.get(layers, float("-inf")), self._gains[parent] + gain)
        return sorted(gains, key=lambda layers: (-gains[layers], path_order_key(layers)))[
            : self._request.candidates
        ]

    def _measure(self, what: str, paths: Sequence[Layers]) -> tuple[ProbesOfRun, str]:
        texts = tuple(LayerPath.of_validated(layers, self._n_layers).canonical for layers in paths)
        scan = self._request.scan.model_copy(update={"grid": None, "paths": texts})
        probes, run_id = self._run(what, self._ground.plan(scan.search_sweep()))
        self._runs.append(run_id)
        return probes, run_id

    def _run(self, what: str, plan: Plan) -> tuple[ProbesOfRun, str]:
        with self._reporting(what) as reporter:
            summary = self._ground.run(plan, reporter)
        with Store.open(self._settings.database_url, create=False) as store:
            probes = probes_of_run(store, plan, self._settings.home)
        require_base(probes, plan, summary)
        return probes, summary.run_id

    def _take(self, probes: ProbesOfRun, depth: int, run_id: str) -> None:
        if self._weights is None and self._request.scan.rank is RankMethod.BALANCED_Z:
            self._weights = self._ranking(probes).weights
        self._keep(probes)
        paths = [path.layers for path in probes.paths if path.layers != self._base]
        if not paths:
            raise RunError(f"Run {run_id} measured no layer path; `mergeboard status {run_id}` tells why.")
        best = self._best(paths, 1)[0]
        label = LayerPath.of_validated(best, self._n_layers).label
        self._depths.append(
            Depth(depth=depth, run_id=run_id, tried=len(paths), best=label, best_gain=self._gains[best])
        )

    def _keep(self, probes: ProbesOfRun) -> None:
        """Store values and gains; a failed path counts as tried."""
        for path in probes.paths:
            self._measured[path.layers] = path
        base = self._measured[self._base].results
        for path in probes.paths:
            if path.layers != self._base:
                self._gains[path.layers] = measure_gain(base, path.results, SCORING, self._weights).delta
        self._tried |= {path.layers for path in probes.paths} | set(probes.lacking)

    def _ranking(self, probes: ProbesOfRun) -> Ranking:
        return rank(table_of(probes), self._request.scan.probes, probes.n_layers, self._request.scan.rank)

    def _best(self, paths: Iterable[Layers], count: int) -> list[Layers]:
        return sorted(paths, key=lambda layers: (-self._gains[layers], len(layers), path_order_key(layers)))[
            :count
        ]

    # --- the halving ---

    def _halving(self) -> tuple[list[Rung], Confirmation]:
        """Evaluate on disjoint probes, a part of the suite, the whole suite; halve the paths after each."""
        picked = self._best(self._gains, self._request.keep)
        rungs, confirmed = [], None
        deltas: dict[Layers, dict[str, Delta]] = {}
        for what, scan in self._rungs():
            paths = [LayerPath.of_validated(layers, self._n_layers) for layers in picked]
            confirms = Confirms(runs=tuple(dict.fromkeys(self._runs)), rank=scan.rank)
            plan = self._ground.plan(scan.confirmation_sweep(paths)).model_copy(update={"confirms": confirms})
            probes, run_id = self._run(f"{what}: {len(paths)} layer paths", plan)
            rungs.append(Rung(what=what, run_id=run_id, paths=tuple(path.label for path in paths)))
            confirmed = confirmed or probes
            with Store.open(self._settings.database_url, create=False) as store:
                compared = run_comparisons(results_of_run(store, run_id), self._settings.home)
            deltas |= {layers: dict(gains) for layers, gains in benchmark_deltas(compared, paths).items()}
            picked = self._better_half(picked, confirmed, deltas)
        assert confirmed is not None
        confirmation = confirm(
            list(self._measured.values()),
            confirmed.paths,
            self._n_layers,
            SCORING,
            weights=self._weights,
            n_tried=len(self._tried) - 1,
            benchmarks=deltas,
            levels=levels_of(confirmed),
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
        self, picked: Sequence[Layers], confirmed: ProbesOfRun, deltas: Mapping[Layers, Mapping[str, Delta]]
    ) -> list[Layers]:
        """The better half by mean difference on benchmarks if there are any, else by probe gain."""
        results = {path.layers: path.results for path in confirmed.paths}
        base = results[self._base]

        def sort_key(layers: Layers) -> tuple[float, float]:
            points = [delta.delta_points for delta in deltas.get(layers, {}).values()]
            measured = results.get(layers)
            gain = (
                float("-inf")
                if measured is None
                else measure_gain(base, measured, SCORING, self._weights).delta
            )
            return (sum(points) / len(points) if points else 0.0, gain)

        return sorted(picked, key=sort_key, reverse=True)[: max(1, len(picked) // 2)]
