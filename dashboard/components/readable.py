"""What Streamlit's own widgets lack for WCAG AA: contrast of captions and code, and the keyboard in boxes that scroll."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from dashboard.components.colours import component_colours
from orchestrator.display.text_safety import plain

_MOST_COMMAND = 100_000

_JS = """
export default function () {
  const reach = () =>
    document.querySelectorAll(".stCode pre").forEach((box) => {
      if (box.tabIndex === 0) return;
      box.tabIndex = 0;
      box.setAttribute("role", "region");
      box.setAttribute("aria-label", "Text to copy");
    });
  reach();
  const observer = new MutationObserver(reach);
  observer.observe(document.body, { childList: true, subtree: true });
  return () => observer.disconnect();
}
"""
_CSS = """<style>
[data-testid=stCaptionContainer],[data-testid=stCaptionContainer] p{color:%(faint)s !important;opacity:1 !important}
.stCode .token{color:inherit !important}
.stCode .token.function,.stCode .token.builtin{color:%(better)s !important}
.stCode .token.key,.stCode .token.atrule,.stCode .token.keyword{color:%(worse)s !important}
.stCode .token.string{color:%(string)s !important}
.st-key-verdict h3{font-size:1.22rem;line-height:1.4;font-weight:600;padding:0.2rem 0 0.3rem}
</style>"""
_reachable = st.components.v2.component("mergeboard_reachable", html="<span></span>", js=_JS)


def make_readable() -> None:
    """Mend contrast and keyboard access; called once, by the frame of all pages."""
    colours = component_colours()
    st.html(_CSS % colours)
    with st.container(height=1, border=False, key="reachable"):
        _reachable(key="reachable_code", height=1)


def show_command(text: str) -> None:
    """Draw a shell command to copy; a long one scrolls, and hidden characters are made visible."""
    tall: int | Literal["content"] = 250 if text.count("\n") > 12 else "content"
    st.code(plain(text, _MOST_COMMAND), language="bash", wrap_lines=True, height=tall)
