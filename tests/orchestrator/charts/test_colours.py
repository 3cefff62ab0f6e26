"""The colour language: readable text, and meanings that readers with a colour vision deficiency tell apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from orchestrator.charts import LOOKS, Meaning, Theme, meaning_of

# Machado, Oliveira and Fernandes (2009), severity 1, for linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])
AA = 4.5
"""Least contrast of text by WCAG 2 AA."""


def linear(colour: str) -> NDArray[np.float64]:
    """A `#rrggbb` colour as linear RGB."""
    part = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE L*a*b* under D65 of linear RGB."""
    t = _XYZ @ np.clip(rgb, 0, 1) / _WHITE
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def difference(a: str, b: str, vision: str) -> float:
    """CIE 1976 colour difference as seen with this vision; about 2.3 is just noticeable."""
    seen = [lab(VISION[vision] @ linear(colour)) for colour in (a, b)]
    return float(np.linalg.norm(seen[0] - seen[1]))


def contrast(a: str, b: str) -> float:
    """Contrast ratio by WCAG 2."""
    low, high = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (a, b))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", Theme)
def test_text_is_readable_on_paper_and_on_every_tint(theme: Theme) -> None:
    look = LOOKS[theme]
    for colour in (look.ink, look.faint, look.null, look.selected):
        assert contrast(colour, look.paper) >= AA, colour
    for meaning in Meaning:
        tone = look.tone(meaning)
        assert contrast(tone.text, look.paper) >= AA, meaning
        assert contrast(tone.text, tone.tint) >= AA, meaning
        assert contrast(look.ink, tone.tint) >= 7, meaning


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", Theme)
def test_better_worse_and_neither_differ_for_every_vision(theme: Theme, vision: str) -> None:
    look = LOOKS[theme]
    tones = (look.better, look.worse, look.neutral)
    for one, other in itertools.combinations(tones, 2):
        assert difference(one.text, other.text, vision) >= 18
        assert difference(one.tint, other.tint, vision) >= 10
    for tone in tones[:2]:
        assert difference(tone.tint, look.paper, vision) >= 12


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", Theme)
def test_a_heatmaps_colours_differ_and_are_equally_strong_on_both_sides(theme: Theme, vision: str) -> None:
    colours = LOOKS[theme].diverging
    half = len(colours) // 2
    for one, other in itertools.pairwise(colours):
        assert difference(one, other, vision) >= 10
    for step in range(half):
        assert difference(colours[step], colours[-1 - step], vision) >= 30
    lightness = [lab(linear(colour))[0] for colour in colours]
    for step in range(half):
        assert abs(lightness[step] - lightness[-1 - step]) <= 5, "an equal difference looks equally large"
    assert sorted(lightness[: half + 1], reverse=theme is Theme.DARK) == lightness[: half + 1]


def test_every_meaning_has_a_mark_of_its_own() -> None:
    assert len({meaning.mark for meaning in Meaning}) == len(Meaning)
    assert meaning_of(1.0, significant=True, excludes_zero=True).mark == "▲"
    assert meaning_of(-1.0, significant=True, excludes_zero=True).mark == "▼"
    assert meaning_of(1.0, significant=False, excludes_zero=True).mark == "△"
    assert meaning_of(-1.0, significant=False, excludes_zero=True).mark == "▽"
    assert meaning_of(1.0, significant=False).mark == ""
    assert meaning_of(None, significant=False).mark == "⊘"
