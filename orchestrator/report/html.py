"""Render a report as one HTML file that loads nothing: styles, script and charts are inside, and a policy forbids the rest."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from orchestrator.charts.theme import LOOKS, Look, Theme
from orchestrator.display.text_safety import LONG, plain
from orchestrator.report.deltas import interval_text, shape_of, signed
from orchestrator.report.drawing import ForestScale, heat_map, heat_scale
from orchestrator.report.page import ReportPage, ReportTone

_FOLDER = Path(__file__).parent / "templates"
_CONTRAST = 4.6
"""Contrast of coloured text with its background: WCAG's AA asks for 4.5."""


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
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{_text('page.css')}"


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
    values = {
        "paper": look.paper,
        "ink": look.ink,
        "faint": readable(look.faint, look.paper, look.ink),
        "grid": look.grid,
        "missing": look.missing,
        "unsure": look.unsure,
        "better": look.gain,
        "worse": look.loss,
        "better-text": readable(look.gain, mixed(look.gain, look.paper, 0.14), look.ink),
        "worse-text": readable(look.loss, mixed(look.loss, look.paper, 0.14), look.ink),
        "better-tint": mixed(look.gain, look.paper, 0.14),
        "worse-tint": mixed(look.loss, look.paper, 0.14),
        "quiet": mixed(look.unsure, look.paper, 0.12),
        "mark-gain": mixed(look.gain, look.paper, 0.3),
        "mark-loss": mixed(look.loss, look.paper, 0.3),
        "link": readable("#1f6feb", look.paper, look.ink),
        "notice": mixed(look.null, look.paper, 0.16),
        "notice-line": look.null,
        "base": look.base,
        "best": look.best,
        "failed": look.failed,
    }
    return ";".join(f"--{name}:{value}" for name, value in values.items())


def mixed(colour: str, paper: str, share: float) -> str:
    """A colour on paper, as strong as its share."""
    pairs = ((int(colour[k : k + 2], 16), int(paper[k : k + 2], 16)) for k in (1, 3, 5))
    return "#" + "".join(f"{round(c * share + p * (1 - share)):02x}" for c, p in pairs)


def readable(colour: str, paper: str, ink: str) -> str:
    """The colour, mixed with ink until text in it is readable on the paper."""
    for tenth in range(11):
        text = mixed(ink, colour, tenth / 10)
        if contrast(text, paper) >= _CONTRAST:
            return text
    return ink


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, 1 to 21, as WCAG defines it."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
