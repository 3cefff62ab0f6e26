"""The web server's application: Streamlit's, with its own files held in memory. `python -m dashboard` starts it."""

from __future__ import annotations

import mimetypes
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

_FILES = Path(st.__file__).parent / "static"
_LASTING = b"public, immutable, max-age=31536000"
"""As Streamlit says of these files: their names hold a hash of their content."""


class FilesInMemory:
    """Answers requests for Streamlit's scripts and fonts at once.

    A page takes about a hundred of them; Starlette reads each with several changes of thread (1 to 4 ms of CPU).
    """

    def __init__(self, app: ASGIApp, folder: Path = _FILES) -> None:
        self._app = app
        paths = (path for path in (folder / "static").rglob("*") if path.is_file())
        self._paths = {f"/{path.relative_to(folder).as_posix()}": path for path in paths}
        self._contents: dict[str, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on: for all other paths and methods, and for parts of a file."""
        asked = scope.get("path", "")
        if (
            scope["type"] != "http"
            or scope["method"] != "GET"
            or asked not in self._paths
            or any(name == b"range" for name, _ in scope["headers"])
        ):
            await self._app(scope, receive, send)
            return
        content = self._contents.get(asked)
        if content is None:
            content = self._contents[asked] = self._paths[asked].read_bytes()
        kind = mimetypes.guess_type(asked)[0] or "application/octet-stream"
        headers = [
            (b"content-type", kind.encode()),
            (b"content-length", str(len(content)).encode()),
            (b"cache-control", _LASTING),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


app = st.App("app.py", middleware=[Middleware(FilesInMemory)])
