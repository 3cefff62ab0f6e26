"""Tracks the nodes that take part in a run, and engines that no node can hold."""

from __future__ import annotations

import time
from collections.abc import Iterable

from orchestrator.cluster.connect import cluster_facts
from orchestrator.cluster.survey import NodeReport, admitted, survey
from orchestrator.plan.capacity import ClusterFacts
from orchestrator.settings import Settings

_LOOK_AROUND_S = 5.0
# A node that did not answer the survey, for example under high load, is asked again after this time.
_ASK_AGAIN_S = 300.0


class KnownNodes:
    """Surveyed nodes and their reports; a new node takes part if it shares root and image."""

    def __init__(self, settings: Settings, facts: ClusterFacts) -> None:
        self._settings = settings
        self._reports = {
            node.node_id: NodeReport(
                problem=None, gpu_memory_bytes=node.gpu_memory_bytes, software=node.software
            )
            for node in facts.nodes
        }
        self._ask_again: dict[str, float] = {}
        self._looked_at = time.monotonic()

    def look_soon(self) -> None:
        """Make the next `look` query the nodes, because a node has joined."""
        self._looked_at = float("-inf")

    def look(self) -> ClusterFacts | None:
        """The nodes that take part now; None if they were queried less than `_LOOK_AROUND_S` ago."""
        if time.monotonic() - self._looked_at < _LOOK_AROUND_S:
            return None
        self._looked_at = time.monotonic()
        node_ids = [n.node_id for n in cluster_facts().nodes if self._needs_survey(n.node_id)]
        if node_ids:
            answers = survey(self._settings, node_ids)
            self._reports |= {node_id: admitted(report) for node_id, report in answers.items()}
            retry_at = time.monotonic() + _ASK_AGAIN_S
            self._ask_again |= {
                node_id: retry_at for node_id, report in answers.items() if report.software is None
            }
        return cluster_facts(self._reports)

    def _needs_survey(self, node_id: str) -> bool:
        """Whether the node is new, or did not answer and is due again."""
        if node_id not in self._reports:
            return True
        report = self._reports[node_id]
        unanswered = report.problem is not None and report.software is None
        return unanswered and time.monotonic() >= self._ask_again[node_id]

    @property
    def left_out(self) -> str:
        """Number of excluded nodes and a reason, to end a sentence with; empty if none is excluded."""
        problems = [report.problem for report in self._reports.values() if report.problem]
        return f"; {len(problems)} left out, the first since {problems[0]}" if problems else ""


class Homeless:
    """Start times, by engine key, of periods in which no node can hold the engine."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def seconds(self, keys: Iterable[str]) -> dict[str, float]:
        """Update with the keys that no node can hold now; returns for how long this has been so."""
        now = time.monotonic()
        self._since = {key: self._since.get(key, now) for key in keys}
        return {key: now - since for key, since in self._since.items()}
