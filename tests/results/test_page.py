"""The page and the files beside it, from synthetic results and with reports that misbehave."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from compressit.config import NoOptions
from compressit.contract.kinds import Report, Table
from compressit.contract.results import Results, Row
from compressit.results.page import document, render

METRICS = {
    "test_accuracy": {"better": "higher", "unit": "fraction", "about": "on the test set"},
    "parameters": {"better": "lower", "unit": "count", "about": ""},
}


def make_row(stage: str = "train", seed: int = 0, **fields: Any) -> Row:
    values: dict[str, Any] = {
        "variant": "real", "round": None, "member": "", "uses": "train.supervised", "teacher": None,
        "metrics": {"test_accuracy": 0.9543, "parameters": 669706}, "notes": {"width": 512}, "curves": {},
    }  # fmt: skip
    return Row(stage=stage, seed=seed, **(values | fields))


def make_results(rows: Sequence[Row] | None = None, **fields: Any) -> Results:
    stage = [
        make_row("blog", round=i, uses="shrink.noise", notes={"width": 2**i, "images_seen": 60000})
        for i in (1, 2)
    ]
    values: dict[str, Any] = {"recipe": "mnist_twins", "profile": "quick", "metrics": METRICS}
    values |= {"about": {"date": "2030-01-02", "versions": {"torch": "2.9"}, "threads": 2, "seconds": 3725.0}}
    return Results(rows=rows if rows is not None else [make_row(), *stage], **(values | fields))


class Plain(Report[NoOptions]):
    """Two paragraphs and a figure."""

    name = "report.plain"

    def figures(self, results: Results) -> Mapping[str, Figure]:
        figure = Figure(figsize=(4, 3))
        figure.subplots().plot([row.metrics.get("test_accuracy", 0) for row in results.rows])
        figure.set_label("Accuracy & <size>")
        return {"accuracy": figure}

    def paragraphs(self, results: Results) -> Sequence[str]:
        return [f"There are {len(results.rows)} models.", "a < b"]


class Bad(Report[NoOptions]):
    """Misbehaves in one way or another."""

    def __init__(
        self, name: str, figures: Callable[[], Any], paragraphs: Callable[[Any], Any] = lambda rows: ()
    ) -> None:
        self.name, self._figures, self._paragraphs = f"report.{name}", figures, paragraphs  # type: ignore[misc]

    def figures(self, results: Results) -> Mapping[str, Figure]:
        return self._figures()

    def paragraphs(self, results: Results) -> Sequence[str]:
        return self._paragraphs(results.rows)


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*arguments: object) -> Any:
        raise error

    return fail


def undrawable() -> Mapping[str, Figure]:
    """They fail only when they are drawn, or have names that are no file names."""
    broken = Figure()
    broken.text(0.5, 0.5, r"$\frac{1$")
    long = "\u635f\u5931" * 45  # 90 letters, 270 bytes: no file system takes them
    return {"broken": broken, **{name: Figure(figsize=(1, 1)) for name in ("../outside", long, "fine")}}


def ending(rows: Any) -> Any:
    """Ends its process, as a crash does, after it has emptied what it was lent."""
    rows.clear()
    os._exit(0)


class Saying(Report[NoOptions]):
    """Says what it is told to."""

    name = "report.saying"

    def __init__(self, words: str) -> None:
        self.words = words

    def paragraphs(self, results: Results) -> Sequence[str]:
        return [self.words]

    def figures(self, results: Results) -> Mapping[str, Figure]:
        figure = Figure(figsize=(1, 1))
        figure.set_label(self.words)
        return {"said": figure}


class Page(HTMLParser):
    """Every tag with its attributes, and the text of every table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.blocks: dict[str, str] = {}  # <pre> and <script> by id
        self._cell = False
        self._block = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self._cell = True
            self.cells.append("")
        elif tag in ("pre", "script"):
            self._block = dict(attrs).get("id") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag in ("pre", "script"):
            self._block = ""
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.cells[-1] += data.replace("\u202f", " ")
        elif self._block:
            self.blocks[self._block] = self.blocks.get(self._block, "") + data

    @property
    def data(self) -> dict[str, Any]:
        """What the page's scripts draw."""
        return json.loads(self.blocks["data"])

    def values(self, attribute: str) -> list[str]:
        return [attrs[attribute] or "" for _, attrs in self.tags if attribute in attrs]


