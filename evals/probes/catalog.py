"""All probes by name, and the sets of them that a scan uses."""

from __future__ import annotations

from collections.abc import Iterator

from evals.probes.arithmetic import DIFFICULTIES as ARITHMETIC
from evals.probes.arithmetic import arithmetic_probe
from evals.probes.emotion import DIFFICULTIES as EMOTION
from evals.probes.emotion import emotion_probe
from evals.probes.probe import AnyProbe
from evals.probes.reasoning import DIFFICULTIES as REASONING
from evals.probes.reasoning import reasoning_probe
from evals.probes.results import Difficulty, Family, Form, ProbeError, Split
from evals.scores import ChatTemplate

_MAKERS = {
    Family.ARITHMETIC: (ARITHMETIC, arithmetic_probe),
    Family.EMOTION: (EMOTION, emotion_probe),
    Family.REASONING: (REASONING, reasoning_probe),
}

SCAN_KEYS = ("arithmetic-easy-scored", "emotion-easy-scored", "reasoning-easy-scored")
"""Default probes of a scan; they give a signal for models of any size."""
PUBLISHED_KEYS = ("arithmetic-published-generated", "emotion-standard-generated")
"""The two probes of the published method, in the same form and length."""


def probe_keys() -> tuple[str, ...]:
    """The keys of all probes: `family-difficulty-form`."""
    return tuple(f"{family}-{difficulty}-{form}" for family, difficulty, form in _all_variants())


def get_probe(name: str) -> AnyProbe:
    """A probe by its name, `family-difficulty-form-split`, or a part of it, `...-part8`; ProbeError if there is none."""
    whole, is_part, number = name.partition("-part")
    if is_part and number.isascii() and number.isdecimal() and 0 < len(number) <= 6 and int(number) > 0:
        part = get_probe(whole).part(int(number))
        if part.name == name:
            return part
    key, _, split = name.rpartition("-")
    for family, difficulty, form in _all_variants():
        if key == f"{family}-{difficulty}-{form}" and split in tuple(Split):
            return _MAKERS[family][1](difficulty, form, Split(split))
    raise ProbeError(
        f"There is no probe {name!r}: choose one of {', '.join(probe_keys())}, followed by -search or -confirmation."
    )


def probe_pair(key: str) -> tuple[AnyProbe, AnyProbe]:
    """The search set and the disjoint confirmation set of a probe."""
    return get_probe(f"{key}-{Split.SEARCH}"), get_probe(f"{key}-{Split.CONFIRMATION}")


def natural_template(probe: AnyProbe, has_template: bool) -> ChatTemplate:
    """The default template of a probe: the checkpoint's for generated answers if it has one, else plain text."""
    return ChatTemplate.ON if probe.form is Form.GENERATED and has_template else ChatTemplate.OFF


def _all_variants() -> Iterator[tuple[Family, Difficulty, Form]]:
    for family, (difficulties, _) in _MAKERS.items():
        for difficulty in difficulties:
            for form in Form:
                yield family, difficulty, form
