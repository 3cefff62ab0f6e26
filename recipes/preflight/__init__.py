"""What a recipe will give and need, and whether its sources fit, from configs and headers alone."""

from recipes.preflight.preflight import preflight
from recipes.preflight.records import Preflight, SourcePreflight, StagePreflight

__all__ = ["Preflight", "SourcePreflight", "StagePreflight", "preflight"]