def write(tmp_path: Path, results: Results, *reports: Report[Any]) -> str:
    render(results, [(report.name, lambda report=report: report) for report in reports], tmp_path)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_folder_has_every_file_and_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    results = make_results(missing=["real/seed0/blog-03"], config={"variants": {"real": {"name": "real"}}})
    found = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        write(folder, results, Plain(NoOptions()))
        files = [path for path in folder.rglob("*") if path.is_file()]
        found.append({str(path.relative_to(folder)): path.read_bytes() for path in files})
    assert found[0] == found[1]
    drawn = {"figures/accuracy.png", "figures/accuracy.svg"}
    assert found[0].keys() == {"results.json", "results.csv", "report.html", *drawn}
    assert Results.read_json(tmp_path / "one/results.json").table() == results.table()


def test_page_shows_words_numbers_figures_facts_and_recipe(tmp_path: Path) -> None:
    written = {
        "file": "twins.yaml",
        "text": "data: {uses: data.mnist}  # a < b\n",
        "settings": ["seeds=[1, 2]"],
    }
    results = make_results(config={"recipe": written, "plugins": [{"path": "/home/me/x.py"}]})
    text = write(tmp_path, results, Plain(NoOptions()))
    page = Page(text)
    assert "There are 3 models." in text
    table = page.data["tables"]["models"]
    assert {0.9543, 669706, 60000, None} <= {cell for row in table["rows"] for cell in row}
    assert "validation accuracy" not in [column["label"] for column in table["columns"]]  # empty everywhere
    assert "1 h 02 min" in text
    assert "versions torch" in text
    assert page.blocks["recipe"] == written["text"]
    assert page.blocks["command"] == "compressit run twins.yaml --profile quick --set 'seeds=[1, 2]' --trust"
    assert "/home/me" not in text, "a path of this machine"
    assert "Accuracy &amp; &lt;size&gt;" in text


