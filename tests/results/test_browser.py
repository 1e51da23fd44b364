"""The page in a real browser: what a reader sees, clicks and types."""

from __future__ import annotations

import re
from collections.abc import Generator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, browsing
from lenets import STRATEGIES, lenets

from compressit.contract.results import Results, Row
from compressit.formatting import number
from compressit.results.page import render

HOSTILE = (
    "</script><script>window.hacked=1</script>", '<img src=x onerror="window.hacked=1">', "a\x00\x1b\u202eb",
    "x" * 3000,
)  # fmt: skip
DOTS = "#front-drawing [role=img]"
TAB, ENTER, RIGHT, LEFT, END = "\ue004", "\ue007", "\ue014", "\ue012", "\ue010"


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    with browsing() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    assert render(lenets(), [], folder) == []
    return folder / "report.html"


def written(folder: Path, results: Results) -> Path:
    render(results, [], folder)
    return folder / "report.html"


def test_it_opens_from_disk_without_the_network_and_without_an_error(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.unfold()
    asked = browser.run("return fetch('https://example.org').then(() => 'came through', error => error.name)")
    assert asked == "TypeError", "the page's policy forbids every connection"
    assert browser.requests() == [page.absolute().as_uri()]
    assert all("Content Security Policy" in message for message in browser.messages()), "of that one attempt"
    browser.open(page)
    browser.unfold()
    assert browser.texts("#table-models tbody tr")
    assert browser.texts("#curves-drawing svg")
    assert browser.messages() == []


def test_the_picture_has_every_model_with_its_numbers_in_words(browser: Browser, page: Path) -> None:
    browser.open(page)
    told = browser.run(
        f"return [...document.querySelectorAll('{DOTS}')].map(dot => dot.getAttribute('aria-label'))"
    )
    assert {words.split(";")[0] for words in told} >= {"original", *STRATEGIES, "longer, a control"}
    (ladder,) = [words.replace("\u202f", " ") for words in told if words.startswith("noise-ladder")]
    assert re.fullmatch(
        r"noise-ladder; test accuracy 9\d\.\d\d %; 95 %: .* % to .* %; MACs 31 944; 3 seeds", ladder
    )
    hollow = browser.run(
        "return [...document.querySelectorAll('#front-drawing [aria-label*=control]')]"
        ".map(dot => getComputedStyle(dot).fill)"
    )
    assert set(hollow) == {browser.run("return getComputedStyle(document.body).backgroundColor")}
    assert "budget" in browser.texts("#front-drawing text")


def test_the_axes_are_chosen_from_every_cost_and_metric(browser: Browser, page: Path) -> None:
    browser.open(page)
    costs = browser.texts("#front-cost option")
    assert sorted(costs) == sorted(
        ["MACs", "nonzero parameters", "parameters", "bytes", "latency of a batch of 1"]
    )
    before = browser.texts("#front-drawing text")
    choose = """const chosen = document.getElementById(arguments[0]);
        chosen.selectedIndex = arguments[1]; chosen.dispatchEvent(new Event('change'))"""
    browser.run(choose, "front-cost", costs.index("latency of a batch of 1"))
    latency = browser.texts("#front-drawing text")
    assert [text for text in latency if text.startswith("latency of a batch of 1")]
    assert [text for text in latency if text.endswith(" ms")], "in milliseconds"
    browser.run(choose, "front-metric", browser.texts("#front-metric option").index("test loss"))
    assert [text for text in browser.texts("#front-drawing text") if "test loss" in text]
    assert before != latency
    assert browser.messages() == []


def test_points_are_reached_by_keyboard_and_tell_their_numbers(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run("document.getElementById('front-log').focus()")
    browser.press(TAB)
    active = "return document.activeElement.getAttribute('aria-label')"
    first = browser.run(active)
    assert first.startswith("noise-ladder;"), "the cheapest, from the left"
    assert browser.texts("#front-reading") == [first.replace("\u202f", " ")]
    assert "noise-ladder" in " ".join(browser.texts("#front-drawing [aria-label=tip] tspan")), (
        "as by the pointer"
    )
    browser.press(RIGHT)
    second = browser.run(active)
    assert second.startswith("structured-kd;")
    browser.press(LEFT)
    assert browser.run(active) == first
    browser.press(END, RIGHT)
    assert browser.run(active) not in (first, second)
    browser.press(TAB)
    assert browser.run(active) is None or "; " not in browser.run(active), "one stop, not one for each point"
    assert browser.texts("#front-reading") == [""]


def test_the_pointer_shows_a_tip(browser: Browser, page: Path) -> None:
    from selenium.webdriver import ActionChains

    browser.open(page)
    dot = browser.driver.find_element("css selector", "#front-drawing [aria-label^=soft-labels]")
    ActionChains(browser.driver).move_to_element(dot).perform()
    assert "soft-labels" in " ".join(browser.texts("#front-drawing [aria-label=tip] tspan"))


def test_numbers_are_sorted_and_searched_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.texts("#table-models tr") == [], "made when they are wanted"
    browser.run("document.querySelector('#numbers > summary').focus()")
    browser.press(ENTER)
    browser.settle()
    heads = browser.texts("#table-models thead th")
    at = heads.index("test accuracy")
    cells = f"#table-models tbody tr:not([hidden]) > :nth-child({at + 1})"
    values = {cell: float(cell.split()[0]) for cell in browser.texts(cells)}
    head = f"#table-models thead th:nth-child({at + 1})"
    browser.run("document.querySelector(arguments[0]).focus()", f"{head} button")
    browser.press(ENTER)
    rising = [values[cell] for cell in browser.texts(cells)]
    assert rising == sorted(rising)
    sort = "return document.querySelector(arguments[0]).getAttribute('aria-sort')"
    assert browser.run(sort, head) == "ascending"
    browser.press(ENTER)
    assert browser.run(sort, head) == "descending"
    assert [values[cell] for cell in browser.texts(cells)] == rising[::-1]
    assert len(browser.texts("#table-models th[aria-sort]")) == 1
    browser.run("document.querySelector('#table-models input').focus()")
    browser.press(*"KD RECOVER")
    shown = browser.texts("#table-models tbody tr:not([hidden]) th")
    assert len(shown) == 6, "two strategies of three seeds: every word, in any case"
    assert all("kd" in name and "recover" in name for name in shown)
    assert browser.texts("#table-models [role=status]") == ["6 of 60 rows"]


def test_empty_cells_are_last_in_both_directions(browser: Browser, tmp_path: Path) -> None:
    metrics = {"score": {"better": "higher", "unit": "", "about": ""}}
    rows = [
        Row("v", f"s{i}", None, "", 0, "x", None, {"score": value} if value is not None else {}, {}, {})
        for i, value in enumerate((3.0, None, 1.0, 20.0))
    ]
    browser.open(written(tmp_path, Results("x", None, rows, metrics, {})))
    click = "document.querySelector('#table-models thead th:nth-child(2) button').click()"
    for expected in (["1", "3", "20", "–"], ["20", "3", "1", "–"]):
        browser.run(click)
        assert browser.texts("#table-models tbody td:nth-child(2)") == expected


UNITS = ("fraction", "count", "seconds", "bits", "bytes", "nats")
VALUES = (
    0.0, 1.0, 0.5, 0.12345, 0.99999, 0.00001, 3, 12, 1234, 1234567, 12345.678, 1e-5, 0.00123456, 2.5e9, 61.4, 3725.0,
    0.0999, 59.96, 0.1, 99.999, 1e17, 1.5e-12,
)  # fmt: skip


def test_numbers_are_written_as_in_the_terminal(browser: Browser, tmp_path: Path) -> None:
    metrics = {unit: {"better": "higher", "unit": unit, "about": ""} for unit in UNITS}
    rows = [
        Row("v", f"s{i}", None, "", 0, "x", None, dict.fromkeys(UNITS, value), {}, {})
        for i, value in enumerate(VALUES)
    ]
    browser.open(written(tmp_path, Results("x", None, rows, metrics, {})))
    for column, unit in enumerate(UNITS):
        shown = browser.texts(f"#table-models tbody tr > :nth-child({column + 2})")
        assert shown == [number(value, unit).replace("\u202f", " ") for value in VALUES], unit


def test_hostile_names_stay_text(browser: Browser, tmp_path: Path) -> None:
    known: dict[str, Any] = {"uses": "x", "teacher": None, "dense": "train"}
    metrics = {"test_accuracy": 0.5, "macs": 7.0}
    rows: list[Row] = []
    for name in HOSTILE:
        rows.append(Row(name, "train", None, "", 0, metrics=metrics, notes={}, curves={}, **known))
        half = {**metrics, "macs": 3.0, name: 1.0}
        rows.append(
            Row(name, name, None, name, 0, metrics=half, notes={name: name}, curves={name: [(0, 1)]}, **known)
        )
    facts = {"better": "lower", "unit": "count", "about": HOSTILE[0]}
    declared = {"test_accuracy": {"better": "higher", "unit": "fraction", "about": HOSTILE[1]}, "macs": facts}
    declared |= dict.fromkeys(HOSTILE, facts)
    results = Results(
        HOSTILE[0],
        HOSTILE[1],
        rows,
        declared,
        {"date": HOSTILE[0]},
        failures=HOSTILE,
        missing=HOSTILE,
        description=HOSTILE[1],
    )
    for width in (1280, 390):
        browser.open(written(tmp_path, results), width)
        browser.unfold()
        assert len(browser.texts("#table-models tbody tr")) == len(rows)
        browser.run("document.querySelector('#front-drawing [role=img]').focus()")
        assert browser.run("return window.hacked") is None
        assert browser.run("return document.querySelectorAll('img').length") == 0
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert browser.messages() == []
    assert any(HOSTILE[1] in text for text in browser.texts("#table-models th"))
    assert "\u202e" not in browser.run("return document.documentElement.outerHTML")


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, 390, dark)
    browser.unfold()
    assert browser.run("return document.documentElement.scrollWidth") == 390
    beyond = """return [...document.querySelectorAll('#front-drawing text')].filter(e => {
        const box = e.getBoundingClientRect(); return box.width && (box.left < 0 || box.right > 390); }).length"""
    assert browser.run(beyond) == 0, "the picture fits"


CONTRAST = """
const light = (name) => {
  const probe = document.body.appendChild(document.createElement('i'));
  probe.style.color = `var(${name})`;
  const parts = getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3).map((x) => x / 255)
    .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
  probe.remove();
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
};
const [a, b] = [light(arguments[0]), light(arguments[1])];
return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
"""


@pytest.mark.parametrize("dark", [False, True])
def test_what_is_written_and_drawn_stands_out_as_wcag_asks(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, dark=dark)
    background = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is not dark
    colours = [f"--c{index}" for index in range(10)]
    for front in ("--text", "--quiet", "--link", "--warn", *colours):
        assert browser.run(CONTRAST, front, "--page") >= 4.5, front
    assert browser.run(CONTRAST, "--warn", "--warn-card") >= 4.5


def test_a_screen_reader_finds_headings_captions_and_names(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.unfold()
    levels = browser.run(
        "return [...document.querySelectorAll('h1,h2,h3,h4')].map(e => Number(e.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels
    assert browser.run(
        "return [...document.querySelectorAll('table')].every(t => t.caption && t.caption.textContent)"
    )
    named = """return [...document.querySelectorAll('select,input')].every(e => e.labels.length === 1)
        && [...document.querySelectorAll('svg, [role=region]')]
          .every(e => e.ariaLabel || e.hasAttribute('aria-labelledby') || e.closest('[aria-label]'))"""
    assert browser.run(named)
    assert browser.run("return document.documentElement.lang") == "en"


def test_a_run_without_compression_opens_with_its_numbers_and_curves(
    browser: Browser, tmp_path: Path
) -> None:
    results = lenets(seeds=1)
    rows = [row for row in results.rows if row.stage == "train"][:1]
    browser.open(written(tmp_path, Results("train", None, rows, results.metrics, {})))
    assert browser.texts("#front, #short") == []
    assert "Nothing was compressed" in browser.texts("#verdict")[0]
    assert browser.texts("#table-models tbody th") == ["train"]
    assert browser.run("return document.querySelectorAll('#curves-drawing path').length") > 0
    assert browser.messages() == []


def test_at_most_three_sentences_stand_before_the_picture(browser: Browser, page: Path) -> None:
    browser.open(page)
    words = " ".join(browser.texts("header p"))
    assert len(re.findall(r"\.(?=\s|$)", words)) <= 3, words
