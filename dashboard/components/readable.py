"""What Streamlit's own widgets lack for WCAG AA: contrast of captions; and the style of headings and code."""

from __future__ import annotations

import streamlit as st

from dashboard.components.code import CODE_STYLE
from dashboard.components.colours import component_colours

_CSS = """
[data-testid=stCaptionContainer],[data-testid=stCaptionContainer] p{color:%(faint)s !important;opacity:1 !important}
.st-key-verdict h3{font-size:1.22rem;line-height:1.4;font-weight:600;padding:0.2rem 0 0.3rem}
"""


def make_readable() -> None:
    """Mend contrast; called once, by the frame of all pages."""
    st.html(f"<style>{(_CSS + CODE_STYLE) % component_colours()}</style>")
