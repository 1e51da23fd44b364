"""Checks of evaluators."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from compressit.errors import CompressitError
from compressit.running.apply import check_only_metrics
from compressit.testing.check import ConformanceError, NotApplicable, check
from compressit.testing.sizes import wrong_sizes
from compressit.testing.stand import Called, stand
from compressit.testing.stand import measure as call
from compressit.testing.subject import Subject
from compressit.testing.watch import changed, check_environment, check_settings

UNITS = "a unit: fraction, bits, nats, bytes, seconds, count …"


@check()
def metrics_described(subject: Subject) -> None:
    """Every metric has a unit, says what is better and what it means."""
    metrics = subject.plugin.metrics  # type: ignore[attr-defined]
    if not metrics:
        raise ConformanceError(
            "it declares no metric", 'metrics = {"mine": Metric("higher", "fraction", "…")}'
        )
    for name, metric in metrics.items():
        if not re.fullmatch(r"\w+", name):
            raise ConformanceError(f"the metric '{name}' cannot be a column", "use letters, digits and '_'")
        if metric.better not in ("higher", "lower", "neither"):
            raise ConformanceError(f"{name}: better is '{metric.better}'", "higher, lower or neither")
        for what, text in (("unit", metric.unit), ("about", metric.about)):
            if not text.strip():
                raise ConformanceError(
                    f"{name} has no {what}", UNITS if what == "unit" else "say what it means"
                )


@check()
def runs(subject: Subject) -> None:
    """It measures a tiny net, and gives back numbers by name."""
    values = _called(subject).result
    if not isinstance(values, Mapping):
        raise ConformanceError(
            f"it returned {type(values).__name__}, not a mapping of metrics",
            "return {} where nothing is defined",
        )
    for name, value in values.items():
        try:
            float(value)
        except (TypeError, ValueError) as error:
            raise ConformanceError(f"{name} is {value!r}, not a number", "a metric is one number") from error


@check(runs)
def only_declared(subject: Subject) -> None:
    """It returns no metric that it does not declare."""
    unknown = sorted(set(_values(subject)) - set(subject.plugin.metrics))  # type: ignore[attr-defined]
    if unknown:
        raise ConformanceError(f"it returned {', '.join(unknown)}", "declare them in its `metrics`")


@check(runs)
def only_metrics(subject: Subject) -> None:
    """It gives ctx.log, ctx.note and ctx.save nothing: only metrics are kept of an evaluator."""
    try:
        check_only_metrics(subject.name, _called(subject).given.ctx)
    except CompressitError as error:
        raise ConformanceError(error.message, error.hint) from error


@check(runs)
def finite(subject: Subject) -> None:
    """A number that is not defined is left out."""
    wrong = {name: value for name, value in _values(subject).items() if not math.isfinite(value)}
    if wrong:
        told = ", ".join(f"{name} is {value}" for name, value in wrong.items())
        raise ConformanceError(told, "leave a metric out where it is not defined: an empty cell says so")


@check(finite)
def same_seed_same_numbers(subject: Subject) -> None:
    """Called again, it gives the same numbers, unless it declares `per_host`."""
    if subject.per_host:
        raise NotApplicable("it measures this machine (`per_host`)")
    again = {name: float(value) for name, value in _again(subject).result.items()}
    other = changed(_values(subject), again)
    if other:
        raise ConformanceError(
            f"called twice, it gives two values of {', '.join(other)}",
            "draw from ctx.streams.generator(purpose); times and the like need `per_host = True`",
        )


@check(runs)
def leaves_models(subject: Subject) -> None:
    """The model it measures, and those it asks for, are left as they were."""
    called = _called(subject)
    called.given.watched.check_content("the model it measured")
    for other in called.given.others:
        other.check_content("a model it asked for")


@check(runs)
def leaves_data(subject: Subject) -> None:
    """The data are left as they were: others are given the same tensors."""
    _called(subject).given.data.check()


@check(runs)
def restores_modes(subject: Subject) -> None:
    """Eval mode, `requires_grad` and settings of the process are as before."""
    called = _called(subject)
    check_settings(*called.settings)
    check_environment(*_again(subject).environment)  # what an import sets, the second call does not
    called.given.watched.check_modes("the model it measured")
    for other in called.given.others:
        other.check_modes("a model it asked for")


@check(runs)
def honest_sizes(subject: Subject) -> None:
    """Parameters, non-zeros, bytes and MACs are what `compressit.contract.measure` counts."""
    wrong = wrong_sizes(_values(subject), _called(subject).given.model, stand(subject).data.contract.shape)
    if wrong:
        raise ConformanceError(
            f"it measured {wrong}",
            "these columns have one meaning in every report: choose another name for another number",
        )


CHECKS = (
    metrics_described, runs, only_declared, only_metrics, finite, same_seed_same_numbers, leaves_models, leaves_data,
    restores_modes, honest_sizes,
)  # fmt: skip


def _called(subject: Subject) -> Called:
    return subject.keep("called", lambda: call(subject))


def _again(subject: Subject) -> Called:
    return subject.keep("called again", lambda: call(subject))


def _values(subject: Subject) -> dict[str, float]:
    return {name: float(value) for name, value in _called(subject).result.items()}
