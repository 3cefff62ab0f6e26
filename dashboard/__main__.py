"""`python -m dashboard [STREAMLIT'S OPTIONS]`: the server, with all that its pages import on the way before anyone asks for one."""

from __future__ import annotations

import sys
import threading
from pathlib import Path


def main() -> None:
    """Start Streamlit on the app."""
    from streamlit.web import cli

    threading.Thread(target=_warm, name="imports", daemon=True).start()
    cli.main(["run", str(Path(__file__).with_name("app.py")), *sys.argv[1:]])


def _warm() -> None:
    """Import what the first page would import: seconds that pass while the browser is being opened."""
    import plotly.graph_objects  # noqa: F401  # for its being imported
    import pyarrow.pandas_compat  # noqa: F401  # for its being imported

    import dashboard.frame  # noqa: F401  # for its being imported
    import evals.probes  # noqa: F401  # for its being imported


if __name__ == "__main__":
    main()
