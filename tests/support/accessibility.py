"""Accessibility of a page in the browser, as axe-core finds it (WCAG 2 A and AA, and its best practices)."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_AXE = Axe()


def serious_findings(page: Page, *, within: str | None = None) -> list[str]:
    """The serious and critical findings, one line each: rule, what is wrong, the first elements.

    `within` is a CSS selector of the part to look at; the whole page without it.
    """
    result = _AXE.run(page, context=within)
    return [
        f"{found['id']} ({found['impact']}): {found['help']}: "
        + " | ".join(node["html"][:160] for node in found["nodes"][:3])
        for found in result.response["violations"]
        if found["impact"] in ("serious", "critical")
    ]
