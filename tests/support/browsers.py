"""Chromium, Firefox and WebKit under one small interface, each by its own maintained driver.

Coordinates and keys go through the browser's own input, not through scripts of the page.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

#: Selenium's and Marionette's code of a key.
CONTROL, ESCAPE, ENTER = "\ue009", "\ue00c", "\ue007"


class Browser(Protocol):
    """What a test does to a browser."""

    def goto(self, url: str) -> None:
        """Open a page."""

    def script(self, body: str) -> Any:
        """Value that the body of a function returns in the page."""

    def move(self, x: float, y: float) -> None:
        """Put the mouse there."""

    def press(self, *buttons: tuple[float, float], right: bool = False) -> None:
        """Press the mouse button at the first point, release it at the last one."""

    def type(self, keys: str, control: bool = False) -> None:
        """Send keys to what has the focus."""

    def picture(self) -> bytes:
        """Screenshot of the window, PNG."""


def click(browser: Browser, selector: str, number: int = 0) -> None:
    """Click the middle of an element."""
    browser.press(middle(browser, selector, number))


def middle(browser: Browser, selector: str, number: int = 0) -> tuple[float, float]:
    """Middle of an element, scrolled into view."""
    x, y = browser.script(
        f"const each = document.querySelectorAll({selector!r})[{number}];"
        "each.scrollIntoView({block: 'nearest'}); const b = each.getBoundingClientRect();"
        "return [b.left + b.width / 2, b.top + b.height / 2];"
    )
    return x, y


def until(browser: Browser, condition: str, seconds: float = 30.0) -> Any:
    """Wait until an expression is true in the page; its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(Exception):  # between two pages there is none
            if found := browser.script(f"return {condition};"):
                return found
        time.sleep(0.05)
    raise AssertionError(
        f"never true: {condition}; on {browser.script('return location.pathname')}"
    )


class Chromium:
    """By Playwright."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def goto(self, url: str) -> None:
        self.page.goto(url)

    def script(self, body: str) -> Any:
        return self.page.evaluate(f"() => {{ {body} }}")

    def move(self, x: float, y: float) -> None:
        self.page.mouse.move(x, y)

    def press(self, *buttons: tuple[float, float], right: bool = False) -> None:
        button = "right" if right else "left"
        self.page.mouse.move(*buttons[0])
        self.page.mouse.down(button=button)
        for x, y in buttons[1:]:
            self.page.mouse.move(x, y, steps=4)
        self.page.mouse.up(button=button)

    def type(self, keys: str, control: bool = False) -> None:
        names = {ESCAPE: "Escape", ENTER: "Enter"}
        for key in keys:
            name = names.get(key, key)
            self.page.keyboard.press(f"Control+{name}" if control else name)

    def picture(self) -> bytes:
        return bytes(self.page.screenshot())


class Firefox:
    """By Marionette, Mozilla's own client."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def goto(self, url: str) -> None:
        self.session.navigate(url)

    def script(self, body: str) -> Any:
        return self.session.execute_script(body, sandbox=None)

    def move(self, x: float, y: float) -> None:
        self._mouse().pointer_move(round(x), round(y)).perform()

    def _mouse(self) -> Any:
        return self.session.actions.sequence("pointer", "mouse", {"pointerType": "mouse"})

    def press(self, *buttons: tuple[float, float], right: bool = False) -> None:
        button = 2 if right else 0
        chain = self._mouse().pointer_move(*map(round, buttons[0])).pointer_down(button=button)
        for x, y in buttons[1:]:
            chain.pointer_move(round(x), round(y), duration=60)
        chain.pointer_up(button=button).perform()

    def type(self, keys: str, control: bool = False) -> None:
        chain = self.session.actions.sequence("key", "keyboard")
        if control:
            chain.key_down(CONTROL)
        for key in keys:
            chain.key_down(key).key_up(key)
        if control:
            chain.key_up(CONTROL)
        chain.perform()

    def picture(self) -> bytes:
        return bytes(self.session.screenshot(format="binary", full=False))


