"""Start the dashboard server and import its pages' libraries: `python -m dashboard [STREAMLIT OPTIONS]`."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path

import dashboard

_SWITCH_S = 0.0005
_NEEDED = (
    "dashboard.frame",
    "pyarrow.pandas_compat",
    "pyarrow.dataset",
    "evals.probes",
    "plotly.graph_objects",
    "plotly.io",
    "altair",
)


def main() -> None:
    """Start Streamlit."""
    dashboard.is_server = True
    from streamlit.runtime.pages_manager import PagesManager
    from streamlit.web import cli

    # Streamlit takes a folder "pages" for its older kind of app until st.navigation has run once: the first link
    # after the start would be answered with "Page not found".
    PagesManager.uses_pages_directory = False
    # A page's files are sent in about a hundred small steps; each can wait a switch interval (default 5 ms).
    sys.setswitchinterval(_SWITCH_S)
    threading.Thread(target=_warm, name="imports", daemon=True).start()
    cli.main(["run", str(Path(__file__).with_name("server.py")), *sys.argv[1:]])


def _warm() -> None:
    """Import the pages' libraries while the browser opens; this takes seconds."""
    for name in _NEEDED:
        importlib.import_module(name)


if __name__ == "__main__":
    main()
