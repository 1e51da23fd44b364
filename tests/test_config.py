from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from compressit.config import (
    Config,
    InputPath,
    ModelRef,
    NoOptions,
    absolute,
    dump,
    model_refs,
    parse,
    without_folders,
)
from compressit.contract.fit_options import FitConfig, OptimizerConfig, ScheduleConfig


class Inner(Config):
    """A nested block."""

    teacher: ModelRef = Field(default="previous", description="who teaches")


class Options(Config):
    """One field of each type that plugins use."""

    count: int = Field(default=1, description="a count")
    sparsity: float = Field(default=0.5, description="a fraction")
    on: bool = Field(default=False, description="a switch")
    hidden: tuple[int, ...] = Field(default=(), description="widths")
    label: str = Field(default="x", description="a text that names no model")
    start: ModelRef = Field(default="init", description="a model")
    rewind: ModelRef | None = Field(default=None, description="a model or none")
    inner: Inner = Field(default=Inner(), description="nested")
    others: tuple[ModelRef, ...] = Field(default=(), description="several models")
    blocks: tuple[Inner, ...] = Field(default=(), description="several nested")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("count", value) for value in ("5", True, 1.0, None)),
        *(("sparsity", value) for value in ("0.5", math.nan, math.inf, -math.inf)),
        *(("on", value) for value in (1, "yes")),
        *(("hidden", value) for value in (5, ["5"])),
        ("label", 5),
        ("start", None),
        ("unknown", 1),
        ("inner", {"tutor": "x"}),
    ],
)
def test_a_value_of_another_type_is_refused_at_its_field(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        parse(Options, {field: value})
    assert caught.value.errors()[0]["loc"][0] == field


@pytest.mark.parametrize(
    ("field", "value", "parsed"),
    [
        ("hidden", [5, 6], (5, 6)),
        ("hidden", (5, 6), (5, 6)),
        ("sparsity", 1, 1.0),
        ("rewind", None, None),
        ("inner", {"teacher": "t"}, Inner(teacher="t")),
    ],
)
def test_what_yaml_and_json_can_say_is_accepted(field: str, value: Any, parsed: Any) -> None:
    assert getattr(parse(Options, {field: value}), field) == parsed


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        NoOptions().anything = 1  # type: ignore[attr-defined]
    with pytest.raises(ValidationError):
        Options().count = 2  # type: ignore[misc]


def test_model_refs_finds_every_reference_with_its_path_and_no_other_text() -> None:
    options = parse(
        Options,
        {
            "label": "not-a-model",
            "rewind": "init",
            "inner": {"teacher": "train"},
            "others": ["a", "b"],
            "blocks": [{"teacher": "c"}],
        },
    )
    assert dict(model_refs(options)) == {
        ("start",): "init",
        ("rewind",): "init",
        ("inner", "teacher"): "train",
        ("others", "0"): "a",
        ("others", "1"): "b",
        ("blocks", "0", "teacher"): "c",
    }
    assert dict(model_refs(Options())) == {("start",): "init", ("inner", "teacher"): "previous"}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "count": st.integers(-(2**53), 2**53),
            "sparsity": st.floats(allow_nan=False, allow_infinity=False),
            "on": st.booleans(),
            "hidden": st.lists(st.integers(0, 2**31)),
            "label": st.text(),
            "rewind": st.none() | st.text(),
        },
    )
)
def test_dump_is_json_holds_every_default_and_parses_back(values: dict[str, Any]) -> None:
    options = parse(Options, values)
    written = json.loads(json.dumps(dump(options), allow_nan=False))
    assert set(written) == set(Options.model_fields)
    assert parse(Options, written) == options


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (OptimizerConfig, {"name": "adam", "momentum": 0.9}),
        (OptimizerConfig, {"name": "sgd", "nesterov": True}),
        (OptimizerConfig, {"lr": 0}),
        (OptimizerConfig, {"momentum": 1}),
        (OptimizerConfig, {"name": "adam", "betas": [0.9, 1.0]}),
        (OptimizerConfig, {"betas": [0.5, 0.9]}),
        (ScheduleConfig, {"name": "step"}),
        (ScheduleConfig, {"name": "cosine", "milestones": [3]}),
    ],
)
def test_what_torch_would_refuse_or_ignore_is_refused(config: type[Config], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parse(config, values)


@pytest.mark.parametrize("values", [{"name": "adam"}, {"name": "sgd", "momentum": 0.9}, {"name": "adamw"}])
def test_resolved_options_of_an_optimizer_parse_back(values: dict[str, Any]) -> None:
    options = parse(OptimizerConfig, values)
    assert parse(OptimizerConfig, dump(options)) == options


def test_steps_count_the_shorter_last_batch() -> None:
    assert FitConfig(epochs=3, batch_size=128).total_steps(60_000) == 3 * 469
    assert FitConfig(epochs=3, batch_size=10).total_steps(30) == 9


class Files(Config):
    root: InputPath = Field(description="a folder")
    others: tuple[InputPath, ...] = Field((), description="files")
    label: str = Field("x", description="no path")


def test_paths_start_from_the_given_folder_and_nothing_else_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    given = parse(Files, {"root": "images", "others": ["../a.npz", "/b.npz", "~/c.npz"], "label": "y"})
    found = absolute(given, lambda _: Path("/recipes"))
    assert dump(found) == {
        "root": "/recipes/images",
        "others": ["/recipes/../a.npz", "/b.npz", "/home/me/c.npz"],
        "label": "y",
    }
    assert absolute(found, lambda _: Path("/elsewhere")) == found
    assert list(model_refs(found)) == []
    shown = without_folders(found)
    assert shown == {"root": "images", "others": ["a.npz", "b.npz", "c.npz"], "label": "y"}


def test_files_of_models_are_shown_without_folders_and_names_as_they_are() -> None:
    class Two(Config):
        teacher: ModelRef
        others: tuple[ModelRef, ...] = ()

    given = Two(teacher="/home/me/net.safetensors", others=("blog/x", "previous"))
    assert without_folders(given) == {"teacher": "net.safetensors", "others": ["blog/x", "previous"]}
