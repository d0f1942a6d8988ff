"""A whole study in Chromium, Firefox and WebKit: what is exported is what was done.

Thirty cases, two of practice before them, five repeated; ties, undone steps, windowing, a case that
cannot be judged and a revised one. Slow, and of those browsers alone that the machine has: Debian's
packages are chromium, firefox-esr, and webkit2gtk-driver with xvfb.
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.browsers import ESCAPE, Browser, WebKit, available, click, middle, until
from tests.support.studies import METHODS, Study, read_cases, served, write_sets

from cas_metric.study import Design, create_study, open_study
from cas_metric.study.app import create_app
from cas_metric.study.results import details, rankings, reliability_of, revisions

SIZE = (1280, 860)
CASES, PRACTICE, REPEATS = 30, 2, 5
#: Grey values of the four quarters of every image.
GREYS = (30, 90, 150, 210)
Ranks = dict[str, int]


def write_greys(root: Path) -> None:
    """The images of the study become four grey quarters each, and one row that tells them apart."""
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        quarters = np.kron(np.reshape(GREYS, (2, 2)), np.ones((128, 128))).astype(np.uint8)
        quarters[0, :8] = [int(bit) * 255 for bit in f"{number % 256:08b}"]
        quarters[0, 8:16] = [int(bit) * 255 for bit in f"{number // 256:08b}"]
        Image.fromarray(quarters).save(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chromium", "firefox", "webkit"])
def test_a_whole_study(name: str, tmp_path: Path) -> None:
    start = available(SIZE).get(name)
    if start is None:
        pytest.skip(f"no {name} on this machine")
    write_sets(tmp_path / "sets", cases=CASES + PRACTICE)
    write_greys(tmp_path / "sets")
    cases = read_cases(tmp_path / "sets")
    made = create_study(
        *(tmp_path / "study", cases[:CASES], ["rater"]),
        design=Design(ties=True, repeats=REPEATS),
        practice=cases[CASES:],
    )
    study = Study(open_study(tmp_path / "study"), made.links, cases)
    with served(create_app(study.store)) as address, start() as browser:
        done = rate(browser, address + study.path())
    compare(study, done)
    study.store.close()


class Done:
    """What was done: number of the case to what was saved, every version of it."""

    def __init__(self) -> None:
        self.saved: dict[int, list[Ranks | str]] = {}

    def save(self, number: int, answer: Ranks | str) -> None:
        self.saved.setdefault(number, []).append(answer)


def rate(browser: Browser, address: str) -> Done:
    rng, done = random.Random(5), Done()
    browser.goto(address)
    click(browser, "#begin")
    total = PRACTICE + CASES + REPEATS
    for number in range(1, total + 1):
        opened(browser, number)
        if number == 3:
            check_window(browser)
        if number == 7:
            cannot(browser, done, number)
            continue
        done.save(number, rank(browser, rng, WAYS[number % len(WAYS)]))
        if number == 12:  # an earlier case is revised before this one is sent
            until(browser, "document.querySelector('#status').textContent === 'Draft saved'")
            browser.goto(f"{address}case/5")
            opened(browser, 5)
            done.save(5, rank(browser, rng, by_number))
            click(browser, "#save")
            opened(browser, 12)  # with its draft
            assert standard(shown_ranks(browser)) == done.saved[12][0]
        click(browser, "#save")
        if number == 25:  # DEFAULT proposes a rest
            until(
                browser,
                "location.pathname.endsWith('/pause') && document.querySelector('#continue')",
            )
            click(browser, "#continue")
    until(browser, "document.querySelector('#finish')")
    click(browser, "#finish")
    until(browser, "document.querySelector('h1').textContent === 'Thank you'")
    return done


def opened(browser: Browser, number: int) -> None:
    ready = "document.querySelector('#ranking')?.dataset.ready"
    until(browser, f"location.pathname.endsWith('/case/{number}') && {ready}")


def images(browser: Browser) -> list[str]:
    sources = browser.script(
        "return [...document.querySelectorAll('.picture img')].map((each) => each.src);"
    )
    return [source.rsplit("/", 1)[1] for source in sources]


def rank(browser: Browser, rng: random.Random, how: Callable[[Browser, int, int], None]) -> Ranks:
    """Rank the case on show, ties among them, one step undone; ranks by image."""
    names = images(browser)
    ranks = [rng.randint(1, len(names)) for _ in names]
    for place, value in enumerate(ranks):
        how(browser, place, value)
        if place == 1:  # a slip, and back
            by_key(browser, 0, ranks[0] % len(names) + 1)
            browser.type("z", control=True)
    if rng.random() < 0.2:
        browser.type("t")
        ranks = [1] * len(names)
    assert shown_ranks(browser) == dict(zip(names, ranks, strict=True))
    return standard(dict(zip(names, ranks, strict=True)))


def standard(ranks: Ranks) -> Ranks:
    """Of tied images: one more than how many are better."""
    return {name: 1 + sum(other < mine for other in ranks.values()) for name, mine in ranks.items()}


def shown_ranks(browser: Browser) -> Ranks:
    values = browser.script(
        "return [...document.querySelectorAll('.card')].map("
        "(each) => Number(each.querySelector('.ranks input:checked')?.value ?? 0));"
    )
    return dict(zip(images(browser), values, strict=True))


def by_key(browser: Browser, place: int, value: int) -> None:
    browser.script(f"document.querySelectorAll('.picture')[{place}].focus();")
    browser.type(str(value))


def by_number(browser: Browser, place: int, value: int) -> None:
    if shown_ranks(browser)[images(browser)[place]] != value:  # a second click takes it back
        click(browser, f".card[data-place='{place + 1}'] .ranks label", value - 1)


def by_dragging(browser: Browser, place: int, value: int) -> None:
    start, end = middle(browser, ".picture", place), middle(browser, ".slot", value - 1)
    between = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    browser.press(start, between, end)


WAYS = (by_key, by_number, by_dragging)


def cannot(browser: Browser, done: Done, number: int) -> None:
    click(browser, "#cannot")
    until(browser, "document.querySelector('#why').open")
    click(browser, "#why [data-reason]", 1)
    done.save(number, "No image shows the target diagnosis")
    until(browser, f"location.pathname.endsWith('/case/{number + 1}')")


def check_window(browser: Browser) -> None:
    """What the screen shows is what the window says, in every image, and 1:1 is pixel by pixel."""
    assert quarters(browser, 0) == pytest.approx(GREYS, abs=1)
    browser.script("document.querySelector('.picture').click();")
    until(browser, "document.querySelector('#viewer').open")
    browser.type("a")  # all images
    x, y = middle(browser, ".pane[data-place='2'] .stage")
    right = not isinstance(browser, WebKit)  # whose driver keeps that button pressed
    if not right:
        browser.type("w")
    browser.press((x, y), (x - 60, y + 20), (x - 120, y + 40), right=right)  # window and level
    width, level = window(browser)
    assert (width, level) == (255 - 60, 148)  # half a grey value a pixel, from 127.5
    for pane in range(len(METHODS)):
        expected = [windowed(grey, width, 147.5) for grey in GREYS]
        assert quarters(browser, pane, "#viewer") == pytest.approx(expected, abs=2)
    browser.type("i")
    inverted = [255 - windowed(grey, width, 147.5) for grey in GREYS]
    assert quarters(browser, 2, "#viewer") == pytest.approx(inverted, abs=2)
    if right:
        click(browser, "#viewer [data-do=tone]")
    click(browser, "#viewer [data-tone=reset]")
    assert window(browser) == (255, 128)
    click(browser, "#viewer [data-preset=dark]")
    dark = [windowed(grey, 130, 80) for grey in GREYS]
    assert quarters(browser, 0, "#viewer") == pytest.approx(dark, abs=2)
    click(browser, "#viewer [data-tone=reset]")
    browser.type("p")  # one pixel of the image is one of the screen
    assert browser.script("return document.querySelector('#viewer-scale').textContent;") == "100%"
    strip = row_of_first_pixels(browser)
    assert set(strip.tolist()) <= {0, 255}
    assert len(set(strip.tolist())) == 2
    browser.type("f+")
    scales = browser.script(
        "return [...document.querySelectorAll('.pane:not([hidden]) img')]"
        ".map((each) => each.style.transform);"
    )
    assert len(scales) == len(METHODS)
    assert {scale.partition(" scale")[2] for scale in scales} == {"(1.4)"}
    browser.type(ESCAPE)
    until(browser, "!document.querySelector('#viewer').open")


def windowed(grey: int, width: float, level: float) -> float:
    return float(np.clip((grey - level) / width + 0.5, 0, 1) * 255)


def window(browser: Browser) -> tuple[int, int]:
    text = browser.script("return document.querySelector('#viewer .tone output').textContent;")
    _, width, _, level = text.split()
    return int(width), int(level)


def screen(browser: Browser) -> np.ndarray:
    time.sleep(0.4)  # until it is drawn: WebKit without a screen calls no animation frames
    return np.asarray(Image.open(io.BytesIO(browser.picture())).convert("L"), dtype=float)


def box(browser: Browser, number: int, root: str) -> list[float]:
    selector = f"{root} .pane:not([hidden]) img" if root else ".picture img"
    return browser.script(
        f"const b = document.querySelectorAll({selector!r})[{number}].getBoundingClientRect();"
        "return [b.left, b.top, b.width, b.height];"
    )


def quarters(browser: Browser, number: int, root: str = "") -> list[float]:
    """Grey values on the screen in the middles of the quarters of an image."""
    left, top, width, height = box(browser, number, root)
    side = min(width, height)
    left, top = left + (width - side) / 2, top + (height - side) / 2
    picture = screen(browser)
    return [
        float(picture[round(top + side * y), round(left + side * x)])
        for y in (0.3, 0.7)
        for x in (0.3, 0.7)
    ]


def row_of_first_pixels(browser: Browser) -> np.ndarray:
    """Sixteen pixels of the screen where the image has sixteen of black and white, at 1:1."""
    left, top, width, height = box(browser, 0, "#viewer")
    x, y = round(left + (width - 256) / 2), round(top + (height - 256) / 2)
    return screen(browser)[y, x : x + 16]


def compare(study: Study, done: Done) -> None:
    table, every = details(study.store), revisions(study.store)
    assert set(table["case_number"]) == set(done.saved) == set(range(1, 38))
    for number, versions in done.saved.items():
        mine = table[table["case_number"] == number]
        assert set(mine["revision"]) == {len(versions)}
        if isinstance(versions[-1], str):
            assert set(mine["reason"]) == {versions[-1]}
            assert set(mine["verdict"]) == {"cannot-judge"}
        else:
            assert mine.set_index("image")["rank"].to_dict() == versions[-1]
        for revision, version in enumerate(versions, 1):
            rows = every[(every["case_number"] == number) & (every["revision"] == revision)]
            if not isinstance(version, str):
                assert rows.set_index("image")["rank"].to_dict() == version
    kinds = table.drop_duplicates("case_number").set_index("case_number")["kind"]
    assert list(kinds.iloc[:PRACTICE]) == ["practice"] * PRACTICE
    assert kinds.value_counts().to_dict() == {"main": CASES, "practice": 2, "repeat": REPEATS}
    ranked = rankings(table, finished_only=True)
    judged = sum(
        kinds[number] == "main" and not isinstance(versions[-1], str)
        for number, versions in done.saved.items()
    )
    assert len(ranked) == judged * len(METHODS)
    again = table[(table["kind"] == "repeat") & table["rank"].notna()]
    (own,) = (one for one in reliability_of(study.store) if one["rater"] == "rater")
    first = table[(table["kind"] == "main") & table["rank"].notna()]
    both = first.merge(again, on=["case", "method"])
    assert own["pairs"] == len(both)
    assert own["same"] == pytest.approx((both["rank_x"] == both["rank_y"]).mean())
