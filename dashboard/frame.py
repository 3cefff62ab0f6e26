"""The frame of every page: navigation, choice of the run, and error messages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import streamlit as st
from pydantic import ValidationError

from dashboard import address, data, widgets
from dashboard.address import View
from dashboard.comparisons import Comparer
from dashboard.components.code import let_copy
from dashboard.components.readable import make_readable
from dashboard.pages import card as card_view
from dashboard.pages import claims, compare, job, layer_map, leaderboard, merge_search, overview
from dashboard.pages import recipe as recipe_view
from dashboard.runs import parts_of_scans, run_labels
from evals.errors import EvaluationError
from orchestrator.errors import MergeboardError, RunError, StoreError
from orchestrator.store.pages import Pages
from orchestrator.store.records import RunRecord
from recipes.errors import RecipeError

_log = logging.getLogger("mergeboard.dashboard")
_MOST_RUNS = 200
_SIDEBAR_PX = 250
_ICON = str(Path(__file__).with_name("icon.svg"))
# Reduce Streamlit's margins for wide tables; give the controls of a row the same height.
_STYLE = (
    "<style>.stMainBlockContainer{padding:2.5rem 2.5rem 3rem}"
    "[data-testid=stButtonGroup] button{min-height:2.5rem}</style>"
)
_PAGES: dict[View, tuple[str, str, Callable[[Pages, RunRecord | None], None]]] = {
    View.OVERVIEW: ("Overview", ":material/monitoring:", overview.show),
    View.LEADERBOARD: ("Leaderboard", ":material/leaderboard:", leaderboard.show),
    View.COMPARE: ("Compare two", ":material/compare_arrows:", compare.show),
    View.RECIPE: ("Recipe", ":material/receipt_long:", recipe_view.show),
    View.LAYERS: ("Layer map", ":material/grid_on:", layer_map.show),
    View.SEARCH: ("Search", ":material/query_stats:", merge_search.show),
    View.CLAIMS: ("Claims", ":material/fact_check:", claims.show),
    View.JOB: ("Job", ":material/manufacturing:", job.show),
    View.CARD: ("Card", ":material/description:", card_view.show),
}


_OF_ONE_RUN = (
    *("page", "base", "cand", "pins", "ticks", "show", "bench"),
    *("suite", "engine", "subset", "doc", "q", "chart"),
)
"""URL parameters that mean something within one run only."""


def main() -> None:
    """Draw the page of the URL."""
    st.set_page_config(
        page_title="mergeboard", page_icon=_ICON, layout="wide", initial_sidebar_state=_SIDEBAR_PX
    )
    pages = {
        view: st.Page(
            lambda view=view: _draw(view),  # type: ignore[misc] # a default argument that binds the loop's variable
            title=title,
            icon=icon,
            url_path=view.value or None,
            default=view is View.OVERVIEW,
        )
        for view, (title, icon, _) in _PAGES.items()
    }
    address.register(pages)
    st.html(_STYLE)
    make_readable()
    st.navigation(list(pages.values())).run()
    let_copy()


def _draw(view: View) -> None:
    """Draw one page; if the store or a file cannot be read, say why."""
    address.enter(view)
    Comparer.page_begins()
    try:
        pages = data.open_pages()
        run = _choose_run(pages)
        _PAGES[view][2](pages, run)
    except StoreError as error:
        widgets.show_message("The store cannot be shown", str(error), icon=":material/database_off:")
    except (MergeboardError, EvaluationError, RecipeError) as error:
        widgets.show_message("This cannot be shown", str(error), icon=":material/warning:")
    except ValidationError as error:
        _log.warning("A record of the store cannot be read: %s", error)
        what = f"A {error.title} in the store is not what this version of mergeboard writes."
        widgets.show_message("A part of the store cannot be read", what, command="mergeboard db check")


def _choose_run(pages: Pages) -> RunRecord | None:
    """The run that all pages show, chosen in the side bar; None if the store has none."""
    newest = data.live(pages.runs, limit=_MOST_RUNS)
    if not newest:
        return None
    requested = address.kept("run")
    runs = {run.id: run for run in newest}
    if requested and requested not in runs:
        runs |= _other_run(pages, requested)
    parts = data.live(parts_of_scans, pages)
    # A scan's confirmation shows the same as its search: it is listed only where a link names it.
    listed = [r for r in runs if r == requested or parts.get(r) not in runs]
    address.keep("run", requested if requested in runs else listed[0])
    labels = run_labels([runs[r] for r in listed])
    with st.sidebar:
        chosen = address.choose(
            "Run",
            "run",
            listed,
            default=listed[0],
            label_of=lambda run_id: labels[run_id],
            resets=_OF_ONE_RUN,
        )
    address.keep("run", chosen)
    return runs[chosen]


def _other_run(pages: Pages, run_id: str) -> dict[str, RunRecord]:
    """A run that is not among the newest; empty with a warning if the store does not have it."""
    try:
        return {run_id: data.live(pages.run, run_id)}
    except RunError:
        st.warning("The run that this link names is not in this store; the newest one is shown.")
        return {}
