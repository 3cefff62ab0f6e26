"""The leaderboard in a real browser: what it says is about the whole run, numbers sort as numbers, ticks belong to recipes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from orchestrator.store import Store
from tests.support.accessibility import serious_findings
from tests.support.browser import BOARD, Scheme, Served, board_rows, opened, picture, serving, settled
from tests.support.large_run import BETTER, REFUSED, WORSE, forget_some, large_run

WIDE = ("mean", "ifeval", "bbh", "math", "gpqa", "musr", "mmlu_pro")


def sort_by(page: Page, label: str, order: str) -> None:
    page.locator(BOARD).get_by_role("button", name=label, exact=True).click()
    expect(page.locator(f"{BOARD} th[aria-sort={order}]")).to_contain_text(label)
    settled(page)


def numbers(page: Page, label: str) -> list[float]:
    """The scores of a column below the base, top to bottom."""
    heads = page.locator(f"{BOARD} thead th").all_inner_texts()
    at = next(i for i, text in enumerate(heads) if text.startswith(label))
    texts = page.locator(f"{BOARD} tbody tr:not(.base, .details) td.number:nth-of-type({at + 2}) .score")
    return [float(re.sub(r"[^\d.]", "", text)) for text in texts.all_inner_texts()]


def test_numbers_sort_as_numbers_and_ticks_stay_with_recipes(served: Served, browser: Browser) -> None:
    page = opened(browser, f"{served.address}/leaderboard?run={served.run}")
    expect(page.locator(".st-key-run_verdict")).to_contain_text("Mean: 0 of 3 better, 2 worse")
    assert "Single benchmarks" in page.locator(".st-key-run_verdict").inner_text()
    # The best mean first; as text, 6.2 would lead.
    assert numbers(page, "Mean") == sorted(numbers(page, "Mean"), reverse=True)
    assert board_rows(page)[0] == "base"
    assert board_rows(page)[-1] == "whole stack twice"
    box = page.get_by_role("checkbox", name="Tick block (12, 14)")
    box.check()
    page.wait_for_url("**ticks=3*")
    for label in ("IFEval", "BBH", "MATH Lvl 5", "GPQA", "MuSR", "MMLU-PRO", "Mean"):
        sort_by(page, label, "descending")
        found = numbers(page, label)
        assert len(found) == 5
        assert found == sorted(found, reverse=True), label
        assert board_rows(page)[0] == "base"
        expect(box).to_be_checked()
        expect(page.locator(f"{BOARD} input:checked")).to_have_count(1)
    sort_by(page, "Mean", "ascending")
    assert numbers(page, "Mean") == sorted(numbers(page, "Mean"))
    sort_by(page, "Layers", "ascending")
    assert numbers(page, "Layers") == [20, 30, 30, 32, 60]
    sort_by(page, "Recipe", "ascending")
    assert board_rows(page)[1:] == sorted(board_rows(page)[1:])
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/compare?**cand=3**")
    page.context.close()
    served.no_error()


def test_recipes_refused_everywhere_are_counted_as_refused(served: Served, browser: Browser) -> None:
    page = opened(browser, f"{served.address}/leaderboard?run={served.run}")
    page.get_by_role("radio", name="not compared 2").or_(page.get_by_text("not compared 2")).first.click()
    expect(page.locator(BOARD)).not_to_contain_text("block (12, 14)")
    assert sorted(board_rows(page)) == ["base", "expanded-zeroed", "slerp-with-noise"]
    assert "show=not" in page.url
    page.get_by_role("button", name="Details of slerp-with-noise").click()
    expect(page.locator(f"{BOARD} tr.details:visible")).to_contain_text("Not compared: quantisation")
    page.context.close()


def test_keys_act_on_what_has_the_focus_and_never_leave_the_page(served: Served, browser: Browser) -> None:
    page = opened(browser, f"{served.address}/leaderboard?run={served.run}")
    page.locator(BOARD).get_by_role("button", name="BBH", exact=True).focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowLeft", "ArrowUp", "PageDown", "End"):
        page.keyboard.press(key)
    page.wait_for_timeout(500)
    assert "/leaderboard" in page.url
    assert "sort=" not in page.url
    page.keyboard.press("Enter")
    page.wait_for_url("**sort=bbh**")
    settled(page)
    expect(page.locator(BOARD).get_by_role("button", name="BBH", exact=False).first).to_be_focused()
    more = page.get_by_role("button", name="Details of block (12, 14)")
    more.focus()
    page.keyboard.press("Space")
    expect(more).to_have_attribute("aria-expanded", "true")
    expect(page.locator(f"{BOARD} tr.details:visible")).to_contain_text("95 % interval")
    page.get_by_role("link", name="block (12, 14)").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_timeout(300)
    assert "/leaderboard" in page.url
    page.keyboard.press("Enter")
    page.wait_for_url("**/recipe?**cand=3**")
    page.context.close()
    served.no_error()


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_the_table_fits_and_can_be_read_by_all(served: Served, browser: Browser, scheme: Scheme) -> None:
    page = opened(browser, f"{served.address}/leaderboard?run={served.run}", scheme)
    scroller = page.locator(".grid .scroller")
    assert scroller.evaluate("s => s.scrollWidth <= s.clientWidth"), "six benchmarks at 1440 pixels"
    names = page.locator(f"{BOARD} th.name").first.bounding_box()
    number = page.locator(f"{BOARD} td.number").first.bounding_box()
    assert names is not None
    assert number is not None
    assert names["width"] > 2 * number["width"]
    page.get_by_role("button", name="Details of block (12, 14)").click()
    # Survives its own interval, but not the correction.
    weak = page.locator(f"{BOARD} td[data-meaning=worse-uncorrected]")
    expect(weak.first).to_contain_text("▽")
    assert "not after correction" in (weak.first.get_attribute("title") or "")
    assert serious_findings(page) == []
    picture(page, f"leaderboard-open-{scheme}")
    page.set_viewport_size({"width": 390, "height": 844})
    settled(page)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert scroller.evaluate("s => s.scrollWidth <= s.clientWidth")
    shown = [t for t in page.locator(f"{BOARD} > thead th:visible").all_inner_texts() if t]
    assert [t.strip(" ↓") for t in shown] == ["Recipe", "Mean"]
    picture(page, f"leaderboard-390-{scheme}")
    page.context.close()


def test_the_verdict_is_about_all_paths_wherever_the_page_stands(tmp_path: Path, browser: Browser) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        run = large_run(store, tmp_path)
        forget_some(store, run, 2)
    with serving(tmp_path, run) as served:
        page = opened(browser, f"{served.address}/leaderboard?run={run}&sort=name")
        verdict = page.locator(".st-key-run_verdict")
        assert not {f"path {p:04d}" for p in (*BETTER, *WORSE)} & set(board_rows(page))
        # While two comparisons are missing nothing is concluded; the page computes them.
        expect(verdict).to_contain_text(re.compile("Computing: 3,238 of 3,240|Mean"))
        expect(verdict).to_contain_text("Mean: 3 of 3,239 better, 2 worse")
        expect(verdict).to_contain_text("path 2890 +")
        chips = page.get_by_test_id("stButtonGroup").filter(has_text="All")
        expect(chips).to_contain_text("better 3")
        expect(chips).to_contain_text("no difference shown 3,234")
        expect(chips).to_contain_text("not compared 1")
        settled(page)
        page.get_by_role("checkbox", name="Tick path 0007").check()
        page.wait_for_url("**ticks=7**")
        page.get_by_role("button", name="Next").click()
        expect(page.locator(BOARD)).to_contain_text("path 0026")
        expect(page.locator(f"{BOARD} input:checked")).to_have_count(0)
        expect(verdict).to_contain_text("Mean: 3 of 3,239 better, 2 worse")
        page.get_by_role("button", name="Previous").click()
        expect(page.get_by_role("checkbox", name="Tick path 0007")).to_be_checked()
        chips.get_by_text("better").first.click()
        expect(page.locator(BOARD)).to_contain_text("path 3100")
        assert sorted(board_rows(page)) == ["base", *(f"path {p:04d}" for p in BETTER)]
        chips.get_by_text("not compared").click()
        expect(page.locator(BOARD)).to_contain_text(f"path {REFUSED}")
        assert len(board_rows(page)) == 2
        page.context.close()
        served.no_error()
