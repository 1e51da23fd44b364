"""Options of `prune.magnitude` that cannot work together are mistakes of the recipe."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from compressit.config import dump, model_refs, parse
from compressit_plugins.prune.magnitude import Magnitude, MagnitudeConfig
from compressit_plugins.tasks.regression import Regression, RegressionConfig

FIT: dict[str, Any] = {"finetune": {}}


@pytest.mark.parametrize(
    ("options", "place", "words"),
    [
        ({"gradual": {}}, ("gradual",), "`finetune`"),
        ({"distill": {"teacher": "train"}}, ("distill",), "`finetune`"),
        ({"score": "movement", **FIT}, ("gradual",), "`score: movement`"),
        ({"score": "lamp", "scope": "layer"}, ("scope",), "as magnitude does"),
        ({"score": "lamp", "scope": "row"}, ("scope",), "as magnitude does"),
        ({"calibration": 64}, ("calibration",), "no examples"),
        ({"score": "synflow", "calibration": 64}, ("calibration",), "no examples"),
        ({"rewind": "init", "gradual": {}, **FIT}, ("gradual",), "`rewind`"),
        ({"gradual": {"start": 0.5, "end": 0.5}, **FIT}, ("gradual", "end"), "after `start`, which is 0.5"),
        ({"gradual": {"curve": "cosine"}, **FIT}, ("gradual", "curve"), "cubic"),
        ({"sparsity": 1.0}, ("sparsity",), "less than 1"),
    ],
)
def test_what_cannot_work_is_said_where_it_stands(
    options: dict[str, Any], place: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        parse(MagnitudeConfig, options)
    (error,) = caught.value.errors()
    assert error["loc"] == place
    assert words in error["msg"]


@pytest.mark.parametrize(
    "options",
    [
        {"score": "wanda", "calibration": 64},
        {"score": "lamp", "gradual": {"curve": "linear"}, "distill": {"teacher": "train"}, **FIT},
        {"score": "movement", "gradual": {}, "scope": "layer", **FIT},
        {"score": "snip", "calibration": 64, "sparsities": {"fc1": 0.9}, "rewind": "init"},
    ],
)
def test_alternatives_differ_in_the_choice_alone_and_are_valid(options: dict[str, Any]) -> None:
    config = parse(MagnitudeConfig, options)
    assert parse(MagnitudeConfig, dump(config)) == config
    for score, other in Magnitude(config).alternatives().items():
        assert parse(MagnitudeConfig, dump(other)) == other
        assert other.score == score
        assert other.compared == config.compared
        choice = {"score", "scope", "calibration"}
        assert other.model_dump(exclude=choice) == config.model_dump(exclude=choice)


def test_the_models_that_it_names_are_edges_of_the_plan() -> None:
    config = parse(MagnitudeConfig, {"gradual": {}, "distill": {"teacher": "train"}, **FIT})
    assert list(model_refs(config)) == [(("distill", "teacher"), "train")]
    assert list(model_refs(parse(MagnitudeConfig, {"rewind": "init"}))) == [(("rewind",), "init")]


def test_what_a_teacher_cannot_do_for_a_task_is_told_with_its_place() -> None:
    config = parse(MagnitudeConfig, {"distill": {"teacher": "train", "loss": "logits"}, **FIT})
    assert list(Magnitude(config).misfits(Regression(RegressionConfig()))) == ["distill.loss"]


@pytest.mark.parametrize(("times", "share"), [(1, 0.2), (2, 0.36), (3, 0.488)])
def test_a_round_takes_its_fraction_of_what_is_left(times: int, share: float) -> None:
    config = MagnitudeConfig(sparsity=0.2, sparsities={"fc": 0.5, "head": 0})
    found, single = config.shares(times)
    assert found == pytest.approx(share)
    assert single == {"fc": pytest.approx(1 - 0.5**times), "head": 0}
