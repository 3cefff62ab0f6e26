"""Fixtures of the orchestrator's tests."""

from tests.orchestrator.runs_fixture import finished

__all__ = ["finished"]
