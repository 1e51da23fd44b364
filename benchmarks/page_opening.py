"""How long the page of a large run takes to open in headless Chromium, and how large it is.

    python benchmarks/page_opening.py [--rows 1000] [--rounds 5]

A page of synthetic results with that many models of two seeds and 25 columns. From the beginning of the navigation
until the picture is drawn and the page is loaded; then until the table of all numbers, once opened, is there.
Needs chromium, chromedriver and selenium.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "results"))

from browser import browsing  # pyright: ignore[reportMissingImports]

from compressit.contract.results import Results, Row
from compressit.results.page import render

COSTS = ("parameters", "nonzero", "macs", "bytes")
SCORES = ("test_accuracy", "validation_accuracy", *(f"score_{number}" for number in range(18)))


def main() -> None:
    """Renders the page, opens it several times, and prints the medians."""
    options = argparse.ArgumentParser()
    options.add_argument("--rows", type=int, default=1000)
    options.add_argument("--rounds", type=int, default=5)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, browsing() as browser:
        begun = time.perf_counter()
        render(results(asked.rows), [], Path(folder))
        page = Path(folder) / "report.html"
        print(
            f"{asked.rows} rows: written in {time.perf_counter() - begun:.1f} s, {page.stat().st_size / 1e6:.2f} MB"
        )
        opened: list[float] = []
        shown: list[float] = []
        for _ in range(asked.rounds):
            browser.open(page)
            opened.append(browser.driver.execute_async_script(DRAWN))
            shown.append(browser.driver.execute_async_script(NUMBERS))
        print(f"opened and drawn in {statistics.median(opened):.0f} ms (worst {max(opened):.0f})")
        print(f"all numbers shown {statistics.median(shown):.0f} ms after a click (worst {max(shown):.0f})")


DRAWN = """
const done = arguments[0];
const answer = () => {
  if (!document.querySelector('#front-drawing svg')) throw new Error('nothing is drawn');
  requestAnimationFrame(() => setTimeout(() => done(performance.getEntriesByType('navigation')[0].loadEventEnd)));
};
if (document.readyState === 'complete') answer(); else addEventListener('load', () => setTimeout(answer));
"""
NUMBERS = """
const done = arguments[0];
const begun = performance.now();
document.getElementById('numbers').open = true;
const wait = () => requestAnimationFrame(() => setTimeout(() =>
  document.querySelector('#table-models tbody tr') ? done(performance.now() - begun) : wait()));
wait();
"""


def results(count: int) -> Results:
    """A dense model and members of a sweep, of two seeds."""
    draw = random.Random(0)
    facts = {name: {"better": "lower", "unit": "count", "about": ""} for name in COSTS}
    facts |= {name: {"better": "higher", "unit": "fraction", "about": "made up"} for name in SCORES}
    rows: list[Row] = []
    for number in range(count):
        seed, model = number % 2, number // 2
        metrics: dict[str, float] = {name: draw.random() for name in SCORES}
        metrics |= {name: draw.randrange(10**5, 10**6) for name in COSTS}
        curve = [(float(step), draw.random()) for step in range(50)]
        rows.append(
            Row(
                "one", "prune" if model else "train", None, f"n={model}" if model else "", seed, "x.y", None, metrics,
                {"epochs": 3}, {"loss": curve}, 1.0, f"checkpoints/{number}.safetensors", "train",
            )
        )  # fmt: skip
    return Results("large", None, rows, facts, {})


if __name__ == "__main__":
    main()
