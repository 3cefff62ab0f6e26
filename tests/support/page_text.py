"""What a page that was drawn without a browser says in HTML of its own."""

from __future__ import annotations

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
