"""The teacher of a stage that is called directly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import PLUGINS, same

import compressit
from compressit import Config, ModelRef
from compressit.errors import CompressitError
from compressit.host.plugins import installed


@pytest.fixture(autouse=True)
def _tiny_is_installed() -> None:
    installed().load_file(PLUGINS)


def _net() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 3))


class Required(Config):
    teacher: ModelRef


class Named(Config):
    teacher: float = 1.0


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Config]], list[Any]]:
    """Gives `tiny.prune` these options; the list holds what it was called with."""

    def registered(options: type[Config]) -> list[Any]:
        calls: list[Any] = []
        plugin: Any = installed().find("tiny.prune").plugin

        def compress(self: Any, model: torch.nn.Module, ctx: Any) -> torch.nn.Module:
            calls.append((self.config.teacher, ctx.model("x") if options is Required else None))
            with torch.no_grad():
                next(model.parameters()).zero_()
            return model

        monkeypatch.setattr(plugin, "Config", options)
        monkeypatch.setattr(plugin, "compress", compress)
        return calls

    return registered


def test_a_required_teacher_is_served_by_the_argument_and_missed_without(
    called: Callable[[type[Config]], list[Any]],
) -> None:
    calls, teacher = called(Required), _net()
    compressit.stage("tiny.prune", teacher=teacher)(_net())
    assert same(calls[0][1].state_dict(), teacher.state_dict())
    with pytest.raises(CompressitError, match="teacher"):
        compressit.stage("tiny.prune")(_net())


def test_only_a_comparison_has_an_original(called: Callable[[type[Config]], list[Any]]) -> None:
    called(Required)
    learning = compressit.stage("tiny.prune", teacher="original")
    with pytest.raises(CompressitError, match="original"):
        learning(_net())


def test_an_option_that_is_only_called_teacher_is_an_option(
    called: Callable[[type[Config]], list[Any]],
) -> None:
    calls = called(Named)
    compressit.stage("tiny.prune", teacher=0.5)(_net())  # type: ignore[arg-type]
    compressit.stage("tiny.prune")(_net())
    assert [teacher for teacher, _ in calls] == [0.5, 1.0]
    with pytest.raises(CompressitError, match="teacher"):
        compressit.stage("tiny.prune", teacher=_net())


def test_a_teacher_that_nothing_asks_for_is_an_error() -> None:
    with pytest.raises(CompressitError, match=r"tiny\.train takes no teacher"):
        compressit.stage("tiny.train", teacher=_net())


def test_a_training_that_diverges_says_so() -> None:
    data = compressit.data(train=(torch.rand(32, 6), torch.arange(32) % 3))
    with pytest.warns(UserWarning, match=r"tiny\.train diverged: the loss became (nan|inf)"):
        compressit.stage("tiny.train", epochs=3, batch_size=8, optimizer={"lr": 1e39})(_net(), data)
