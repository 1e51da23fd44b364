"""Pictures on the page."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from compressit.contract.pictures import png_of
from compressit.contract.results import Kept, Results, Row
from compressit.results.gallery import MARKUP, MOST_SHOWN, galleries_of
from compressit.results.page import render

ABOUT = "<script>alert(1)</script> & weights"


def _png(shade: int) -> bytes:
    return png_of("x", np.full((4, 6), shade % 256, np.uint8))


def _results(folder: Path, count: int, stage: str = "train") -> Results:
    rows: list[Row] = []
    for number in range(count):
        file = f"pictures/v/seed0/{number}/map.png"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        png = _png(number)
        (folder / file).write_bytes(png)
        kept = Kept(file, hashlib.sha256(png).hexdigest(), "map")
        rows.append(Row("v", stage, number, "", 0, "x.y", None, {}, {}, {}, pictures={"map": kept}))
    records = {"map": {"kind": "picture", "about": ABOUT}}
    return Results("x", None, rows, {}, {}, records=records, folder=folder)


def test_the_page_shows_every_picture_with_its_model(tmp_path: Path) -> None:
    assert render(_results(tmp_path, 3), [], tmp_path) == []
    page = (tmp_path / "report.html").read_text()
    shown = [base64.b64decode(code) for code in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert shown == [_png(0), _png(1), _png(2)]
    assert re.findall(r"<figcaption>(v/.*?)</figcaption>", page) == [f"v/seed0/train-0{n}" for n in range(3)]
    assert "<script>alert" not in page
    assert ABOUT in unescape(page)


def test_a_page_that_is_full_links_to_the_rest(tmp_path: Path) -> None:
    results = _results(tmp_path, 4)
    sizes = [len("data:image/png;base64,") + len(base64.b64encode(_png(number))) for number in range(2)]
    room = sum(sizes) + MARKUP
    (gallery,), problems = galleries_of(results, room)
    assert not problems
    assert [picture.source is not None for picture in gallery.pictures] == [True, True, False, False]
    assert gallery.pictures[3].file == "pictures/v/seed0/3/map.png"


def test_of_very_many_an_even_choice_is_shown(tmp_path: Path) -> None:
    (gallery,), _ = galleries_of(_results(tmp_path, MOST_SHOWN * 2 + 1), 10**9)
    assert (gallery.count, len(gallery.pictures)) == (2 * MOST_SHOWN + 1, MOST_SHOWN)
    assert gallery.pictures[0].caption == "v/seed0/train-00"
    assert gallery.pictures[-1].caption == f"v/seed0/train-{2 * MOST_SHOWN}"


@pytest.mark.parametrize(
    ("fault", "words"), [("changed", "was changed"), ("gone", "is missing"), ("text", "not a PNG")]
)
def test_a_picture_that_cannot_be_shown_is_named_and_the_rest_is_there(
    tmp_path: Path, fault: str, words: str
) -> None:
    results = _results(tmp_path, 1, "first")
    kept = Kept("pictures/other.png", hashlib.sha256(b"<svg/>").hexdigest(), "map")
    other = replace(results.rows[0], stage="last", pictures={"map": kept})
    if fault != "gone":
        (tmp_path / kept.file).write_bytes(b"<svg/>" if fault == "text" else _png(1))
    (failed,) = render(replace(results, rows=[*results.rows, other]), [], tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "picture 'map' of v/seed0/last-00" in failed
    assert words in failed
    assert words in unescape(page)
    assert page.count("data:image/png;base64,") == 1
