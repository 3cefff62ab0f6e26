"""`python -m dashboard [STREAMLIT'S OPTIONS]`: the server, with all that its pages import on the way before anyone asks for one."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path

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
    from streamlit.web import cli

    # A page's files are sent in some hundred small steps, each of which would wait 5 ms for a script that computes.
    sys.setswitchinterval(_SWITCH_S)
    threading.Thread(target=_warm, name="imports", daemon=True).start()
    cli.main(["run", str(Path(__file__).with_name("app.py")), *sys.argv[1:]])


def _warm() -> None:
    """Import what the first pages would import: seconds that pass while the browser is being opened."""
    for name in _NEEDED:
        importlib.import_module(name)


if __name__ == "__main__":
    main()
