"""The first model with weights from a file: what is taken, what stays fresh, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from tiny import BASE, Lab, same
from torch import Tensor

from compressit.checkpoint import blank
from compressit.checkpoint import model as checkpoint
from compressit.errors import CompressitError, RecipeError


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_weights_that_do_not_fit_are_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    save_arrays({"1.weight": np.zeros((2, 2), np.float32)}, lab.root / "w.safetensors")
    text = BASE.replace("{uses: tiny.mlp}", "{uses: tiny.mlp, weights: w.safetensors}")
    with pytest.raises(RecipeError, match=r"w\.safetensors: these weights do not fit the model"):
        lab.plan(text)
    monkeypatch.setattr(blank, "shapes_of", lambda *given: None)  # as where its builder cannot be asked
    with pytest.raises(CompressitError, match=r"w\.safetensors: these weights do not fit the model"):
        lab.run(lab.plan(text))


def _trained(lab: Lab) -> dict[str, Tensor]:
    """The tensors of a trained model, which are also in w.safetensors."""
    values = load_file(lab.run(lab.plan(BASE))["base/seed0/train"].model_file)
    save_file(values, lab.root / "w.safetensors")
    return values


def _init(lab: Lab, weights: str) -> dict[str, Tensor]:
    plan = lab.plan(BASE.replace("{uses: tiny.mlp}", f"{{uses: tiny.mlp, weights: {weights}}}"))
    return load_file(lab.run(plan)["base/seed0/init"].model_file)


def test_what_is_fresh_has_the_values_of_a_run_without_weights(lab: Lab) -> None:
    values = _trained(lab)
    built = load_file(lab.run(lab.plan(BASE))["base/seed0/init"].model_file)
    found = _init(lab, '{file: w.safetensors, fresh: ["4.*"]}')
    assert same(found, {name: (built if name.startswith("4.") else values)[name] for name in values})


def test_what_is_fresh_may_be_missing_surplus_or_of_another_shape(lab: Lab) -> None:
    values = _trained(lab)
    others = {"1.weight": values["1.weight"], "1.bias": values["1.bias"], "4.weight": torch.ones(7, 12)}
    save_file({**others, "aux.weight": torch.ones(2)}, lab.root / "w.safetensors")
    found = _init(lab, '{file: w.safetensors, fresh: ["4.*", "aux.*"]}')
    assert torch.equal(found["1.weight"], values["1.weight"])
    assert found["4.weight"].shape == (3, 12)


def test_half_weights_fill_a_float_model_and_whole_numbers_do_not(lab: Lab) -> None:
    values = _trained(lab)
    save_file({name: value.half() for name, value in values.items()}, lab.root / "w.safetensors")
    assert same(_init(lab, "w.safetensors"), {name: value.half().float() for name, value in values.items()})
    save_file({name: value.char() for name, value in values.items()}, lab.root / "w.safetensors")
    with pytest.raises(CompressitError, match=r"is torch\.int8, and the model has torch\.float32"):
        _init(lab, "w.safetensors")


def test_a_compact_checkpoint_serves_as_weights(lab: Lab) -> None:
    wide = checkpoint.Architecture("tiny.mlp", {"hidden": [400]}, (1, 2, 3), 3)
    net = checkpoint.build(wide, lab.host)
    net.get_parameter("1.weight").data[1:] = 0
    checkpoint.save(net, lab.root / "w.safetensors", wide, host=lab.host, compact=True)
    text = "{uses: tiny.mlp, with: {hidden: [400]}, weights: w.safetensors}"
    plan = lab.plan(BASE.replace("{uses: tiny.mlp}", text))
    found = load_file(lab.run(plan)["base/seed0/init"].model_file)
    assert same(found, dict(net.state_dict()))
