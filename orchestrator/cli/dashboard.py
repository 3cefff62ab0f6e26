"""mergeboard dashboard"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer


def dashboard(
    port: Annotated[int, typer.Option("--port", metavar="PORT", help="Port on this machine.")] = 8501,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="HOST", help="Address to listen on; loopback unless you say otherwise."
        ),
    ] = "127.0.0.1",
) -> None:
    """Open the Streamlit app on the store.

    \b
    Example:
      mergeboard dashboard --port 8502
    """
    from orchestrator.settings import Settings

    Settings.from_environment()
    words = [
        "--server.port",
        str(port),
        "--server.address",
        host,
        "--server.headless",
        "true",
        "--browser.gatherUsageStats",
        "false",
    ]
    typer.echo(f"Dashboard: http://{host}:{port} (Ctrl-C ends it)")
    sys.stdout.flush()
    # The dashboard imports the orchestrator, never the reverse: it is started as a program (-P: not one that lies here).
    os.execv(sys.executable, [sys.executable, "-P", "-m", "dashboard", *words])