def test_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    text = write(
        tmp_path, make_results([make_row(checkpoint="checkpoints/real/a.safetensors")]), Plain(NoOptions())
    )
    page = Page(text)
    assert [source.split(",")[0] for source in page.values("src")] == ["data:image/png;base64"]
    assert page.data["tables"]["models"]["rows"][0][-1] == "./checkpoints/real/a.safetensors"
    named = set(re.findall(r"https?://[^\"'\s]*", text))
    assert named == {"https://d3js.org", *(f"http://www.w3.org/{name}" for name in NAMESPACES)}, (
        "names, no places"
    )
    assert not re.search(r"@import|url\(", text.split("<script")[0])
    assert not {"link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    (policy,) = [attrs["content"] or "" for _, attrs in page.tags if "http-equiv" in attrs]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]
    assert all("Permission to use, copy, modify" in script for script in scripts[:2]), "with their licences"


NAMESPACES = ("1999/xhtml", "1999/xlink", "2000/svg", "2000/xmlns/", "XML/1998/namespace")
HOSTILE = "</script><script>alert('x')</script><!--\"&"


def test_everything_is_escaped(tmp_path: Path) -> None:
    row = make_row(
        HOSTILE, variant=HOSTILE, member=HOSTILE, metrics={HOSTILE: 1.0}, notes={"width": HOSTILE, HOSTILE: HOSTILE},
        checkpoint=f"a/{HOSTILE}",
    )  # fmt: skip
    fields: dict[str, Any] = {
        "recipe": HOSTILE, "profile": HOSTILE, "description": HOSTILE,
        "missing": [HOSTILE], "failures": [HOSTILE], "config": {"recipe": {"file": HOSTILE, "text": HOSTILE}},
        "about": {HOSTILE: HOSTILE, "versions": {HOSTILE: [HOSTILE]}},
        "metrics": {HOSTILE: {"unit": HOSTILE, "better": HOSTILE, "about": HOSTILE}},
    }  # fmt: skip
    text = write(tmp_path, make_results([row], **fields))
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == len(re.findall("<script", text)) == 4, (
        "only its own"
    )
    assert "<!--" not in text
    table = page.data["tables"]["models"]
    assert HOSTILE in [column["label"] for column in table["columns"]]
    link = table["rows"][0][-1]
    assert link.startswith("./a/")
    assert not set("<>\"'") & set(link)


@pytest.mark.parametrize("path", ["/etc/passwd", "//host/x", "../x", "checkpoints/../../x"])
def test_no_link_leaves_the_folder(tmp_path: Path, path: str) -> None:
    page = Page(write(tmp_path, make_results([make_row(checkpoint=path)])))
    assert page.values("href") == []
    assert page.data["tables"]["models"]["rows"][0][-1] is None


def test_models_to_distrust_are_named(tmp_path: Path) -> None:
    assert "Models with warnings" not in write(tmp_path, make_results())
    row = make_row(notes={"diverged": "the loss became nan in epoch 3"})
    text = write(tmp_path, make_results([row, make_row("blog", notes={"not_finite": ["ratio"]})]))
    assert "real/seed0/train: the training diverged: the loss became nan in epoch 3" in text
    assert "real/seed0/blog: not finite: ratio" in text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "Finished: all 3 models."),
        ({"missing": ["a", "b"]}, "Interrupted or still running: 3 of 5 models are done."),
        ({"missing": ["a"], "failures": ["a: NoEffectError"]}, "1 failed: 3 of 4 models are done."),
    ],
)
def test_status_line(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    text = write(tmp_path, make_results(**fields))
    assert words in text
    assert all(failure in text for failure in fields.get("failures", ()))


def test_a_run_without_a_model_has_a_page(tmp_path: Path) -> None:
    assert "No models yet." in write(tmp_path, make_results([], missing=["train"]), Plain(NoOptions()))


class Tabled(Report[NoOptions]):
    """Gives tables, or what it is made with."""

    name = "report.tabled"

    def __init__(self, tables: Any) -> None:
        super().__init__(NoOptions())
        self.given = tables

    def tables(self, results: Results) -> Any:
        return self.given


def test_tables_of_a_report_are_text_in_the_open_page(tmp_path: Path) -> None:
    table = Table("Found <here>", ["", "verdict"], [["accuracy", "<b>within</b>"], ["loss", "misses"]])
    assert render(make_results(), [("report.tabled", lambda: Tabled([table]))], tmp_path) == []
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;within&lt;/b&gt;" in page
    assert "<b>within</b>" not in page
    assert "Found &lt;here&gt;" in page
    assert '<details class="report" open>' in page


@pytest.mark.parametrize(
    "given", [["no table"], [Table("ragged", ["one", "two"], [["one"]])], 5, [Table("t", ["a"], [[]])]]
)
def test_a_report_whose_tables_are_none_is_named(tmp_path: Path, given: Any) -> None:
    (problem,) = render(make_results(), [("report.tabled", lambda: Tabled(given))], tmp_path)
    assert "no tables" in problem


def test_a_broken_report_is_named_and_loses_nothing_else(tmp_path: Path) -> None:
    half = GeneratorExit("half \ud800 a letter")  # it speaks no Unicode
    reports = [
        Bad("raising", raising(RuntimeError("no <figure> today")), raising(KeyError("words"))),
        Bad("undrawable", undrawable),
        Bad("leaving", raising(SystemExit(0)), raising(half)),
        Plain(NoOptions()),
        Plain(NoOptions()),
    ]
    failed = render(make_results(), [(r.name, lambda r=r: r) for r in reports], tmp_path)
    page = tmp_path / "report.html"
    text = page.read_text(encoding="utf-8")
    for words in (
        "report.raising: no figures: RuntimeError: no &lt;figure&gt; today",
        "report.leaving: no figures: SystemExit: 0",
        "report.undrawable: figure &#39;broken&#39; cannot be drawn",
        "figure &#39;../outside&#39; cannot be drawn",
    ):
        assert words in text
    assert len(Page(text).values("src")) == 3
    where = r" \(test_page\.py:\d+\)"
    told = [
        rf"report\.raising: no paragraphs: KeyError: 'words'{where}, and 1 more; see {page}",
        rf"report\.undrawable: figure 'broken' cannot be drawn: .*, and 2 more; see {page}",
        rf"report\.leaving: no paragraphs: GeneratorExit: half \\ud800 a letter{where}, and 1 more; see {page}",
    ]
    assert all(re.fullmatch(*pair) for pair in zip(told, failed, strict=True)), failed
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "accuracy-2.png", "accuracy-2.svg", "accuracy.png", "accuracy.svg", "fine.png", "fine.svg",
    ]  # fmt: skip
    assert not list(tmp_path.parent.glob("outside*"))


