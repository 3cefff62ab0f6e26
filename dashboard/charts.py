"""Interactive charts, drawn after a page's tables so that data appear first, with download as PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboard import widgets
from orchestrator.charts import image_bytes

READY = "mergeboard_plots"
"""Set in a session once its page is drawn: the browser then loads the plotting library (4 MB)."""
_ASKED = "mergeboard_plots_asked"
_ADDRESS = "mergeboard_plots_address"
_WAIT_S = 0.8
_FONT = '"Source Sans", sans-serif'
_CONFIG = {
    "displaylogo": False,
    # The buttons below a chart download images with title and warning.
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "toImage"],
}


def plot(
    draw: Callable[[], Any],
    key: str,
    *,
    height: int,
    alt: str,
    on_select: Callable[[Any], None] | None = None,
) -> None:
    """Draw a Plotly figure in full width; `on_select` is called with a selection before anything is drawn."""
    if not st.session_state.get(READY):
        with st.container(height=height, border=False):
            st.caption("Drawing …")
        st.session_state[_ADDRESS] = st.query_params.to_dict()
        _come_back()
        return
    figure = draw()
    figure.update_layout(width=None, height=height, font_family=_FONT)
    options: dict[str, Any] = {}
    if on_select is not None:
        options = {"on_select": lambda: on_select(st.session_state[key]), "selection_mode": "points"}
    st.plotly_chart(figure, theme=None, key=key, config=_CONFIG, alt=alt, **options)


def put_off() -> bool:
    """Whether charts of this page are deferred until its tables are drawn."""
    return bool(st.session_state.get(_ASKED)) and not st.session_state.get(READY)


@st.fragment(run_every=_WAIT_S)
def _come_back() -> None:
    """Rerun the page once the browser has drawn it: only then does this fragment's timer start."""
    if st.session_state.get(_ASKED):
        st.session_state[READY] = True
        # On a slow machine, the browser's request can still have the URL of the previous page.
        st.query_params.from_dict(st.session_state[_ADDRESS])
        st.rerun()
    st.session_state[_ASKED] = True


def images(key: str, file_name: str, draw: Callable[[], Any]) -> None:
    """Draw download buttons for PNG and SVG; the image is made on request."""
    with st.container(horizontal=True):
        for kind, mime in (("png", "image/png"), ("svg", "image/svg+xml")):
            widgets.download(
                kind.upper(),
                f"{file_name}.{kind}",
                lambda kind=kind: image_bytes(draw(), kind),  # type: ignore[misc] # binds the loop's variable
                mime,
                f"{key}_{kind}",
            )
