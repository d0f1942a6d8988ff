"""A real browser: two raters rank ten cases, one of them closes it in between.

What the server sent is recorded byte for byte, and the export is compared with what was clicked.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Playwright, Route, expect, sync_playwright
from tests.support.studies import METHODS, Recorder, Study, opened_study, served

from cas_metric.study.app import create_app
from cas_metric.study.results import details, rankings
from cas_metric.study.store import Answer

CASES = 10
NOTE = 'left <b>hilum</b> & "more"'
#: What a rater chose: (number of the case, anonymous image) to rank.
Clicks = dict[tuple[int, str], int]


def chromium() -> str:
    """Path of the browser; without one the test fails in CI and is skipped elsewhere."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not found:
        reason = "no Chromium on this machine (apt-get install chromium, or set CHROMIUM)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


def start(playwright: Playwright) -> Browser:
    # Containers have neither the sandbox's privileges nor a large /dev/shm.
    options = ["--no-sandbox", "--disable-dev-shm-usage"]
    return playwright.chromium.launch(executable_path=chromium(), args=options)


def open_page(browser: Browser, **options: object) -> Page:
    page = browser.new_page(**options)  # type: ignore[arg-type]
    page.set_default_timeout(20_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.complaints = complaints  # type: ignore[attr-defined]
    return page


def shown(page: Page) -> list[str]:
    """Names of the images of the case, in their places."""
    sources = page.locator(".picture img").evaluate_all("all => all.map(each => each.src)")
    return [source.rsplit("/", 1)[1] for source in sources]


def number_of(page: Page) -> int:
    return int(page.url.rsplit("/", 1)[1])


def ready(page: Page, number: int) -> None:
    page.wait_for_url(f"**/case/{number}")
    page.wait_for_selector("#ranking[data-ready]")


def by_keyboard(page: Page, place: int, rank: int) -> None:
    page.locator(".picture").nth(place).focus()
    page.keyboard.press(str(rank))


def by_radio(page: Page, place: int, rank: int) -> None:
    page.locator(".card").nth(place).locator("label").nth(rank - 1).click()


def by_dragging(page: Page, place: int, rank: int) -> None:
    start, end = (
        centre(page.locator(".picture").nth(place)),
        centre(page.locator(".slot").nth(rank - 1)),
    )
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def by_tapping(page: Page, place: int, rank: int) -> None:
    page.locator(".picture").nth(place).tap()
    page.locator(".slot .thumb").nth(rank - 1).tap()


def centre(element: Locator) -> tuple[float, float]:
    box = element.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def rank(page: Page, rng: random.Random, how: Callable[[Page, int, int], None]) -> Clicks:
    """Rank the case on show; what was clicked."""
    names = shown(page)
    ranks = rng.sample(range(1, len(names) + 1), len(names))
    for place, value in enumerate(ranks):
        how(page, place, value)
    expect(page.locator("#save")).to_have_attribute("aria-disabled", "false")
    return {(number_of(page), name): value for name, value in zip(names, ranks, strict=True)}


def finish(page: Page) -> None:
    page.wait_for_url("**/overview")
    page.click("#finish")
    expect(page.locator("h1")).to_have_text("Thank you")


def test_two_raters_and_a_closed_browser(playwright: Playwright, tmp_path: Path) -> None:
    with opened_study(tmp_path, cases=CASES) as study:
        recorder = Recorder(create_app(study.store))
        with served(recorder) as address:
            clicked = [
                rate_with_a_break(playwright, address, study),
                rate_on_a_tablet(playwright, address, study),
            ]
        table = details(study.store)
        assert len(rankings(table, finished_only=True)) == (2 * CASES - 1) * len(METHODS)
        for rater, expected in enumerate(clicked, 1):
            mine = table[(table["rater"] == f"rater-{rater}") & table["rank"].notna()]
            assert mine.set_index(["case_number", "image"])["rank"].to_dict() == expected
        first = table[table["rater"] == "rater-1"].drop_duplicates("case").set_index("case_number")
        assert first.loc[6, "note"] == NOTE
        assert first.loc[2, "revision"] == 2
        assert first.loc[4, "verdict"] == "cannot-judge"
        assert first.loc[4, "reason"] == "Outside of my field"
        assert_blind(recorder, set(table["source"]), study)


def rate_with_a_break(playwright: Playwright, address: str, study: Study) -> Clicks:
    """Rater 1, at a desk: keyboard and mouse, a revision, a case not judged, a closed browser."""
    rng, clicks = random.Random(1), Clicks()
    browser = start(playwright)
    page = open_page(browser, viewport={"width": 1400, "height": 900})
    page.goto(address + study.path(0))
    page.click("#begin")
    for number in range(1, 6):
        ready(page, number)
        if number == 4:
            page.click("#cannot")
            page.click("#why [data-reason] >> nth=2")
            continue
        clicks |= rank(page, rng, by_dragging if number == 3 else by_keyboard)
        if number == 5:  # back to an earlier case before this one is sent
            expect(page.locator("#status")).to_have_text("Draft saved")
            page.goto(f"{address}{study.path(0)}case/2")
            ready(page, 2)
            clicks |= rank(page, rng, by_radio)
            page.click("#save")
            ready(page, 5)
        page.click("#save")
    ready(page, 6)
    name = shown(page)[1]
    by_keyboard(page, 1, 3)
    page.fill("textarea[name=note]", NOTE)
    expect(page.locator("#status")).to_have_text("Draft saved")
    assert page.complaints == []  # type: ignore[attr-defined]
    browser.close()

    browser = start(playwright)
    page = open_page(browser, viewport={"width": 1400, "height": 900})
    page.goto(address + study.path(0))
    expect(page.locator("#begin")).to_have_text("Continue with case 6")
    page.click("#begin")
    ready(page, 6)
    assert shown(page)[1] == name
    expect(page.locator(".card").nth(1).locator("input:checked")).to_have_value("3")
    expect(page.locator("textarea[name=note]")).to_have_value(NOTE)
    for number in range(6, CASES + 1):
        ready(page, number)
        clicks |= rank(page, rng, by_keyboard)
        if number < CASES:
            page.click("#save")
        else:
            page.dblclick("#save")
    finish(page)
    assert page.complaints == []  # type: ignore[attr-defined]
    browser.close()
    return clicks


def rate_on_a_tablet(playwright: Playwright, address: str, study: Study) -> Clicks:
    """Rater 2, with a finger; every target is large enough for it."""
    rng, clicks = random.Random(2), Clicks()
    browser = start(playwright)
    page = open_page(browser, viewport={"width": 820, "height": 1180}, has_touch=True)
    page.goto(address + study.path(1))
    page.click("#begin")
    for number in range(1, CASES + 1):
        ready(page, number)
        if number == 1:
            assert_large_enough(page)
        clicks |= rank(page, rng, by_tapping if number % 2 else by_radio)
        page.tap("#save")
    finish(page)
    assert page.complaints == []  # type: ignore[attr-defined]
    browser.close()
    return clicks


def assert_large_enough(page: Page) -> None:
    """44 CSS pixels (WCAG 2.2, target size, enhanced)."""
    for target in page.locator(".button, .icon, .ranks label, .thumb, .picture").all():
        box = target.bounding_box()
        if box is not None:  # visible
            assert min(box["width"], box["height"]) >= 44, target


def assert_blind(recorder: Recorder, sources: set[str], study: Study) -> None:
    """Nothing that was sent names a method, a file or a key of a case."""
    secret = {*METHODS, "secretname", *(Path(source).name for source in sources)}
    secret |= {Path(source).stem for source in sources} | {case.key for case in study.cases}
    words = [word.encode() for word in secret]
    pictures = 0
    for path, status, headers, body in recorder.sent:
        assert status in (200, 303), path
        for word in words:
            assert word not in path.encode()
            assert word not in headers
            assert word not in body
        if "/image/" in path:
            pictures += 1
            assert body[:8] == b"\x89PNG\r\n\x1a\n"
            assert set(chunk_types(body)) == {b"IHDR", b"IDAT", b"IEND"}
    assert pictures >= 2 * CASES * len(METHODS)


def chunk_types(png: bytes) -> Iterator[bytes]:
    at = 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8]
        at += 12 + length