class WebKit:
    """WebKitGTK, the engine of Safari, by Selenium."""

    def __init__(self, driver: Any, display: str) -> None:
        self.driver = driver
        self.display = display

    def goto(self, url: str) -> None:
        self.driver.get(url)

    def script(self, body: str) -> Any:
        return self.driver.execute_script(body)

    def _perform(self, fill: Callable[[Any], None]) -> None:
        from selenium.webdriver.common.action_chains import ActionBuilder

        builder = ActionBuilder(self.driver, duration=60)
        fill(builder)
        builder.perform()

    def move(self, x: float, y: float) -> None:
        self._perform(lambda builder: builder.pointer_action.move_to_location(round(x), round(y)))

    def press(self, *buttons: tuple[float, float], right: bool = False) -> None:
        from selenium.webdriver.common.actions.mouse_button import MouseButton

        button = MouseButton.RIGHT if right else MouseButton.LEFT

        def fill(builder: Any) -> None:
            mouse = builder.pointer_action
            mouse.move_to_location(*map(round, buttons[0])).pointer_down(button=button)
            for x, y in buttons[1:]:
                mouse.move_to_location(round(x), round(y))
            mouse.pointer_up(button=button)

        self._perform(fill)

    def type(self, keys: str, control: bool = False) -> None:
        def fill(builder: Any) -> None:
            if control:
                builder.key_action.key_down(CONTROL)
            for key in keys:
                builder.key_action.key_down(key)
                builder.key_action.key_up(key)
            if control:
                builder.key_action.key_up(CONTROL)

        self._perform(fill)

    def picture(self) -> bytes:
        """Of the display itself: the driver never answers for a page that another one led to."""
        from PIL import ImageGrab

        x, y, width, height, above = self.script(
            "return [screenX, screenY, innerWidth, innerHeight, outerHeight - innerHeight];"
        )
        top = y + above
        page = ImageGrab.grab(xdisplay=self.display).crop((x, top, x + width, top + height))
        buffer = io.BytesIO()
        page.save(buffer, "PNG")
        return buffer.getvalue()


@contextlib.contextmanager
def chromium(path: str, size: tuple[int, int]) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield Chromium(browser.new_page(viewport={"width": size[0], "height": size[1]}))
        browser.close()


@contextlib.contextmanager
def firefox(path: str, size: tuple[int, int]) -> Iterator[Browser]:
    import socket

    from marionette_driver.marionette import Marionette

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    session = Marionette(
        bin=path, headless=True, port=port, app="fxdesktop", startup_timeout=120, gecko_log="-"
    )
    session.start_session()
    try:
        _resize(Firefox(session), size, lambda w, h: session.set_window_rect(width=w, height=h))
        yield Firefox(session)
    finally:
        session.cleanup()


@contextlib.contextmanager
def webkit(path: str, size: tuple[int, int], browser: str) -> Iterator[Browser]:
    from selenium import webdriver
    from selenium.webdriver.webkitgtk.options import Options
    from selenium.webdriver.webkitgtk.service import Service

    options = Options()
    options.binary_location = browser
    options.add_argument("--automation")
    with _display() as display:
        environment = {
            **os.environ,
            "DISPLAY": display,
            "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1",  # containers have no user namespaces
            "WEBKIT_DISABLE_DMABUF_RENDERER": "1",
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "WEBKIT_DISABLE_COMPOSITING_MODE": "1",
            "NO_AT_BRIDGE": "1",
        }
        driver = webdriver.WebKitGTK(options=options, service=Service(path, env=environment))
        try:
            _resize(WebKit(driver, display), size, driver.set_window_size)
            yield WebKit(driver, display)
        finally:
            driver.quit()


def _resize(browser: Browser, size: tuple[int, int], resize: Callable[[int, int], object]) -> None:
    """Give the page, not the window around it, a size."""
    resize(*size)
    time.sleep(0.5)
    width, height = browser.script("return [innerWidth, innerHeight];")
    resize(2 * size[0] - width, 2 * size[1] - height)
    time.sleep(0.5)


@contextlib.contextmanager
def _display() -> Iterator[str]:
    """A display without a screen, of its own, unless there is one."""
    if found := os.environ.get("DISPLAY"):
        yield found
        return
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1700x1300x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as number:
        display = f":{number.readline().strip()}"
    try:
        yield display
    finally:
        server.terminate()
        server.wait()


def available(size: tuple[int, int]) -> dict[str, Callable[[], Any]]:
    """Name to a context manager that starts the browser, of those that this machine has."""
    found: dict[str, Callable[[], Any]] = {}
    if path := os.environ.get("CHROMIUM") or shutil.which("chromium"):
        found["chromium"] = lambda: chromium(path, size)
    if fox := shutil.which("firefox-esr") or shutil.which("firefox"):
        found["firefox"] = lambda: firefox(fox, size)
    mini = next(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"), None)
    driver = shutil.which("WebKitWebDriver")
    if driver and mini and (os.environ.get("DISPLAY") or shutil.which("Xvfb")):
        found["webkit"] = lambda: webkit(driver, size, str(mini))
    return found
