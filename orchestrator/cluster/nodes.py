"""The nodes that take part in a run, as they come and go, and engines for which there has been none for long."""

from __future__ import annotations

import time
from collections.abc import Iterable

from orchestrator.cluster.connect import cluster_facts
from orchestrator.cluster.survey import NodeReport, admitted, survey
from orchestrator.plan.capacity import ClusterFacts
from orchestrator.settings import Settings

_LOOK_AROUND_S = 5.0
# A node that gave no answer, since it or its network had too much to do, is asked again after this time.
_ASK_AGAIN_S = 300.0


class KnownNodes:
    """Nodes that were asked, and what they answered; a new one takes part once it has shown that it shares root and image."""

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
        """Look at the next occasion: a node has just come."""
        self._looked_at = float("-inf")

    def look(self) -> ClusterFacts | None:
        """The nodes that take part now; null where they were looked at a moment ago."""
        if time.monotonic() - self._looked_at < _LOOK_AROUND_S:
            return None
        self._looked_at = time.monotonic()
        asked = [n.node_id for n in cluster_facts().nodes if self._is_to_be_asked(n.node_id)]
        if asked:
            answers = survey(self._settings, asked)
            self._reports |= {node_id: admitted(report) for node_id, report in answers.items()}
            again_at = time.monotonic() + _ASK_AGAIN_S
            self._ask_again |= {
                node_id: again_at for node_id, report in answers.items() if report.software is None
            }
        return cluster_facts(self._reports)

    def _is_to_be_asked(self, node_id: str) -> bool:
        """Whether the node is new, or gave no answer some time ago."""
        if node_id not in self._reports:
            return True
        report = self._reports[node_id]
        silent = report.problem is not None and report.software is None
        return silent and time.monotonic() >= self._ask_again[node_id]

    @property
    def left_out(self) -> str:
        """Why a node that is there takes no part, for the end of a sentence; empty where none is left out."""
        problems = [report.problem for report in self._reports.values() if report.problem]
        return f"; {len(problems)} left out, the first since {problems[0]}" if problems else ""


class Homeless:
    """Since when no node could hold an engine, by its key."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def seconds(self, keys: Iterable[str]) -> dict[str, float]:
        """Of the engines that no node can hold now, for how long that has been so."""
        now = time.monotonic()
        self._since = {key: self._since.get(key, now) for key in keys}
        return {key: now - since for key, since in self._since.items()}
