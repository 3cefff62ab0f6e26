"""Layer map, verdict and report of a scan whose second pass runs in part or damped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st

from dashboard.scans import layer_map
from orchestrator.store.pages import Pages
from tests.dashboard.test_overview_and_map import said
from tests.dashboard.test_pages import page
from tests.support.demo_stores import store_url
from tests.support.page_text import codes, component_table
from tests.support.scan_store import scan_store

pytestmark = pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("MERGEBOARD_DATABASE_URL", raising=False)
    yield
    st.cache_resource.clear()


@pytest.mark.parametrize(("variant", "built"), [(":attention", True), (":mlp:damped=0.5", False)])
def test_the_map_of_a_variant_has_its_blocks_and_names_them(home: Path, variant: str, built: bool) -> None:
    search, _ = scan_store(home, n_layers=4, confirmed={(2, 3): 0.9}, variant=variant)
    with Pages.open(store_url(home), create=False, read_only=True) as pages:
        candidates = pages.candidates(search)
        whole = layer_map({search: candidates}, candidates[0])
    assert whole is not None
    assert {place.label: place.block for place in whole.places}[f"(2, 3){variant}"] == (2, 3)
    app = page("layer_map", run=search, path=f"(2, 3){variant}").run()
    text = said(app)
    assert f"confirmed better on the confirmation set: (2, 3){variant}" in text, text
    ranking = component_table(app, "Ranking")
    assert ranking
    assert all(row["Layer path"].endswith(variant) for row in ranking)
    commands = "\n".join(codes(app))
    assert f"--layer-path '(2, 3){variant}'" in commands
    assert (f"mergeboard build '(2, 3){variant}'" in commands) == built
