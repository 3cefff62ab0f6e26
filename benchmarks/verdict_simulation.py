"""How often *better*, *worse* and *real* are said where nothing is, and how often they are said where something is.

    python -m benchmarks.verdict_simulation               # all: about ten minutes of one core
    python -m benchmarks.verdict_simulation --scale 0.1   # a tenth of the sweeps and scans

Every p-value that can matter comes from the product's functions (`paired_draws`, `delta_of`, `corrected`, `confirm`). "Former" is the
procedure before: McNemar on raw flips with Benjamini-Hochberg, averages corrected apart, *worse* of a scan not at all.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np

from benchmarks.simulated_sweeps import draw_sweep, judge
from evals.probes import Finding, ItemResult, Measured, ProbeResult, Split, confirm
from evals.stats.resample import Floats
from evals.suite import Suite, load_suite

NEAR_FLOOR = np.array([-0.06, -0.02, 0.0, 0.01, 0.03, 0.08])
"""Raw scores against the lower bound: a base of 135 million to 7 billion parameters."""
FAR_ABOVE = np.array([0.15, 0.25, 0.35])
"""The same for one of 70 billion parameters."""
N_LAYERS = 12
BASE = tuple(range(N_LAYERS))
SEARCH_ITEMS = (32, 32, 36)
CONFIRMATION_ITEMS = (96, 64, 96)
N_PATHS, TOP = 465, 10
Noise = Callable[[np.random.Generator, tuple[int, ...]], Floats]
NOISES: dict[str, Noise] = {
    "every item a little": lambda rng, shape: rng.normal(0, 0.1, shape),
    "few items much": lambda rng, shape: rng.choice([-0.5, 0.5], shape) * (rng.random(shape) < 0.1),
    "skewed, mean 0": lambda rng, shape: rng.exponential(0.08, shape) - 0.08,
}


def share_text(hits: int, tries: int) -> str:
    """A share with its 95 % interval (Wilson)."""
    p, z = hits / tries, 1.96
    centre, half = (
        (p + z * z / 2 / tries) / (1 + z * z / tries),
        z / (1 + z * z / tries) * math.sqrt(p * (1 - p) / tries + z * z / 4 / tries**2),
    )
    return f"{hits:>4} of {tries:<5} {p:6.1%}  [{max(0.0, centre - half):.1%}, {centre + half:.1%}]"


def null_sweeps(
    suite: Suite, gaps: Floats, n_sweeps: int, n_candidates: int, seed: int = 0
) -> tuple[int, int, int]:
    """Sweeps without an effect in which something is called better or worse, now and before; contradictions now."""
    now = former = contradicted = 0
    for n in range(n_sweeps):
        rng = np.random.default_rng([seed, n])
        found = judge(draw_sweep(suite, gaps, np.zeros(n_candidates), rng))
        now += bool(found.now.any())
        former += bool(found.former.any())
        contradicted += found.contradicted
    return now, former, contradicted


def mixed_sweeps(suite: Suite, gaps: Floats, n_sweeps: int, seed: int = 1) -> tuple[int, int]:
    """Sweeps of 40 of which 32 are truly worse, in which one of the other eight is called better or worse."""
    effects = np.concatenate([np.full(32, -0.08), np.zeros(8)])
    now = former = 0
    for n in range(n_sweeps):
        found = judge(draw_sweep(suite, gaps, effects, np.random.default_rng([seed, n])), n_draws=400)
        now += bool(found.now[32:].any())
        former += bool(found.former[32:].any())
    return now, former


def power(
    suite: Suite, gaps: Floats, effect: float, n_sweeps: int, n_candidates: int = 40
) -> tuple[Floats, Floats]:
    """How often a candidate with this effect among others without one is called better, now and before: per benchmark, average last."""
    effects = np.zeros(n_candidates)
    effects[0] = effect
    now, former = [], []
    for n in range(n_sweeps):
        found = judge(draw_sweep(suite, gaps, effects, np.random.default_rng([2, n])), n_draws=400)
        now.append(found.now[0] == 1)
        former.append(found.former[0] == 1)
    return np.mean(now, axis=0), np.mean(former, axis=0)


def null_scan(
    noise: Noise, rng: np.random.Generator, gain: float = 0.0, n_paths: int = N_PATHS
) -> tuple[set[Finding], bool, bool]:
    """A scan whose paths have no effect but path 0, which gains: the findings now, whether one was called worse before, and whether
    path 0 was called real."""
    bases = [rng.uniform(0.3, 0.7, size) for size in (*SEARCH_ITEMS, *CONFIRMATION_ITEMS)]
    search = [np.clip(b + noise(rng, (n_paths, len(b))), 0, 1) for b in bases[:3]]
    search = [np.concatenate([np.clip(s[:1] + gain, 0, 1), s[1:]]) for s in search]
    order = np.argsort(-sum(s.mean(axis=1) - b.mean() for s, b in zip(search, bases[:3], strict=True)))[:TOP]
    again = [np.clip(b + noise(rng, (TOP, len(b))) + gain * (order == 0)[:, None], 0, 1) for b in bases[3:]]
    sides = []
    for split, base, paths in (
        (Split.SEARCH, bases[:3], [s[order] for s in search]),
        (Split.CONFIRMATION, bases[3:], again),
    ):
        rows = [_measured(BASE, split, base)]
        rows += [_measured((k, *BASE), split, [p[n] for p in paths]) for n, k in enumerate(order)]
        sides.append(rows)
    found = confirm(sides[0], sides[1], N_LAYERS, n_tried=n_paths)
    before = any(
        path.finding not in (Finding.REAL, Finding.SUGGESTIVE) and path.confirmation.interval.high < 0
        for path in found.paths
    )
    hit = any(
        path.layers[0] == 0 and path.layers != BASE and len(path.layers) > N_LAYERS for path in found.real
    )
    return {path.finding for path in found.paths}, before, hit and gain > 0


def _measured(layers: tuple[int, ...], split: Split, credits: list[Floats]) -> Measured:
    results = []
    for n, values in enumerate(credits):
        items = tuple(
            ItemResult.model_construct(
                item=i,
                target="",
                response="",
                extracted=None,
                published=None,
                corrected=float(c),
                answer_mass=None,
            )
            for i, c in enumerate(values)
        )
        results.append(
            ProbeResult.model_construct(
                probe=f"p{n}-{split}", key=f"p{n}", split=split, digest=f"p{n}-{split}", items=items
            )
        )
    return Measured.model_construct(layers=layers, results=tuple(results))


def sweeps_without_effect(scale: float) -> None:
    """Error rates of sweeps."""
    v2, smoke = load_suite("leaderboard-v2"), load_suite("smoke")
    print("Sweeps without an effect: something is called better or worse (a benchmark or an average)")
    for text, suite, gaps, n_sweeps, k in (
        ("leaderboard-v2, base near the floor, 40 candidates", v2, NEAR_FLOOR, 1000, 40),
        ("leaderboard-v2, base far above it, 40 candidates", v2, FAR_ABOVE, 300, 40),
        ("smoke, base near the floor, 40 candidates", smoke, NEAR_FLOOR, 1000, 40),
        ("leaderboard-v2, near the floor, 1 candidate", v2, NEAR_FLOOR, 1000, 1),
        ("smoke, base near the floor, 465 layer paths", smoke, NEAR_FLOOR, 200, N_PATHS),
        ("leaderboard-v2, near the floor, 465 layer paths", v2, NEAR_FLOOR, 100, N_PATHS),
    ):
        started = time.process_time()
        n = max(10, round(n_sweeps * scale))
        now, former, contradicted = null_sweeps(suite, gaps, n, k)
        print(f"  {text}\n    now    {share_text(now, n)}   verdicts against their interval: {contradicted}")
        print(f"    former {share_text(former, n)}   ({time.process_time() - started:.0f} s)", flush=True)


def sweeps_with_worse_ones(scale: float) -> None:
    """Error rate where most candidates are truly worse."""
    n = max(10, round(100 * scale))
    now, former = mixed_sweeps(load_suite("leaderboard-v2"), NEAR_FLOOR, n)
    print("32 of 40 candidates truly worse: one of the eight without an effect is called better or worse")
    print(f"    now    {share_text(now, n)}\n    former {share_text(former, n)}", flush=True)


def sweeps_with_an_effect(scale: float) -> None:
    """Power of sweeps."""
    v2 = load_suite("leaderboard-v2")
    print(
        "Power: one of 40 candidates turns a share of the base's wrong answers; called better, now (former)"
    )
    print(f"  {'turned':>7} " + " ".join(f"{b.title:>15}" for b in v2.benchmarks) + f" {'Average':>15}")
    for base, gaps in (("near the floor", NEAR_FLOOR), ("far above it", FAR_ABOVE)):
        print(f"  base {base}")
        for effect in (0.01, 0.02, 0.03, 0.05, 0.08):
            now_, former_ = power(v2, gaps, effect, max(10, round(60 * scale)))
            cells = (f"{a:.0%} ({b:.0%})" for a, b in zip(now_, former_, strict=True))
            print(f"  {effect:>7.0%} " + " ".join(f"{cell:>15}" for cell in cells), flush=True)


def scans_without_effect(scale: float) -> None:
    """Error rates of a scan's findings."""
    print(f"Scans of {N_PATHS} paths without an effect, the best {TOP} confirmed")
    n = max(10, round(200 * scale))
    for text, noise in NOISES.items():
        real = worse = before = 0
        for seed in range(n):
            findings, formerly, _ = null_scan(noise, np.random.default_rng([3, seed]))
            real += Finding.REAL in findings
            worse += Finding.WORSE in findings
            before += formerly
        print(f"  {text}\n    real         {share_text(real, n)}\n    worse, now   {share_text(worse, n)}")
        print(f"    worse, former{share_text(before, n)}", flush=True)


def scans_with_an_effect(scale: float) -> None:
    """Power of a scan."""
    print("Power: one path of a scan with a true gain (noise: every item a little), called real")
    n = max(10, round(100 * scale))
    for gain in (0.01, 0.02, 0.03, 0.04):
        hits = sum(
            null_scan(NOISES["every item a little"], np.random.default_rng([4, seed]), gain)[2]
            for seed in range(n)
        )
        print(f"  {gain:+.3f}  {share_text(hits, n)}", flush=True)


PARTS = {
    "sweeps": sweeps_without_effect,
    "mixed": sweeps_with_worse_ones,
    "power": sweeps_with_an_effect,
    "scans": scans_without_effect,
    "scan-power": scans_with_an_effect,
}


def main() -> None:
    """Print all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the sweeps and scans")
    parser.add_argument("--only", choices=tuple(PARTS), help="one part")
    chosen = parser.parse_args()
    started = time.process_time()
    for name, part in PARTS.items():
        if chosen.only in (None, name):
            part(chosen.scale)
    print(f"{time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    main()
