"""The honest end, on scans whose truth is known because the tests made them."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.random import Generator

from evals.probes import (
    Finding,
    ItemResult,
    Measured,
    ProbeError,
    ProbeResult,
    Scoring,
    Split,
    confirm,
    measure_gain,
)
from evals.stats import Delta, Interval, SignificanceTest

N_LAYERS = 12
BASE = tuple(range(N_LAYERS))
BLOCKS = [(i, j) for i in range(N_LAYERS) for j in range(i + 1, N_LAYERS + 1)]
KEYS = ("arithmetic-easy-scored", "reasoning-easy-scored")


def layers(i: int, j: int) -> tuple[int, ...]:
    return tuple(range(j)) + tuple(range(i, N_LAYERS))


def result(key: str, split: Split, credits: np.ndarray) -> ProbeResult:
    items = tuple(
        ItemResult(item=n, target="", response="", extracted=None, published=None, corrected=float(c))
        for n, c in enumerate(np.clip(credits, 0, 1))
    )
    return ProbeResult(probe=f"{key}-{split}", key=key, split=split, digest=f"{key}-{split}", items=items)


def measured(
    path: tuple[int, ...],
    split: Split,
    base: dict[str, np.ndarray],
    change: Callable[[str], np.ndarray | float],
) -> Measured:
    return Measured(layers=path, results=tuple(result(k, split, base[k] + change(k)) for k in KEYS))


def scan(
    rng: Generator, split: Split, n: int, gains: dict[tuple[int, int], float], spread: float
) -> list[Measured]:
    """A base and all blocks; each changes items at random, and those in `gains` by so much on average."""
    base = {key: rng.uniform(0.3, 0.7, n) for key in KEYS}
    found = [measured(BASE, split, base, lambda _: 0.0)]
    for block in BLOCKS:
        gain = gains.get(block, -0.02)
        found.append(measured(layers(*block), split, base, lambda _, g=gain: g + rng.normal(0, spread, n)))
    return found


def pick(found: list[Measured], confirmation: list[Measured], k: int) -> list[Measured]:
    """The base and the k best of the search set, as the confirmation measured them."""
    gains = {m.layers: measure_gain(found[0].results, m.results, Scoring.CORRECTED).delta for m in found[1:]}
    best = sorted(gains, key=gains.__getitem__, reverse=True)[:k]
    return [m for m in confirmation if m.layers == BASE or m.layers in best]


@pytest.mark.parametrize("seed", range(20))
def test_a_planted_gain_is_called_real_and_decoys_are_not(seed: int) -> None:
    """Five decoys help on the search set as much as the planted block does, and not at all on the confirmation set."""
    rng = np.random.default_rng(seed)
    decoys = [BLOCKS[n] for n in rng.choice(len(BLOCKS), 6, replace=False)]
    planted = decoys.pop()
    search = scan(rng, Split.SEARCH, 32, dict.fromkeys([*decoys, planted], 0.15), 0.15)
    again = scan(rng, Split.CONFIRMATION, 96, {planted: 0.15}, 0.15)
    found = confirm(search, pick(search, again, 10), N_LAYERS)
    assert [path.layers for path in found.real] == [layers(*planted)]
    assert found.n_tried == len(BLOCKS)
    assert {layers(*d) for d in decoys} <= {path.layers for path in found.paths}
    assert found.shrinkage.kept is not None
    assert found.shrinkage.kept < 0.6
    assert "1 of the 10 best of 78 paths keep" in found.conclusion


def test_nothing_is_real_where_nothing_is() -> None:
    wrong = 0
    for seed in range(15):
        rng = np.random.default_rng(1000 + seed)
        search = scan(rng, Split.SEARCH, 32, dict.fromkeys(BLOCKS, 0.0), 0.15)
        again = scan(rng, Split.CONFIRMATION, 48, dict.fromkeys(BLOCKS, 0.0), 0.15)
        found = confirm(search, pick(search, again, 8), N_LAYERS)
        wrong += bool(found.real)
        if not found.real:
            assert found.conclusion.startswith("Nothing here is real: of the 8 best of 78 paths none keeps")
            assert f"less than about {found.detectable:.3f}" in found.conclusion
        # The best of many looks good on the set that it was picked by; what is expected of it is much less.
        best = found.paths[0]
        assert best.search.delta > 0
        assert best.expected < best.search.delta / 2
    assert wrong <= 1


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("normal", lambda rng, n: rng.normal(0, 0.1, n)),
        ("rare and large", lambda rng, n: rng.choice([-0.5, 0.5], n) * (rng.random(n) < 0.15)),
        ("flips", lambda rng, n: rng.choice([-1.0, 0.0, 1.0], n, p=[0.1, 0.8, 0.1])),
        ("skewed", lambda rng, n: rng.exponential(0.1, n) - 0.1),
    ],
)
def test_p_values_hold_their_level(name: str, draw: Callable[[Generator, int], np.ndarray]) -> None:
    """Without a true gain p is below x in at most x of all cases, also far out in the tail and for odd distributions."""
    rng = np.random.default_rng(7)
    p_values = []
    for _ in range(2000):
        pair = []
        for scale in (0.0, 1.0):
            changes = {key: draw(rng, 48) * scale for key in KEYS}
            results = []
            for key in KEYS:
                items = tuple(
                    ItemResult(
                        item=n, target="", response="", extracted=None, published=None, corrected=float(c)
                    )
                    for n, c in enumerate(changes[key])
                )
                results.append(ProbeResult(probe=key, key=key, split=Split.SEARCH, digest=key, items=items))
            pair.append(results)
        p_values.append(measure_gain(pair[0], pair[1], Scoring.CORRECTED).p)
    for level in (0.05, 0.01):
        share = float(np.mean(np.array(p_values) <= level))
        assert share <= level + 3 * math.sqrt(level / 2000), (name, level)


def two(change: np.ndarray) -> tuple[list[ProbeResult], list[ProbeResult]]:
    base = np.full(len(change), 0.4)
    return [result(KEYS[0], Split.SEARCH, base)], [result(KEYS[0], Split.SEARCH, base + change)]


def test_equal_changes_of_few_items_prove_little() -> None:
    gain = measure_gain(*two(np.full(3, 0.5)), Scoring.CORRECTED)
    assert gain.delta == pytest.approx(0.5)
    assert gain.p >= 0.125
    assert gain.interval.low < 0.5 < gain.interval.high


def test_no_change_at_all() -> None:
    gain = measure_gain(*two(np.zeros(30)), Scoring.CORRECTED)
    assert (gain.delta, gain.p, gain.interval) == (0, 1, Interval(low=0, high=0))


def test_intervals_hold_the_truth() -> None:
    rng, held = np.random.default_rng(3), 0
    for _ in range(600):
        gain = measure_gain(*two(rng.normal(0.05, 0.1, 32)), Scoring.CORRECTED)
        held += gain.interval.holds(0.05)
    assert 0.93 <= held / 600 <= 0.98


def test_weights_decide_what_counts() -> None:
    base = [result(key, Split.SEARCH, np.full(8, 0.5)) for key in KEYS]
    other = [result(KEYS[0], Split.SEARCH, np.full(8, 0.7)), result(KEYS[1], Split.SEARCH, np.full(8, 0.4))]
    assert measure_gain(base, other, Scoring.CORRECTED).delta == pytest.approx(0.05)
    assert measure_gain(base, other, Scoring.CORRECTED, {KEYS[0]: 2.0}).delta == pytest.approx(0.2)
    assert measure_gain(base, other, Scoring.CORRECTED).by_probe == pytest.approx(
        {KEYS[0]: 0.2, KEYS[1]: -0.1}
    )
    with pytest.raises(ProbeError, match="weights"):
        measure_gain(base, other, Scoring.CORRECTED, {KEYS[0]: -1.0})


def small_scan(seed: int = 0) -> tuple[list[Measured], list[Measured]]:
    rng = np.random.default_rng(seed)
    search = scan(rng, Split.SEARCH, 16, {BLOCKS[5]: 0.3}, 0.1)
    again = scan(rng, Split.CONFIRMATION, 32, {BLOCKS[5]: 0.3, BLOCKS[6]: -0.3}, 0.1)
    return search, [
        m for m in again if m.layers in (BASE, layers(*BLOCKS[5]), layers(*BLOCKS[6]), layers(*BLOCKS[7]))
    ]


def test_findings_benchmarks_and_order() -> None:
    search, again = small_scan()
    delta = Delta(
        base=10, candidate=14, delta_points=4, delta_percent=40, interval=Interval(low=2, high=6), stderr_points=1,
        detectable_points=2.8, test=SignificanceTest.SIGN_FLIP, p=0.0001, n=500, gained=60, lost=20,
    )  # fmt: skip
    found = confirm(search, again, N_LAYERS, benchmarks={layers(*BLOCKS[5]): {"bbh": delta}})
    by_layers = {path.layers: path for path in found.paths}
    assert [path.rank for path in found.paths] == sorted(path.rank for path in found.paths)
    assert by_layers[layers(*BLOCKS[5])].finding is Finding.REAL
    assert by_layers[layers(*BLOCKS[6])].finding is Finding.WORSE
    assert by_layers[layers(*BLOCKS[7])].finding is Finding.NOT_CONFIRMED
    (bench,) = by_layers[layers(*BLOCKS[5])].benchmarks
    assert bench.p_corrected == pytest.approx(0.0001 * found.n_tried)
    assert found.base_search.keys() == found.base_confirmation.keys() == set(KEYS)


def test_benchmarks_are_corrected_for_paths_and_benchmarks() -> None:
    search, again = small_scan()
    delta = Delta(
        base=10, candidate=14, delta_points=4, delta_percent=40, interval=Interval(low=2, high=6), stderr_points=1,
        detectable_points=2.8, test=SignificanceTest.SIGN_FLIP, p=0.0001, n=500, gained=60, lost=20,
    )  # fmt: skip
    both = {layers(*BLOCKS[5]): {"bbh": delta, "musr": delta}, layers(*BLOCKS[6]): {"bbh": delta}}
    found = confirm(search, again, N_LAYERS, benchmarks=both)
    gains = [gain.p_corrected for path in found.paths for gain in path.benchmarks]
    assert gains == pytest.approx([0.0001 * 2 * found.n_tried] * 3)


def test_worse_is_corrected_for_all_paths_tried_and_nothing_contradicts_its_interval() -> None:
    """Ten paths of a scan without an effect: before, 13.5 % of such scans called one of them worse."""
    wrong, alone = 0, 0
    for seed in range(24):
        rng = np.random.default_rng(2000 + seed)
        gains = dict.fromkeys(BLOCKS, 0.0)
        search = scan(rng, Split.SEARCH, 24, gains, 0.15)
        again = scan(rng, Split.CONFIRMATION, 48, gains, 0.15)
        found = confirm(search, pick(search, again, 10), N_LAYERS)
        wrong += any(path.finding is Finding.WORSE for path in found.paths)
        alone += any(path.confirmation.interval.high < 0 for path in found.paths)
    assert alone >= 2
    assert wrong <= 1


@pytest.mark.parametrize("seed", range(10))
def test_no_finding_contradicts_its_interval(seed: int) -> None:
    """Also with one path tried, where a one-sided p of 0.04 is below 0.05 and the interval holds 0."""
    rng = np.random.default_rng(seed)
    base = {key: rng.uniform(0.3, 0.7, 40) for key in KEYS}
    for _ in range(20):
        gain = rng.normal(0, 0.04)
        path, change = layers(2, 5), lambda _, g=gain: g + rng.normal(0, 0.15, 40)
        sides = [
            [measured(BASE, split, base, lambda _: 0.0), measured(path, split, base, change)]
            for split in Split
        ]
        (only,) = confirm(sides[0], sides[1], N_LAYERS).paths
        span = only.confirmation.interval
        if only.finding in (Finding.REAL, Finding.SUGGESTIVE):
            assert span.low > 0
        elif only.finding is Finding.WORSE:
            assert span.high < 0


def test_more_paths_tried_means_a_stricter_correction() -> None:
    search, again = small_scan()
    few, many = confirm(search, again, N_LAYERS), confirm(search, again, N_LAYERS, n_tried=10**9)
    assert many.n_tried == 10**9
    assert all(m.p_tried >= f.p_tried for f, m in zip(few.paths, many.paths, strict=True))
    assert many.detectable > few.detectable
    assert confirm(search, again, N_LAYERS, n_tried=1).n_tried == len(BLOCKS)


def test_a_hint_where_only_the_milder_test_is_passed() -> None:
    search, again = small_scan()
    found = confirm(search, again, N_LAYERS, n_tried=10**30)
    assert not found.real
    assert any(path.finding is Finding.SUGGESTIVE for path in found.paths)
    assert "1 of them would pass a milder test" in found.conclusion


def test_what_cannot_be_confirmed_is_refused() -> None:
    search, again = small_scan()
    with pytest.raises(ProbeError, match="unmodified path"):
        confirm(search[1:], again, N_LAYERS)
    with pytest.raises(ProbeError, match="Nothing to confirm"):
        confirm(search, again[:1], N_LAYERS)
    with pytest.raises(ProbeError, match="two splits"):
        confirm(search, search[:3], N_LAYERS)
    stranger = again[1].model_copy(update={"layers": (0, 0, 0)})
    with pytest.raises(ProbeError, match="search results of each"):
        confirm(search, [again[0], stranger], N_LAYERS)
    with pytest.raises(ProbeError, match="same probes"):
        measure_gain(search[0].results, again[0].results, Scoring.CORRECTED)
