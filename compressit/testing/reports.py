"""Checks of reports."""

from __future__ import annotations

import copy
import html
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compressit.contract.kinds import Table
from compressit.contract.results import Results
from compressit.results.page import render
from compressit.testing import samples
from compressit.testing.check import ConformanceError, check, none_found
from compressit.testing.fingerprint import changed
from compressit.testing.subject import Subject
from compressit.testing.watch import quiet_place


@dataclass(frozen=True)
class _Told:
    """What a report made from some results, and its side effects."""

    figures: Any
    paragraphs: Any
    tables: Any
    changed_results: bool
    settings: Sequence[str]  # matplotlib settings that it left changed
    pyplot: set[int]  # figures that it left open in pyplot


@check("report")
def runs(subject: Subject) -> None:
    """It makes figures, tables and paragraphs from a finished run."""
    told = _told(subject)
    if not isinstance(told.figures, Mapping):
        raise ConformanceError(
            f"`figures` returned a {type(told.figures).__name__}, not a mapping by file name"
        )
    if isinstance(told.paragraphs, str) or not isinstance(told.paragraphs, Sequence):
        raise ConformanceError(
            f"`paragraphs` returned a {type(told.paragraphs).__name__}", "return a list of strings"
        )
    if any(not isinstance(table, Table) for table in told.tables):
        raise ConformanceError(
            "`tables` returned something else than tables", "return a list of compressit.Table"
        )


@check("report", needs=[runs])
def bears_missing_results(subject: Subject) -> None:
    """It handles runs that have just started, were interrupted or failed."""
    for what, results in samples.unfinished().items():
        try:
            _tell(subject, results)
        except Exception as error:
            raise ConformanceError(
                f"for {what} it raises {type(error).__name__}: {error}",
                "reports are also drawn during a run: omit what is missing",
            ) from error


@check("report", needs=[runs])
def plain_text(subject: Subject) -> None:
    """Paragraphs are plain text without markup."""
    for paragraph in _told(subject).paragraphs:
        if not isinstance(paragraph, str) or not paragraph.strip():
            raise ConformanceError(
                f"a paragraph is {paragraph!r}", "return non-empty strings, or an empty list"
            )
        if markup := re.search(r"</?[a-zA-Z][^>]*>|&[a-z]+;", paragraph):
            raise ConformanceError(
                f"a paragraph contains {markup[0]}", "write plain text: the page escapes markup"
            )


@check("report", needs=[runs])
def draws(subject: Subject) -> None:
    """Its figures are matplotlib figures that can be drawn as PNG and SVG."""
    told = re.compile(re.escape(subject.name) + r": ((?:no paragraphs|no figures|figure ')[^<]*)")
    none_found(told.findall(html.unescape(_page(subject, subject.folder / "page"))), "the page says")


@check("report", needs=[draws])
def captions(subject: Subject) -> None:
    """Every figure has a caption."""
    figures = _told(subject).figures.items()
    bare = (name for name, figure in figures if not str(figure.get_label() or "").strip())
    none_found(bare, "figures without a caption", 'call figure.set_label("what it shows")')


@check("report", needs=[draws])
def axes_labelled(subject: Subject) -> None:
    """Every figure with data has axis labels."""
    for name, figure in _told(subject).figures.items():
        shown = [axes for axes in figure.axes if axes.axison and axes.has_data()]
        texts = [text for axes in shown for text in (axes.get_xlabel(), axes.get_ylabel())]
        if shown and not any((*texts, figure.get_supxlabel(), figure.get_supylabel())):
            raise ConformanceError(
                f"the figure '{name}' has no axis labels", 'call axes.set(xlabel="…", ylabel="…")'
            )


@check("report", needs=[draws])
def same_results_same_page(subject: Subject) -> None:
    """Drawing the same results twice gives the same page and figures, byte for byte."""
    one, other = subject.folder / "page", subject.folder / "page again"
    _page(subject, other)
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    none_found(
        (str(name) for name in names if (one / name).read_bytes() != (other / name).read_bytes()),
        "drawing twice gives different files",
        "avoid dates, random numbers and loops over sets",
    )


@check("report", needs=[runs])
def leaves_results(subject: Subject) -> None:
    """It leaves the results unchanged."""
    if _told(subject).changed_results:
        raise ConformanceError(
            "it changed the results in place", "change copies: other reports get the same results"
        )


@check("report", needs=[runs])
def leaves_pyplot(subject: Subject) -> None:
    """It leaves no figures in pyplot and no changed matplotlib settings."""
    told = _told(subject)
    none_found(
        map(str, sorted(told.pyplot)),
        "it left figures open in pyplot",
        "create them with matplotlib.figure.Figure, which pyplot does not keep",
    )
    none_found(
        told.settings,
        "it changed matplotlib settings",
        "use `with matplotlib.rc_context({…}):`, or set properties of the figure",
    )


def _told(subject: Subject) -> _Told:
    return subject.keep("told", lambda: _tell(subject, samples.full()))


def _tell(subject: Subject, results: Results) -> _Told:
    import matplotlib

    report, text, settings = subject.create(), _text(results), copy.deepcopy({**matplotlib.rcParams})
    open_before = _open_figures()
    with quiet_place(subject), matplotlib.rc_context():
        figures, paragraphs = report.figures(results), report.paragraphs(results)
        tables = report.tables(results)
        left = changed(settings, {**matplotlib.rcParams})
    return _Told(figures, paragraphs, tables, _text(results) != text, left, _open_figures() - open_before)


def _open_figures() -> set[int]:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return set(pyplot.get_fignums()) if pyplot is not None else set()


def _page(subject: Subject, folder: Path) -> str:
    with quiet_place(subject):
        render(samples.full(), [(subject.name, subject.create)], folder)
    return (folder / "report.html").read_text(encoding="utf-8")


def _text(results: Results) -> str:
    return json.dumps(asdict(results), sort_keys=True, default=str)