def test_whatever_a_report_does_the_others_are_written(tmp_path: Path) -> None:
    made = [Bad("ending", dict, ending), Bad("hanging", lambda: time.sleep(10_000)), Plain(NoOptions())]
    asked: list[Any] = [(report.name, lambda report=report: report) for report in made]
    asked.insert(2, ("report.unmade", raising(RuntimeError("no pencil"))))
    failed = render(make_results(), asked, tmp_path, limit=15.0)
    text = (tmp_path / "report.html").read_text()
    for line, words in zip(
        failed, ("ending: .*exit code 0", "hanging: .*stopped after 15 s", "unmade: .*no pencil"), strict=True
    ):
        assert re.match(rf"report\.{words}", line)
        assert line.split(":")[0] in text
    assert "There are 3 models." in text


STEERING = "\x00\x1b\x85\u061c\u2028\u202e\u2066\ufeff\ud800\udcff"


def test_characters_that_steer_a_page_are_shown_everywhere(tmp_path: Path) -> None:
    words = f"a{STEERING}b"
    row = make_row(variant=words, metrics={words: 1.0}, notes={words: words, "diverged": words})
    fields: dict[str, Any] = {"recipe": words, "description": words, "failures": [words], "missing": [words]}
    fields |= {"metrics": {words: {"unit": words, "better": "", "about": words}}, "about": {words: words}}
    text = write(tmp_path, make_results([row], **fields), Saying(words))  # type: ignore[arg-type]
    assert not set(STEERING) & set(text)
    assert text.count("a\\x00\\x1b") > 10
    about = {"seen": 12345}
    assert "12\u202f345" in write(tmp_path, make_results(about=about)), (
        "the space in numbers is no such character"
    )


def test_a_page_of_very_many_numbers_and_words_stays_readable(tmp_path: Path) -> None:
    names = [f"metric{i}" for i in range(10_000)]
    about = {name: {"better": "higher", "unit": "u" * 999, "about": "x" * 10_000} for name in names}
    rows = [
        make_row(seed=seed, metrics={name: float(seed) for name in names}, notes=dict.fromkeys(names, "n"))
        for seed in range(3)
    ]
    failures = ["f" * 2000] * 5000
    text = write(tmp_path, make_results(rows, metrics=about, failures=failures), Saying("w" * 10_000_000))  # type: ignore[arg-type]
    assert len(text.encode()) <= 5_000_000
    tables = Page(text).data["tables"].values()
    assert all(table["columns_left_out"] > 9000 for table in tables)
    assert max(map(len, Page(text).cells)) < 500
    assert "And 4800 more" in text
    assert len((tmp_path / "results.csv").read_text().splitlines()[0].split(",")) > 10_000


