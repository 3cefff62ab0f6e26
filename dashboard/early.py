"""The files of tables and widgets, named to the browser before the page asks for them.

Streamlit's page learns only from a script's first answer that it needs, say, the files of its tables, and from each of them
what that needs in turn. Named in the answer to the first request, they come while the page itself is still being started.
"""

from __future__ import annotations

import re
from pathlib import Path

import streamlit
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_WIDGETS = ("Html", "Selectbox", "ButtonGroup", "TextInput", "Checkbox", "DataFrame")
_IMPORT = re.compile(r'(?:from|import)\s*"\./([\w.-]+\.js)"')


def early_files(folder: Path, widgets: tuple[str, ...] = _WIDGETS) -> tuple[str, ...]:
    """The files of these widgets and what they import, out of the folder of Streamlit's scripts; none where it has other names."""
    known = {path.name: path for path in folder.glob("*.js")}
    todo = [name for widget in widgets for name in known if name.startswith(f"{widget}.")]
    found: dict[str, None] = {}
    while todo:
        name = todo.pop()
        if name not in found and name in known:
            found[name] = None
            todo += _IMPORT.findall(known[name].read_text(encoding="utf-8"))
    return tuple(found)


class EarlyFiles:
    """Adds the files' names to every answer that is a page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        files = early_files(Path(streamlit.__file__).parent / "static" / "static" / "js")
        self._link = ", ".join(
            f"<./static/js/{name}>; rel=modulepreload; fetchpriority=low" for name in files
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if self._link and headers.get("content-type", "").startswith("text/html"):
                    headers.append("link", self._link)
            await send(message)

        await self._app(scope, receive, named if scope["type"] == "http" else send)
