"""Render a report as one HTML file that loads nothing: styles, script and charts are inside, and a policy forbids the rest."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from orchestrator.charts.contrast import mixed, readable
from orchestrator.charts.theme import LOOKS, Look, Theme
from orchestrator.display.text_safety import LONG, plain
from orchestrator.report.deltas import interval_text, shape_of, signed
from orchestrator.report.drawing import STEPS, ForestScale, heat_map, heat_scale, shade
from orchestrator.report.page import ReportPage, ReportTone
from orchestrator.report.sequences import sequence_plot

_FOLDER = Path(__file__).parent / "templates"


def render_html(page: ReportPage) -> str:
    """The report as a page of its own, UTF-8."""
    style, script = page_style(), _text("page.js")
    policy = (
        f"default-src 'none'; style-src '{_source(style)}'; script-src '{_source(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(page=page, style=Markup(style), script=Markup(script), policy=policy)
    )


@lru_cache(maxsize=1)
def page_style() -> str:
    """The style sheet with the charts' colours, light and dark."""
    light, dark = (_variables(LOOKS[theme]) for theme in (Theme.LIGHT, Theme.DARK))
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{_text('page.css')}\n{_shades()}"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": _visible, "prose": _prose, "signed": signed}
    environment.globals |= {
        "Tone": ReportTone,
        "scale_of": ForestScale,
        "heat_map": heat_map,
        "heat_scale": heat_scale,
        "sequence_plot": sequence_plot,
        "span": interval_text,
        "shape": shape_of,
    }
    return environment


def _visible(text: str) -> str:
    """Foreign text with hidden and direction-changing characters made visible."""
    return plain(text, LONG)


def _prose(text: str) -> Markup:
    """A sentence whose parts between backticks are commands."""
    parts = _visible(text).split("`")
    if len(parts) % 2 == 0:
        return escape(_visible(text))
    wrapped = (
        Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(parts)
    )
    return Markup("").join(wrapped)


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8").strip()


def _source(text: str) -> str:
    """How a content security policy names an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _variables(look: Look) -> str:
    better, worse, neutral = look.better, look.worse, look.neutral
    values = {
        "paper": look.paper,
        "ink": look.ink,
        "faint": readable(look.faint, look.paper, look.ink),
        "grid": look.grid,
        "missing": look.missing,
        "unsure": mixed(neutral.text, look.paper, 0.6),
        "better": better.text,
        "worse": worse.text,
        "better-text": readable(better.text, better.tint, look.ink),
        "worse-text": readable(worse.text, worse.tint, look.ink),
        "better-tint": better.tint,
        "worse-tint": worse.tint,
        "quiet": mixed(neutral.tint, look.paper, 0.5),
        "link": readable("#1f6feb", look.paper, look.ink),
        "notice": mixed(look.null, look.paper, 0.16),
        "notice-line": look.null,
        "base": look.base,
        "failed": look.failed,
    }
    values |= {f"k{step}": shade(look.diverging, step) for step in range(-STEPS, STEPS + 1)}
    return ";".join(f"--{name}:{value}" for name, value in values.items())


def _shades() -> str:
    """The classes of a heatmap's cells, from worse to better."""
    return "\n".join(f".k{step}{{fill:var(--k{step})}}" for step in range(-STEPS, STEPS + 1))
