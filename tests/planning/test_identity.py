"""What a value of the session is: equal for the same content, another for everything that changes what it computes."""

from __future__ import annotations

import functools
import random
import threading
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from compressit.planning.identity import identity


def _digest(value: object) -> str:
    found = identity(value)
    assert found.unknown == ()
    return found.digest


def _net(source: str = "", gain: float = 2.0, seed: int = 0) -> nn.Module:
    """A net whose class is in no file, as in a notebook."""
    text = f"""
class Net(nn.Module):
    def __init__(self, gain):
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.gain = gain
    def forward(self, x):
        return {source or "self.layer(x) * self.gain"}
"""
    module = types.ModuleType("a_notebook")
    vars(module)["nn"] = nn
    code = compile(text, "<cell>", "exec")
    types.FunctionType(code, vars(module))()
    torch.manual_seed(seed)
    return vars(module)["Net"](gain)


def test_the_same_net_of_two_sessions_is_the_same() -> None:
    assert _digest(_net()) == _digest(_net())
    assert _digest(_net()) == _digest(_net().eval())


@pytest.mark.parametrize(
    "other",
    [
        lambda: _net("self.layer(x) + self.gain"),
        lambda: _net(gain=3.0),
        lambda: _net(seed=1),
        lambda: _net().requires_grad_(False),
        lambda: _net().double(),
        lambda: nn.Sequential(_net()),
    ],
    ids=["another forward", "another attribute", "other weights", "frozen", "another type", "wrapped"],
)
def test_a_net_that_computes_something_else_is_another(other: Callable[[], nn.Module]) -> None:
    assert _digest(_net()) != _digest(other())


def _helper(value: int) -> int:
    return value + 1


def _calls_a_helper(value: int) -> int:
    return _helper(value) * FACTOR


FACTOR = 3


def test_what_a_function_uses_belongs_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _digest(_calls_a_helper)
    assert before == _digest(_calls_a_helper)
    monkeypatch.setitem(globals(), "FACTOR", 4)
    with_factor = _digest(_calls_a_helper)
    monkeypatch.setitem(globals(), "_helper", lambda value: value + 2)
    assert len({before, with_factor, _digest(_calls_a_helper)}) == 3


def test_functions_differ_by_defaults_closures_and_arguments() -> None:
    def made(kept: float, default: int = 1) -> Callable[..., Any]:
        return lambda model, data=default: (model, data, kept)

    values = [
        made(0.5),
        made(0.6),
        made(0.5, 2),
        functools.partial(made, 1),
        functools.partial(made, 2),
        made,
    ]
    assert len({_digest(value) for value in values}) == len(values)
    assert _digest(made(0.5)) == _digest(made(0.5))


def test_a_function_that_calls_itself_ends() -> None:
    def again(count: int) -> int:
        return again(count - 1) if count else 0

    assert _digest(again) == _digest(again)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({1, 2}, {2, 3}),
        ([1, [2]], [[1], 2]),
        ("1", 1),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.zeros(2), torch.zeros(2).numpy()),
        (random.Random(1), random.Random(2)),
        ({"a": 1}, {"a": 2}),
        (torch.float32, torch.float64),
    ],
)
def test_other_values_are_others(one: object, other: object) -> None:
    assert _digest(one) == _digest(one)
    assert _digest(one) != _digest(other)


@pytest.mark.parametrize("hidden", [threading.Lock(), (x for x in ()), torch.zeros(1, device="meta")])
def test_what_hides_its_content_is_never_the_same_and_named(hidden: object) -> None:
    def function() -> object:
        return hidden

    first, second = identity(function), identity(function)
    assert first.digest != second.digest
    assert first.why.startswith("'hidden' of function (")
