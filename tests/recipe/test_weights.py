"""`weights`: what of a file does not fit the built model is told at once, at its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from compressit.checkpoint import fitting
from compressit.contract.kinds import Model
from compressit.datasets.specs import Inputs
from compressit.host.plugins import Host
from compressit.recipe.model import Weights

from .samples import BASE, MLP, Parse, Problems, told, write_weights


def _with(weights: str) -> str:
    return BASE.replace("{uses: tiny.mlp}", f"{{uses: tiny.mlp, weights: {weights}}}")


def test_fresh_patterns_are_kept_sorted(parse: Parse, tmp_path: Path):
    write_weights(tmp_path / "w.safetensors")
    text = _with('{file: w.safetensors, fresh: ["4.*", "1.bias", "4.*"]}')
    (variant,) = parse(text).variants
    assert variant.model.weights == Weights(tmp_path / "w.safetensors", ("1.bias", "4.*"))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("3", "4:34: model.weights must be text or a mapping (got 3)"),
        ("{fresh: [a]}", "4:34: model.weights must have 'file'"),
        ("{file: w.safetensors, fesh: [a]}", "4:56: unknown key 'fesh' in model.weights"),
        ("{file: w.safetensors, fresh: 4.bias}", "4:63: model.weights.fresh must be a list (got '4.bias')"),
        ("{file: w.safetensors, fresh: ['']}", "4:64: model.weights.fresh.0 must have at least 1 character"),
        ("{file: w.pth}", "4:41: model.weights.file must be a .safetensors file (got 'w.pth')"),
        ("{file: x.safetensors}", "4:41: model.weights.file: there is no file x.safetensors"),
        ("{file: w.safetensors, fresh: [4.*, fc.*]}", "4:69: model.weights.fresh names no tensor: 'fc.*'"),
        ("{file: w.safetensors, fresh: ['*']}", "4:41: model.weights: w.safetensors: no tensor of the file is used"),
    ],
)  # fmt: skip
def test_a_mistake_in_weights(problems: Problems, tmp_path: Path, weights: str, expected: str):
    write_weights(tmp_path / "w.safetensors")
    (line,) = told(problems(_with(weights)))
    assert line.startswith(f"r.yaml:{expected}")


def test_all_that_does_not_fit_is_told_with_shapes(problems: Problems, tmp_path: Path):
    write_weights(tmp_path / "w.safetensors", **{"1.weight": (12, 7), "1.bias": None, "fc.bias": (2, 3)})
    (problem,) = problems(_with("w.safetensors"))
    assert told([problem]) == [
        "r.yaml:4:34: model.weights: w.safetensors: these weights do not fit the model"
    ]
    assert problem.message.splitlines()[1:] == [
        "other shapes than tiny.mlp builds: 1.weight (12, 7), not (12, 6)",
        "missing: 1.bias (12,)",
        "not in tiny.mlp: fc.bias (2, 3)",
    ]


def test_another_number_of_classes_asks_for_a_fresh_head(problems: Problems, parse: Parse, tmp_path: Path):
    write_weights(tmp_path / "w.safetensors", **{"4.weight": (9, 12), "4.bias": (9,)})
    (problem,) = problems(_with("w.safetensors"))
    assert 'fresh: ["4.*"]' in (problem.hint or "")
    assert parse(_with('{file: w.safetensors, fresh: ["4.*"]}')).variants


def test_wrapped_names_ask_for_an_import(problems: Problems, tmp_path: Path):
    wrapped = {f"module.{name}": shape for name, shape in MLP.items()}
    write_weights(tmp_path / "w.safetensors", **dict.fromkeys(MLP), **wrapped)
    (problem,) = problems(_with("w.safetensors"))
    assert "begin with 'module.': `compressit import" in (problem.hint or "")


def test_ten_of_many_are_listed():
    net = {f"layer{i}.weight": (1,) for i in range(30)}
    fault = fitting.misfit(net, {"x": (1,)}, (), "my.net")
    assert fault is not None
    assert "layer9.weight (1,) and 20 more" in fault.message
    assert "layer10." not in fault.message


def test_a_batch_norms_counter_may_be_missing():
    net = {"bn.weight": (3,), "bn.num_batches_tracked": ()}
    assert fitting.misfit(net, {"bn.weight": (3,)}, (), "my.net") is None
    assert fitting.misfit(net, {"bn.num_batches_tracked": ()}, (), "my.net") is not None


def test_a_builder_that_fails_here_is_left_to_the_run(
    parse: Parse, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):  # fmt: skip
    def build(self: Model[Any], inputs: Inputs, outputs: int) -> None:
        os.write(2, b"loud")
        raise RuntimeError("not here")

    monkeypatch.setattr(host.find("tiny.mlp").plugin, "build", build)
    write_weights(tmp_path / "w.safetensors", **{"1.weight": (1, 1)})
    assert parse(_with("w.safetensors")).variants
    assert capfd.readouterr() == ("", "")


def test_a_variant_may_leave_more_fresh(parse: Parse, tmp_path: Path):
    write_weights(tmp_path / "w.safetensors")
    text = (
        _with("{file: w.safetensors}") + 'variants: {all: {}, head: {model: {weights: {fresh: ["4.*"]}}}}\n'
    )
    assert [variant.model.weights.fresh for variant in parse(text).variants if variant.model.weights] == [
        (),
        ("4.*",),
    ]


def test_a_file_of_torch_asks_for_an_import(problems: Problems):
    (problem,) = problems(_with("{file: w.pth}"))
    assert "compressit import w.pth" in (problem.hint or "")
