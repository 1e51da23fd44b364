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

from compressit.contract.results import Results
from compressit.results.page import render
from compressit.testing import samples
from compressit.testing.check import ConformanceError, check, none_found
from compressit.testing.fingerprint import changed
from compressit.testing.subject import Subject
from compressit.testing.watch import quiet_place


@dataclass(frozen=True)
class _Told:
    """What a report made of some results, and what else it did."""

    figures: Any
    paragraphs: Any
    changed_results: bool
    settings: Sequence[str]  # of matplotlib, that it left changed
    pyplot: set[int]  # figures it left open there


@check("report")
def runs(subject: Subject) -> None:
    """It makes figures and paragraphs of a finished run."""
    told = _told(subject)
    if not isinstance(told.figures, Mapping):
        raise ConformanceError(f"figures are a {type(told.figures).__name__}, not a mapping by file name")
    if isinstance(told.paragraphs, str) or not isinstance(told.paragraphs, Sequence):
        raise ConformanceError(f"paragraphs are a {type(told.paragraphs).__name__}", "return a list of texts")


@check("report", needs=[runs])
def bears_missing_results(subject: Subject) -> None:
    """It copes with a run that has just begun, was interrupted or went wrong."""
    for what, results in samples.unfinished().items():
        try:
            _tell(subject, results)
        except Exception as error:
            raise ConformanceError(
                f"with {what} it raises {type(error).__name__}: {error}",
                "reports are drawn while a run goes on: leave out what is not there",
            ) from error


@check("report", needs=[runs])
def plain_text(subject: Subject) -> None:
    """Paragraphs are texts, not markup."""
    for paragraph in _told(subject).paragraphs:
        if not isinstance(paragraph, str) or not paragraph.strip():
            raise ConformanceError(
                f"a paragraph is {paragraph!r}", "give texts, or none where nothing is to say"
            )
        if markup := re.search(r"</?[a-zA-Z][^>]*>|&[a-z]+;", paragraph):
            raise ConformanceError(
                f"a paragraph has {markup[0]} in it", "write plain text: the page escapes it"
            )


@check("report", needs=[runs])
def draws(subject: Subject) -> None:
    """Its figures are matplotlib's and can be drawn as PNG and SVG."""
    told = re.compile(re.escape(subject.name) + r": ((?:no paragraphs|no figures|figure ')[^<]*)")
    none_found(told.findall(html.unescape(_page(subject, subject.folder / "page"))), "the page says")


@check("report", needs=[draws])
def captions(subject: Subject) -> None:
    """Every figure has a caption."""
    figures = _told(subject).figures.items()
    bare = (name for name, figure in figures if not str(figure.get_label() or "").strip())
    none_found(bare, "without a caption", 'figure.set_label("what it shows")')


@check("report", needs=[draws])
def axes_labelled(subject: Subject) -> None:
    """Every figure with data says what its axes are."""
    for name, figure in _told(subject).figures.items():
        shown = [axes for axes in figure.axes if axes.axison and axes.has_data()]
        texts = [text for axes in shown for text in (axes.get_xlabel(), axes.get_ylabel())]
        if shown and not any((*texts, figure.get_supxlabel(), figure.get_supylabel())):
            raise ConformanceError(
                f"the figure '{name}' does not say what its axes are", 'axes.set(xlabel="…", ylabel="…")'
            )


@check("report", needs=[draws])
def same_results_same_page(subject: Subject) -> None:
    """Drawn again from the same results, page and figures are the same to the last byte."""
    one, other = subject.folder / "page", subject.folder / "page again"
    _page(subject, other)
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    none_found(
        (str(name) for name in names if (one / name).read_bytes() != (other / name).read_bytes()),
        "drawn twice, these differ",
        "no dates, no random numbers, no sets in loops",
    )


@check("report", needs=[runs])
def leaves_results(subject: Subject) -> None:
    """The results are left as they were."""
    if _told(subject).changed_results:
        raise ConformanceError(
            "it changed the results in place", "work on copies: other reports get the same ones"
        )


@check("report", needs=[runs])
def leaves_pyplot(subject: Subject) -> None:
    """Neither pyplot nor matplotlib's settings know of it afterwards."""
    told = _told(subject)
    none_found(
        map(str, sorted(told.pyplot)),
        "it left figures open in pyplot",
        "make them with matplotlib.figure.Figure, which nothing keeps",
    )
    none_found(
        told.settings,
        "it left matplotlib's settings changed",
        "use `with matplotlib.rc_context({…}):`, or set the figure's own properties",
    )


def _told(subject: Subject) -> _Told:
    return subject.keep("told", lambda: _tell(subject, samples.full()))


def _tell(subject: Subject, results: Results) -> _Told:
    import matplotlib

    report, text, settings = subject.create(), _text(results), copy.deepcopy({**matplotlib.rcParams})
    open_before = _open_figures()
    with quiet_place(subject), matplotlib.rc_context():
        figures, paragraphs = report.figures(results), report.paragraphs(results)
        left = changed(settings, {**matplotlib.rcParams})
    return _Told(figures, paragraphs, _text(results) != text, left, _open_figures() - open_before)


def _open_figures() -> set[int]:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return set(pyplot.get_fignums()) if pyplot is not None else set()


def _page(subject: Subject, folder: Path) -> str:
    with quiet_place(subject):
        render(samples.full(), [(subject.name, subject.create)], folder)
    return (folder / "report.html").read_text(encoding="utf-8")


def _text(results: Results) -> str:
    return json.dumps(asdict(results), sort_keys=True, default=str)
