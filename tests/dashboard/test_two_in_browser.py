"""Comparison, recipe, job and card in a real browser: tasks with their clicks, keys, bad addresses, accessibility, pictures.

One store, and few sessions, since each costs seconds.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.accessibility import serious_findings
from tests.support.browser import Scheme, Served, opened, picture, settled
from tests.support.task_store import BASE, BETTER, FAILED, HOSTILE_PATH, OTHER_TEMPLATE


def visit(page: Page, served: Served, path: str) -> None:
    page.goto(f"{served.address}/{path}{'&' if '?' in path else '?'}run={served.run}")
    settled(page)


def row_in_view(page: Page) -> Locator:
    row = page.locator("tr[aria-current=true]")
    expect(row).to_have_count(1)
    expect(row).to_be_in_viewport()
    return row


def test_compare_says_one_sentence_and_reads_by_key(two: tuple[Served, str], browser: Browser) -> None:
    served, _ = two
    page = opened(browser, f"{served.address}/compare?run={served.run}&cand={BETTER}&bench=mmlu-pro")
    sentence = page.locator(".st-key-verdict h3")
    expect(sentence).to_contain_text(
        re.compile(r"^block \(10, 17\) is .*(better|worse) than base on .*\(\+?.+, p .+\)")
    )
    expect(page.locator(".forest .line.average")).to_contain_text("Average")
    expect(row_in_view(page)).to_contain_text("MMLU-PRO")
    page.locator("tr[data-key=bbh] button").click()
    expect(page.get_by_role("heading", name="Questions of BBH")).to_be_visible()
    expect(page.locator("tr[aria-current=true]")).to_contain_text("BBH")
    settled(page)
    assert "bench=bbh" in page.url
    questions, reader = page.get_by_role("listbox"), page.locator(".st-key-side_by_side")
    chosen = questions.locator("[aria-selected=true]")
    expect(chosen).to_have_attribute("id", "question-0")
    expect(reader.locator("mark").first).to_be_visible()
    questions.focus()
    for key, number in (("j", 1), ("ArrowDown", 2), ("k", 1), ("End", 23), ("Home", 0), ("ArrowRight", 0)):
        page.keyboard.press(key)
        expect(chosen).to_have_attribute(
            "id", re.compile(rf"question-{number if number < 23 else '[0-9]+'}$")
        )
    page.keyboard.press("j")
    about = chosen.locator(".about").inner_text()
    subset, document = about.split(", document ")
    expect(reader).to_contain_text(f"{subset}, document {document}: gained")
    page.wait_for_url("**doc=**")
    assert "/compare?" in page.url, "no key leads to another page"
    expect(questions).to_be_focused()
    link = page.url
    page.locator("summary", has_text="Details").click()
    expect(page.get_by_text("Detectable: the smallest true difference")).to_be_visible()
    page.goto(link)
    settled(page)
    expect(page.locator(".st-key-side_by_side")).to_contain_text(f"document {document}: gained")
    page.context.close()
    served.no_error()


def test_a_refused_comparison_has_a_reason_and_a_remedy_and_no_plot(
    two: tuple[Served, str], browser: Browser
) -> None:
    served, _ = two
    page = opened(browser, f"{served.address}/compare?run={served.run}&cand={OTHER_TEMPLATE}")
    refused = page.locator(".st-key-refused")
    expect(page.locator(".st-key-verdict h3")).to_contain_text(
        "is not compared with base: chat template: on (base), off"
    )
    expect(refused).to_contain_text("Evaluate both with the same chat template")
    expect(refused).to_contain_text("mergeboard run sweep.yaml")
    assert page.locator(".forest, .js-plotly-plot").count() == 0
    visit(page, served, f"compare?cand={FAILED}")
    page.get_by_role("link", name="See its jobs, and why they failed").click()
    expect(page.get_by_text("The engine ran out of memory.").first).to_be_visible()
    page.context.close()
    served.no_error()


def test_a_recipe_is_one_click_from_compare_and_has_everything(
    two: tuple[Served, str], browser: Browser
) -> None:
    served, _ = two
    page = opened(browser, f"{served.address}/compare?run={served.run}&base={BASE}&cand={BETTER}")
    page.get_by_role("link", name="The candidate's recipe").click()
    expect(page.get_by_role("heading", name="block (10, 17)", exact=True)).to_be_visible()
    settled(page)
    for part in (f"run={served.run}", f"base={BASE}", f"cand={BETTER}"):
        assert part in page.url
    main = page.get_by_test_id("stMain")
    for text in (
        "Repeated: [10, 17) twice",
        'layer_path: "(10, 17)"',
        "model-index:",
        "mergeboard plan sweep.yaml",
        "mergeboard build '(10, 17)' --base",
        f"mergeboard compare --base base --run {served.run}",
    ):
        expect(main).to_contain_text(text)
    expect(main.get_by_alt_text(re.compile("A forward pass visits 37 layers"))).to_be_visible()
    expect(page.locator("table", has_text="Jobs of this recipe")).to_contain_text("✓ done")
    page.locator("tr[data-key=math] button").click()
    page.wait_for_url("**/compare?**bench=math**")
    expect(page.get_by_role("heading", name="Questions of MATH Lvl 5")).to_be_visible()
    expect(page.locator(".st-key-side_by_side")).to_contain_text("gained")
    visit(page, served, f"recipe?cand={FAILED}")
    expect(page.locator("table", has_text="Jobs of this recipe")).to_contain_text(
        "The engine ran out of memory."
    )
    page.context.close()
    served.no_error()


def test_addresses_that_name_nothing_say_so(two: tuple[Served, str], browser: Browser) -> None:
    served, scan = two
    page = opened(browser, f"{served.address}/compare?run={served.run}&cand={BETTER}&bench=nothing")
    said = page.get_by_test_id("stAlert")
    expect(said).to_contain_text("“nothing”, which is not here; ")
    for query in (f"cand={BETTER}&bench=bbh&doc=no:1", "cand=99", "cand=x", "base=77"):
        for view in ("compare", "recipe") if "doc" not in query else ("compare",):
            visit(page, served, f"{view}?{query}")
            expect(said).to_contain_text("which is not here; ")
            expect(page.get_by_test_id("stHeading").first).to_be_visible()
    visit(page, served, "job?job=nothing")
    expect(page.get_by_text("This store has no job nothing; pick one below.")).to_be_visible()
    page.goto(f"{served.address}/card?run={scan}")
    settled(page)
    expect(page.get_by_text("A card states benchmark scores, and this run asked probes")).to_be_visible()
    page.goto(f"{served.address}/compare?run={scan}&cand=1&flips=gained")
    settled(page)
    reader = page.locator(".st-key-side_by_side")
    expect(reader).to_contain_text("Question")
    expect(reader).to_contain_text("Right answer")
    expect(reader).to_contain_text("✓ right")
    page.context.close()
    served.no_error()


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_these_pages_are_accessible_and_fit_their_width(
    two: tuple[Served, str], browser: Browser, scheme: Scheme
) -> None:
    served, _ = two
    page = opened(browser, f"{served.address}/?run={served.run}", scheme)
    views = {
        "compare-shown": f"compare?cand={BETTER}&bench=bbh",
        "compare-refused": f"compare?cand={OTHER_TEMPLATE}",
        "compare-hostile": f"compare?cand={HOSTILE_PATH}&bench=ifeval",
        "recipe": f"recipe?cand={BETTER}",
        "card-of-one": f"card?cand={BETTER}",
        "jobs-failed": f"job?of={FAILED}&state=failed",
    }
    for name, path in views.items():
        page.set_viewport_size({"width": 1440, "height": 1000})
        visit(page, served, path)
        findings = serious_findings(page, within="[data-testid=stMain]")
        assert not findings, (name, findings)
        for width in (1440, 1100, 390):
            page.set_viewport_size({"width": width, "height": 1000})
            page.wait_for_timeout(150)
            box = page.get_by_test_id("stMain")
            assert box.evaluate("e => e.scrollWidth <= e.clientWidth + 1"), (name, width)
            picture(page, f"{name}-{scheme}-{width}")
    page.context.close()
    served.no_error()
