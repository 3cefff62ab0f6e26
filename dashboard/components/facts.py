"""Names and values, wrapped to the width that there is."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import streamlit as st

from dashboard.components.colours import component_colours
from orchestrator.display.text_safety import plain

_CSS = """
.mb-facts-list{display:grid;grid-template-columns:minmax(90px,max-content) minmax(0,1fr);gap:6px 16px;
margin:0 !important;padding:0 !important;font-size:14px;color:%(ink)s}
.mb-facts-list dt{color:%(faint)s;margin:0 !important;padding:0;font-weight:400}
.mb-facts-list dd{margin:0 !important;overflow-wrap:anywhere}
"""


def show_facts(values: Mapping[str, str]) -> None:
    """Draw names and values as text."""
    items = "".join(
        f"<dt>{escape(plain(name, 200))}</dt><dd>{escape(plain(text, 2000))}</dd>"
        for name, text in values.items()
    )
    st.html(f'<style>{_CSS % component_colours()}</style><dl class="mb-facts-list">{items}</dl>')
