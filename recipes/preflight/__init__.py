"""Preflight of a recipe from configs and headers: size of the result, resources of the build, compatibility of sources."""

from recipes.preflight.preflight import preflight
from recipes.preflight.records import Preflight, SourcePreflight, StagePreflight

__all__ = ["Preflight", "SourcePreflight", "StagePreflight", "preflight"]
