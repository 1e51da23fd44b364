"""A real browser without a window, for tests of the page: Debian's chromium and chromium-driver."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NEEDED = {name: shutil.which(name) for name in ("chromium", "chromedriver")}


def missing() -> str:
    """Why there is no browser here; "" if there is one."""
    lacking = [name for name, found in NEEDED.items() if found is None]
    return f"{' and '.join(lacking)} is not installed" if lacking else ""


class Browser:
    """A page from disk, as a user has it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, width: int = 1280, dark: bool = False) -> None:
        """Opens a file. Afterwards `messages` and `requests` are about this page."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.messages(), self.requests()
        self.driver.get(page.absolute().as_uri())
        self.settle()

    def run(self, script: str, *given: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *given)

    def texts(self, selector: str) -> list[str]:
        """The text of every element, with plain spaces."""
        found = self.run(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
        )
        return [text.replace("\u202f", " ") for text in found]

    def press(self, *keys: str) -> None:
        """Presses keys, one after the other, where the focus is."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def unfold(self) -> None:
        """Opens every fold, and waits until what is made then is there."""
        self.run("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
        self.settle()

    def settle(self) -> None:
        """Waits until the page has answered what was done to it: `toggle` events come later."""
        self.driver.execute_async_script("setTimeout(() => requestAnimationFrame(arguments[0]), 100)")

    def messages(self) -> list[str]:
        """What the console said since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last call, without those of the data in the page."""
        told = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [t["params"]["request"]["url"] for t in told if t["method"] == "Network.requestWillBeSent"]
        return [address for address in sent if not address.startswith("data:")]


@contextmanager
def browsing() -> Generator[Browser]:
    """A browser; skips the test, with the reason, where there is none."""
    if reason := missing():
        pytest.skip(reason)
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = NEEDED["chromium"]
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # chromium's sandbox does not work for root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(NEEDED["chromedriver"]))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