def test_enlarging_comparing_and_theme(playwright: Playwright, tmp_path: Path) -> None:
    with opened_study(tmp_path, cases=1) as study, served(create_app(study.store)) as address:
        browser = start(playwright)
        page = open_page(browser, viewport={"width": 1180, "height": 820})
        page.goto(f"{address}{study.path()}case/1")
        ready(page, 1)
        names = shown(page)
        page.locator(".picture").nth(0).click()
        viewer = page.locator("#viewer")
        left, right = (viewer.locator(f".pane[data-place='{place}']") for place in (1, 2))
        expect(left.locator("img")).to_have_js_property(
            "src", f"{address}{study.path()}image/{names[0]}"
        )
        expect(right).to_be_hidden()
        page.keyboard.press("c")
        expect(right.locator("img")).to_have_attribute("alt", "Image B")
        page.keyboard.press("+")
        scales = [pane.locator("img").evaluate("e => e.style.transform") for pane in (left, right)]
        assert scales[0] == scales[1]
        assert "scale(1.4)" in scales[0]
        page.keyboard.press("2")
        page.keyboard.press("Escape")
        expect(viewer).to_be_hidden()
        first = page.locator(".picture").nth(0)
        expect(first).to_be_focused()
        expect(first).to_have_attribute("aria-label", "Image A, rank 2 of 3")
        # Whoever stands in the place moves on, and a screen reader is told.
        by_keyboard(page, 1, 2)
        expect(page.locator("#said")).to_contain_text("Image B has rank 2, A moves to 3")
        page.click("#save", force=True)  # it says that it is disabled, and answers why
        expect(page.locator("#status")).to_have_text("1 of 3 still to rank")
        assert page.url.endswith("/case/1")
        page.click("[data-theme-toggle]")
        page.reload()
        assert page.evaluate("document.documentElement.dataset.theme") == "light"
        assert page.complaints == []  # type: ignore[attr-defined]
        browser.close()


