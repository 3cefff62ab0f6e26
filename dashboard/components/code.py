"""Text to copy: commands, YAML, logs. Streamlit's own code element loads 1.6 MB of syntax highlighting for each of them."""

from __future__ import annotations

import re
from html import escape
from typing import Literal

import streamlit as st

from orchestrator.display.text_safety import plain

Language = Literal["bash", "yaml"]
_MOST = 100_000
_KEY = re.compile(r"^(\s*+(?:- )*+)([^\s#:'\"][^#:'\"]*|\"[^\"]*\"|'[^']*')(:)(?=\s|$)")
CODE_STYLE = """
.mb-code{position:relative;background:%(hover)s;border-radius:6px;color:%(ink)s}
.mb-code pre{margin:0;padding:10px 66px 10px 12px;font:13px/1.55 "Source Code Pro",ui-monospace,monospace;overflow:auto;
white-space:pre-wrap;overflow-wrap:anywhere;background:none;border:0}
.mb-code.mb-long-lines pre{white-space:pre;overflow-wrap:normal}
.mb-code pre code{font:inherit;color:inherit;background:none;padding:0;white-space:inherit}
.mb-code .mb-copy{position:absolute;top:6px;right:8px;font:12px/1.4 "Source Sans",sans-serif;color:%(ink)s;background:%(paper)s;
border:1px solid %(edge)s;border-radius:5px;padding:2px 8px;cursor:pointer}
.mb-code .mb-copy:hover{border-color:%(accent)s;color:%(accent)s}
.mb-code .mb-copy:focus-visible,.mb-code pre:focus-visible{outline:2px solid %(accent)s;outline-offset:1px}
.mb-code .mb-code-key{color:%(accent)s}.mb-code .mb-code-remark{color:%(faint)s}
"""
"""The style sheet of all code on a page, with the names of colours to fill in."""
_JS = """<script>
if (!window.mergeboardCopies) {
  window.mergeboardCopies = true;
  document.addEventListener("click", async (event) => {
    const button = event.target instanceof Element && event.target.closest(".mb-copy");
    if (!button) return;
    const text = button.parentElement.querySelector("code");
    let copied = true;
    try {
      await navigator.clipboard.writeText(text.textContent);
    } catch {
      // Only pages from this machine or over HTTPS have a clipboard; selected text can be copied everywhere.
      getSelection().selectAllChildren(text);
      copied = document.execCommand("copy");
    }
    button.textContent = copied ? "Copied" : "Press Ctrl-C";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}
</script>"""


def let_copy() -> None:
    """Make the copy buttons of a page work; called once, after everything else of the page."""
    st.html(_JS, unsafe_allow_javascript=True)


def show_code(
    text: str, language: Language | None = None, *, wrap_lines: bool = True, height: int | None = None
) -> None:
    """Draw text to copy, with hidden characters made visible; `height` in pixels is the most that it takes.

    Keys of YAML and remarks are coloured.
    """
    shown = plain(text, _MOST)
    content = escape(shown) if language is None else "\n".join(map(_coloured, shown.split("\n")))
    kind = "mb-code" if wrap_lines else "mb-code mb-long-lines"
    style = f' style="max-height:{height}px"' if height is not None else ""
    st.html(
        f'<div class="{kind}"><button type="button" class="mb-copy">Copy</button>'
        f'<pre tabindex="0" role="region" aria-label="Text to copy"{style}><code>{content}</code></pre></div>'
    )


def show_command(text: str) -> None:
    """Draw a shell command to copy; a long one scrolls."""
    show_code(text, "bash", height=250 if text.count("\n") > 12 else None)


def _coloured(text: str) -> str:
    """A line of a shell script or of YAML as HTML."""
    if text.lstrip().startswith("#"):
        return f'<span class="mb-code-remark">{escape(text)}</span>'
    key = _KEY.match(text)
    if key is None:
        return escape(text)
    return f'{key[1]}<span class="mb-code-key">{escape(key[2])}</span>{escape(text[key.end(2) :])}'
