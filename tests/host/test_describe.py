"""What is said of a plugin comes from its class: options in words, nested ones by their paths, metrics, contents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field
from tiny import tiny_host

from compressit.config import Config, ModelRef
from compressit.contract.fit_options import FitConfig
from compressit.contract.kinds import Compressor, Dataset
from compressit.datasets.specs import TensorSpec
from compressit.host.describe import Option, Style, facts, nested_options, options
from compressit.host.plugins import Registered, Source


class Inner(Config):
    """A block."""

    depth: int = Field(2, ge=1, le=9, description="how deep")


class Many(Config):
    """Options of every sort."""

    sparsity: float = Field(gt=0, lt=1, description="how | much")
    mode: Literal["a", "b"] = Field("a", description="which")
    text: str = Field("", description="words")
    flag: bool | None = Field(None, description="yes or no")
    sizes: tuple[int, ...] = Field((1, 2), min_length=1, description="widths")
    pair: tuple[Annotated[float, Field(ge=0)], str] = Field((0.5, "x"), description="two")
    teacher: ModelRef = Field("previous", description="whose")
    inner: Inner = Field(default_factory=Inner, description="a block")
    maybe: Inner | None = Field(None, description="a block or none")
    each: tuple[Inner, ...] = Field((), description="blocks")
    named: dict[str, Any] = Field({}, description="anything")
    any_: int = Field(3, alias="any", description="under another name")


class Tree(Config):
    """A block within itself."""

    left: Tree | None = Field(None, description="the same again")


def described() -> dict[str, Option]:
    return {option.name: option for option in nested_options(Many)}


@pytest.mark.parametrize(
    ("name", "kind", "default"),
    [
        ("sparsity", "number > 0 and < 1", "required"),
        ("mode", "a or b", "a"),
        ("text", "text", '""'),
        ("flag", "true or false or null", "null"),
        ("sizes", "non-empty list of whole numbers", "[1, 2]"),
        ("pair", "list of 2: number ≥ 0, text", '[0.5, "x"]'),
        ("teacher", "model", "previous"),
        ("inner", "mapping", "its defaults"),
        ("inner.depth", "whole number ≥ 1 and ≤ 9", "2"),
        ("maybe", "mapping or null", "null"),
        ("maybe.depth", "whole number ≥ 1 and ≤ 9", "2"),
        ("each", "list of mapping", "[]"),
        ("each[].depth", "whole number ≥ 1 and ≤ 9", "2"),
        ("named", "mapping", "{}"),
        ("any", "whole number", "3"),
    ],
)
def test_an_option_in_words(name: str, kind: str, default: str) -> None:
    assert (described()[name].type, described()[name].default) == (kind, default)


def test_every_option_is_there_in_its_order_and_a_block_in_itself_ends() -> None:
    assert list(described()) == [
        "sparsity", "mode", "text", "flag", "sizes", "pair", "teacher", "inner", "inner.depth", "maybe", "maybe.depth",
        "each", "each[].depth", "named", "any",
    ]  # fmt: skip
    assert [option.name for option in nested_options(Tree)] == ["left"]
    assert "optimizer.betas" in [option.name for option in nested_options(FitConfig)]


def test_inherited_options_can_be_left_out_unless_they_differ() -> None:
    class Mine(FitConfig):
        epochs: int = Field(5, ge=1, description="passes over the training set")
        more: int = Field(1, description="own")

    assert [option.name for option in options(Mine, FitConfig)] == ["epochs", "more"]


def test_a_style_marks_values_and_blocks() -> None:
    style = Style(literal=lambda value: f"<{value}>", block=lambda name: f"see {name}")
    shown = {option.name: option for option in options(Many, style=style)}
    assert (shown["mode"].type, shown["mode"].default) == ("<a> or <b>", "<a>")
    assert shown["maybe"].type == "see Inner or <null>"


def test_the_facts_of_every_kind_are_json() -> None:
    host = tiny_host()
    found = {registered.plugin.name: facts(registered) for registered in host.registered()}
    assert json.loads(json.dumps(found)) == found
    size = found["tiny.size"]
    assert [metric["name"] for metric in size["metrics"]] == ["parameters", "bytes", "mean_weight"]
    assert size["metrics"][1] == {"name": "bytes", "better": "lower", "unit": "bytes", "about": ""}
    assert (found["tiny.data"]["inputs"]["shape"], found["tiny.data"]["classes"]) == ([1, 2, 3], 3)
    assert "metrics" not in found["tiny.train"]
    assert "inputs" not in found["tiny.mlp"]
    assert found["tiny.mlp"]["schema"]["properties"]["hidden"]["type"] == "array"
    assert (found["tiny.mlp"]["from"], found["tiny.mlp"]["version"]) == (
        host.find("tiny.mlp").source.name,
        None,
    )


def test_the_docstring_is_whole_and_without_its_indentation() -> None:
    class Long(Compressor):
        """One line.

        And more,
          indented.
        """

        name = "x.long"

    assert _facts(Long, "compressor")["about"] == "One line.\n\nAnd more,\n  indented."


def test_a_dataset_that_does_not_know_its_shape_yet_says_nothing() -> None:
    class Files(Dataset):
        name = "x.files"

        @property
        def inputs(self) -> TensorSpec:
            raise FileNotFoundError(Path("images"))

    assert (_facts(Files, "dataset")["inputs"], _facts(Files, "dataset")["classes"]) == (None, None)


def _facts(plugin: Any, kind: str) -> dict[str, Any]:
    return facts(Registered(kind, plugin, Source("some", "1.0")))
