"""Interactive charts: drawn after the tables of a page, so that the data are seen first, and taken away as PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboard import widgets
from orchestrator.charts import image_bytes

READY = "mergeboard_plots"
"""Set in a session once its browser has something else to show while it loads the plotting library (4 MB)."""
_ASKED = "mergeboard_plots_asked"
_ADDRESS = "mergeboard_plots_address"
_WAIT_S = 0.8
_FONT = '"Source Sans", sans-serif'
_CONFIG = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["lasso2d", "select2d"],
    "toImageButtonOptions": {"scale": 2},
}


def plot(draw: Callable[[], Any], key: str, *, height: int, alt: str, select: bool = False) -> Any:
    """A Plotly figure as wide as its place. Returns the selection, where one is asked for and there is one."""
    if not st.session_state.get(READY):
        with st.container(height=height, border=False):
            st.caption("Drawing …")
        st.session_state[_ADDRESS] = st.query_params.to_dict()
        _come_back()
        return None
    figure = draw()
    figure.update_layout(width=None, height=height, font_family=_FONT)
    options: dict[str, Any] = {"on_select": "rerun", "selection_mode": "points"} if select else {}
    return st.plotly_chart(figure, theme=None, key=key, config=_CONFIG, alt=alt, **options)


def put_off() -> bool:
    """Whether a chart of this page waits for its tables to be seen; what stands behind them waits with it."""
    return bool(st.session_state.get(_ASKED)) and not st.session_state.get(READY)


@st.fragment(run_every=_WAIT_S)
def _come_back() -> None:
    """Ask for the page again as soon as the browser has drawn it: its timer starts then."""
    if st.session_state.get(_ASKED):
        st.session_state[READY] = True
        # The browser asks with the address that it had, which on a slow machine is still that of the page before.
        st.query_params.from_dict(st.session_state[_ADDRESS])
        st.rerun()
    st.session_state[_ASKED] = True


def images(key: str, file_name: str, draw: Callable[[], Any]) -> None:
    """A chart as PNG and SVG, drawn when it is asked for."""
    with st.container(horizontal=True):
        for kind, mime in (("png", "image/png"), ("svg", "image/svg+xml")):
            widgets.download(
                kind.upper(),
                f"{file_name}.{kind}",
                lambda kind=kind: image_bytes(draw(), kind),  # type: ignore[misc] # binds the loop's variable
                mime,
                f"{key}_{kind}",
            )
