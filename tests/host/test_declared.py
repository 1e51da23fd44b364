"""What an evaluator may declare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import Field

from compressit.config import Config
from compressit.contract.classification import usual
from compressit.contract.kinds import Evaluator
from compressit.contract.records import Array, Curve, Metric, Picture
from compressit.contract.tasks import Task
from compressit.errors import CompressitError
from compressit.host.declared import declared

GOOD = {
    "number": Metric("higher", "fraction", "…"),
    "curve": Curve("x", "y"),
    "picture": Picture(),
    "array": Array("…", ("row", "column")),
}


class Options(Config):
    count: int = Field(2, description="how many")


class Many(Evaluator[Options]):
    """Declares what its options say."""

    name = "eval.many"

    def declares(self, task: Task[Any]) -> Mapping[str, Any]:
        return {f"loss_{number}": Metric("lower", "nats") for number in range(self.config.count)}


class Given(Evaluator[Options]):
    """Declares what it is given."""

    name = "eval.given"
    given: Any = None

    def declares(self, task: Task[Any]) -> Any:
        return self.given() if callable(self.given) else self.given


def _declared(given: Any) -> Any:
    plugin = Given(Options())
    plugin.given = given
    return declared(plugin, usual())


def test_a_declaration_may_depend_on_the_options() -> None:
    assert list(declared(Many(Options(count=3)), usual())) == ["loss_0", "loss_1", "loss_2"]


def test_every_kind_can_be_declared() -> None:
    assert _declared(GOOD) == GOOD


def test_numbers_only_need_no_method() -> None:
    class Short(Evaluator[Options]):
        name = "eval.short"
        metrics = {"number": GOOD["number"]}  # type: ignore[dict-item] # noqa: RUF012

    assert declared(Short(Options()), usual()) == {"number": GOOD["number"]}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "is a list, not a mapping"),
        ({"a b": Picture()}, "'a b', which cannot be a column name"),
        ({1: Picture()}, "has 1, which cannot"),
        ({"seed": Picture()}, "a column that every run has"),
        ({"a/b": Picture()}, "'a/b', which a Picture cannot be called"),
        ({"loss": Curve("x", "y")}, "'loss', which trainings record"),
        ({"accuracy": Array()}, "'accuracy', which trainings record"),
        ({"a": Curve}, "['a'] is <class"),
        ({"a": "a curve"}, "['a'] is 'a curve'"),
        ({"a": Curve("x", None)}, "['a'] is Curve("),  # type: ignore[arg-type]
        (lambda: {}["gone"], "fails: KeyError: 'gone' (test_declared.py:"),
    ],
)
def test_what_cannot_be_a_result_is_refused(given: Any, words: str) -> None:
    with pytest.raises(CompressitError) as error:
        _declared(given)
    assert "`declares` of eval.given" in error.value.message
    assert words in error.value.message


def test_a_number_may_be_called_what_only_other_kinds_may_not() -> None:
    assert _declared({"accuracy": GOOD["number"], "top-5%": GOOD["number"]})
