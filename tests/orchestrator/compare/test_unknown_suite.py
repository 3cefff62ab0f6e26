"""Imported results whose suite is not recorded: a refused row with a sentence, whatever they are compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.claims.facts import Fact, Facts
from orchestrator.compare.imported import imported_sides
from orchestrator.compare.run_comparisons import compare_sides, loaded_suites
from orchestrator.store import Store
from tests.support.claim_store import imported


@pytest.mark.parametrize("force", [False, True])
def test_a_result_without_a_suite_is_a_refused_row(tmp_path: Path, force: bool) -> None:
    with Store.open(f"sqlite:///{tmp_path}/s.db") as store:
        run = imported(store)
        (unnamed,) = imported_sides(store, run.id, tmp_path)
    known = unnamed.measurement.model_copy(update={"facts": Facts(known={Fact.SUITE: "smoke"})})
    named = type(unnamed)(known)
    assert loaded_suites([unnamed]) == []
    for base, candidate, who in (
        (unnamed, named, "base"),
        (named, unnamed, "candidate"),
        (unnamed, unnamed, "base and candidate"),
    ):
        (comparison,) = compare_sides([base], {"other": [candidate]}, force=force)
        reasons = [reason for row in comparison.rows for reason in row.refused]
        assert f"suite: that of the {who} is not recorded; import its files again" in reasons
        assert all(row.delta is None for row in comparison.rows)