def test_no_cell_of_the_csv_is_a_formula(tmp_path: Path) -> None:
    rows = [make_row(f"{begin}1|x", metrics={f"{begin}2|y": -1.0}) for begin in "=+-@\t\r"]
    make_results(rows).write_csv(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r")) and cell != "-1.0"]
    assert {"'=1|x", "'@2|y"} <= set(cells)


def test_what_a_stage_noted_is_under_the_table(tmp_path: Path) -> None:
    notes = {
        "width": 12, "images_seen": 50, "ranks": {"fc": 3, "head": [1, 2]}, "remark": "<b>hello</b>",
        "long": list(range(100)), "text": "x" * 999, "share": 0.3, "done": True, "requested": [0.5],
    }  # fmt: skip
    rows = [
        make_row(),
        make_row("svd", round=1, uses="shrink.svd", notes=notes),
        make_row("svd", round=2, notes=notes),
    ]
    text = write(tmp_path, make_results([replace(row, uses="shrink.svd") for row in rows]))
    assert text.count('<details class="notes">') == 1, "train noted a number only"
    assert "<summary>svd (shrink.svd), 2 models</summary>" in text
    cells = Page(text).cells
    head = cells.index("ranks")
    assert cells[head - 1 : head + 13] == [
        "model", "ranks", "remark", "long", "text", "done", "requested", "svd-01",
        "fc: 3, head: [1, 2]", "<b>hello</b>", "[0, 1, 2, 3, 4, 5, 6, 7, … (100 in all)]", "x" * 159 + "…",
        "true", "[0.5]",
    ]  # fmt: skip
    labels = [column["label"] for column in Page(text).data["tables"]["models"]["columns"]]
    assert {"images seen", "share"} <= set(labels), "numbers are columns of the table above"


def test_a_comparison_alone_is_the_same_page_without_what_reports_add(tmp_path: Path) -> None:
    results = make_results()
    assert document(results) == write(tmp_path, results)
    assert "There are 3 models." not in document(results)


def test_facts_are_words(tmp_path: Path) -> None:
    hosts = [{"host": "lab", "cores": 2, "gpu": ""}, {"host": "den", "cores": 8, "gpu": "H100"}]
    text = write(tmp_path, make_results(about={"hosts": hosts, "job_seconds": 90.0, "sizes": [1, 2]}))
    assert "<dd>host lab, cores 2, gpu none; host den, cores 8, gpu H100</dd>" in text
    assert "<dt>job seconds</dt><dd>1 min 30 s</dd>" in text
    assert "<dd>1, 2</dd>" in text


def test_a_recipe_made_in_python_is_said_to_be(tmp_path: Path) -> None:
    text = write(tmp_path, make_results(config={"variants": {}}))
    assert "created in Python" in text
    assert Page(text).blocks.keys() == {"data"}


def heavy() -> Mapping[str, Figure]:
    """Noise does not compress: each figure is about 2 MB."""
    drawn = {name: Figure(figsize=(7, 7)) for name in "ab"}
    for figure in drawn.values():
        figure.figimage(np.random.default_rng(0).random((840, 840, 3)))
    return drawn


def test_page_stays_below_five_megabytes(tmp_path: Path) -> None:
    rows = [
        make_row(
            "blog",
            round=i,
            seed=i % 3,
            checkpoint=f"checkpoints/{i}.safetensors",
            notes={"width": 2, "ranks": ["<" * 99] * 9, "words": "<" * 999},
        )
        for i in range(3000)
    ]
    text = write(
        tmp_path, make_results(rows, config={"recipe": {"text": "# y\n" * 250_000}}), Bad("heavy", heavy)
    )
    assert len(text.encode()) <= 5_000_000
    page = Page(text)
    assert len(page.values("src")) == 1
    assert "./figures/b.png" in page.values("href")
    assert "rows are omitted" in text, "of the notes"
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 3001
    assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == 3000
