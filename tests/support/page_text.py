"""What a page that was drawn without a browser says in HTML and components of its own."""

from __future__ import annotations

import json
import re
from html import unescape

from streamlit.testing.v1 import AppTest

_CODE = re.compile(r"<code>(.*?)</code>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")


def codes(app: AppTest) -> list[str]:
    """The texts to copy of a page, in its order."""
    return [
        unescape(_TAG.sub("", match[1]))
        for html in app.get("html")
        if 'class="mb-code' in html.value
        for match in _CODE.finditer(html.value)
    ]


def component_table(app: AppTest, name: str) -> list[dict[str, str]]:
    """The rows of a table that a page draws with its own component, by the titles of its columns."""
    for element in app.get("bidi_component"):
        data = json.loads(element.proto.json or "{}")
        if data.get("name") == name:
            titles = [column["title"] for column in data["columns"]]
            return [dict(zip(titles, row["cells"], strict=True)) for row in data["rows"]]
    raise AssertionError(f"the page has no table {name!r}")