def test_a_change_during_a_slow_save_is_kept(playwright: Playwright, tmp_path: Path) -> None:
    with opened_study(tmp_path, cases=1) as study, served(create_app(study.store)) as address:
        browser = start(playwright)
        page = open_page(browser)
        held: list[Route] = []
        page.route("**/draft", lambda route: route.continue_() if held else held.append(route))
        page.goto(f"{address}{study.path()}case/1")
        ready(page, 1)
        with page.expect_request("**/draft"):
            by_keyboard(page, 0, 1)
        by_keyboard(page, 1, 2)
        page.wait_for_timeout(600)  # its save comes due while the first is under way
        held[0].continue_()
        expect(page.locator("#status")).to_have_text("Draft saved")
        rater = study.store.rater(study.links[0].token)
        assert study.store.open_case(rater, 1).ranks == {1: 1, 2: 2}
        browser.close()


def test_a_draft_that_an_answer_overtook_is_not_called_saved(
    playwright: Playwright, tmp_path: Path
) -> None:
    with opened_study(tmp_path, cases=2) as study, served(create_app(study.store)) as address:
        browser = start(playwright)
        page = open_page(browser)
        page.goto(f"{address}{study.path()}case/1")
        ready(page, 1)
        rater = study.store.rater(study.links[0].token)
        study.store.submit(rater, 1, Answer("from-elsewhere", "cannot-judge", {}))
        by_keyboard(page, 0, 1)
        expect(page.locator("#status")).to_contain_text("Not kept: answered in another window")
        browser.close()
