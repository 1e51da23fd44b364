"""`init`: how fresh weights are drawn, and where that would have no effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressit.contract.init_options import InitConfig

from .samples import BASE, Parse, Problems, told, write_weights


def _with(model: str) -> str:
    return BASE.replace("{uses: tiny.mlp}", f"{{{model}}}")


def test_init_is_read_and_a_variant_may_change_a_part_of_it(parse: Parse) -> None:
    text = (
        _with("uses: tiny.mlp, init: {scheme: kaiming}")
        + "variants: {a: {}, b: {model: {init: {draw: 2}}}}\n"
    )
    one, other = parse(text).variants
    assert one.model.init == InitConfig(scheme="kaiming")
    assert other.model.init == InitConfig(scheme="kaiming", draw=2)
    (plain,) = parse(BASE).variants
    assert plain.model.init == InitConfig()


def test_a_checkpoint_in_a_variant_drops_the_init_of_the_builder(problems: Problems) -> None:
    text = _with("uses: tiny.mlp, init: {draw: 2}") + "variants: {a: {model: {from: x.safetensors}}}\n"
    (line,) = told(problems(text))
    assert "there is no file" in line


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("uses: tiny.mlp, init: {scheme: he}", "4:40: model.init.scheme must be"),
        ("uses: tiny.mlp, init: {scale: 0}", "4:39: model.init.scale must be greater than 0"),
        ("uses: tiny.mlp, init: {gain: 2}", "4:32: unknown key 'gain' in model.init"),
        ("uses: tiny.mlp, init: kaiming", "4:31: model.init must be a mapping"),
        ("from: w.safetensors, init: {draw: 1}", "4:30: model.init works only with 'uses'"),
        ("uses: tiny.mlp, weights: w.safetensors, init: {draw: 1}", "4:49: model.init has no effect"),
    ],
)
def test_a_mistake_in_init(problems: Problems, tmp_path: Path, model: str, expected: str) -> None:
    write_weights(tmp_path / "w.safetensors")
    lines = told(problems(_with(model)))
    assert any(line.startswith(f"r.yaml:{expected}") for line in lines), lines


def test_a_fresh_head_may_be_drawn_by_a_scheme(parse: Parse, tmp_path: Path) -> None:
    write_weights(tmp_path / "w.safetensors")
    text = _with('uses: tiny.mlp, weights: {file: w.safetensors, fresh: ["4.*"]}, init: {scheme: xavier}')
    (variant,) = parse(text).variants
    assert variant.model.init.scheme == "xavier"
