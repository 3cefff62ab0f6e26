"""The server that `python -m dashboard` starts: Streamlit's own, with the files of its tables sent early."""

from __future__ import annotations

from pathlib import Path

from starlette.middleware import Middleware
from streamlit.starlette import App

from dashboard.early import EarlyFiles

app = App(Path(__file__).with_name("app.py"), middleware=[Middleware(EarlyFiles)])
