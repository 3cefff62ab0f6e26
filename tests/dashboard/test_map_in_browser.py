"""Overview, layer map and claims in Chromium: accessibility, three widths in light and dark, and the clicks counted."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.accessibility import serious_findings
from tests.support.browser import PLOT, Scheme, Served, opened, picture, settled

WIDTHS = (390, 1100, 1440)


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_pages_are_accessible_and_fit_a_phone(
    two: tuple[Served, str], browser: Browser, scheme: Scheme
) -> None:
    """axe found captions below the contrast of WCAG AA on each of these pages."""
    served, scan = two
    page = opened(browser, f"{served.address}/?run={scan}", scheme)
    for name in ("overview", "layers", "claims"):
        if name != "overview":
            page.goto(f"{served.address}/{name}?run={scan}")
            settled(page)
        if name == "layers":
            expect(page.locator(PLOT).first).to_be_visible()
        assert serious_findings(page) == [], name
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 1000})
            settled(page)
            assert _overflow(page) <= 1, f"{name} scrolls sideways at {width} pixels"
            if width == WIDTHS[0] and name != "claims":
                box = page.locator(".st-key-run_verdict").bounding_box()
                assert box is not None
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= width
                assert box["y"] < 400, "the verdict is at the top"
            picture(page, f"{name}-scan-{width}-{scheme}")
    page.context.close()
    served.no_error()


def _overflow(page: Page) -> int:
    """Pixels by which a page is wider than its window."""
    return int(
        page.evaluate(
            "() => { const m = document.querySelector('[data-testid=stMain]'); return m.scrollWidth - m.clientWidth }"
        )
    )


def test_the_best_block_and_its_command_are_one_click_away(two: tuple[Served, str], browser: Browser) -> None:
    served, scan = two
    page = opened(browser, f"{served.address}/?run={scan}")
    page.get_by_test_id("stMain").get_by_role("link", name="Map and best path").click()  # the only click
    detail = page.locator(".st-key-path_detail")
    expect(detail).to_contain_text("Best: (3, 6)")
    expect(detail).to_contain_text("real on 160 questions of the confirmation set")
    expect(detail).to_contain_text("mergeboard build '(3, 6)' --base demo/SmolLM2-135M-Instruct --out ./3-6")
    settled(page)
    legend = page.locator(".js-plotly-plot .legendtext")
    expect(legend.filter(has_text="Confirmed better (1)")).to_have_count(1)
    expect(legend.filter(has_text="Selected")).to_have_count(0)
    at = page.locator(".js-plotly-plot").first.evaluate(
        "p => { const l = p._fullLayout, b = p.getBoundingClientRect();"
        " return [b.x + l.xaxis._offset + l.xaxis.d2p(30), b.y + l.yaxis._offset + l.yaxis.d2p(0)] }"
    )
    page.mouse.click(*at)
    expect(detail).to_contain_text("Selected: (0, 30)")
    expect(detail).to_contain_text("worse on 160 questions of the confirmation set")
    expect(legend.filter(has_text="Selected: (0, 30)")).to_have_count(1)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Ranking as CSV").click()
    assert waiting.value.suggested_filename == "probe-layer-paths.csv"
    page.context.close()
    served.no_error()
