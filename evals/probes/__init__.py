"""The probes of layer scans: small screening sets, their scorings, null levels, rankings and the confirmation."""

from evals.probes.catalog import (
    PUBLISHED_KEYS,
    SCAN_KEYS,
    get_probe,
    natural_template,
    probe_keys,
    probe_pair,
)
from evals.probes.confirmation import (
    Confirmation,
    ConfirmedPath,
    Finding,
    Gain,
    Measured,
    confirm,
    measure_gain,
)
from evals.probes.probe import AnyProbe, Probe, Request, Result
from evals.probes.ranking import PathValues, Ranking, RankMethod, rank
from evals.probes.results import (
    Difficulty,
    Family,
    Form,
    ItemResult,
    Level,
    LevelKind,
    ProbeError,
    ProbeResult,
    Scoring,
    Split,
)

__all__ = [
    "PUBLISHED_KEYS",
    "SCAN_KEYS",
    "AnyProbe",
    "Confirmation",
    "ConfirmedPath",
    "Difficulty",
    "Family",
    "Finding",
    "Form",
    "Gain",
    "ItemResult",
    "Level",
    "LevelKind",
    "Measured",
    "PathValues",
    "Probe",
    "ProbeError",
    "ProbeResult",
    "RankMethod",
    "Ranking",
    "Request",
    "Result",
    "Scoring",
    "Split",
    "confirm",
    "get_probe",
    "measure_gain",
    "natural_template",
    "probe_keys",
    "probe_pair",
    "rank",
]
