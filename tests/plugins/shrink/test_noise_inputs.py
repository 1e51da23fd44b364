from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plugin_lab import Lab
from scipy import stats

from compressit.datasets.options import DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Sources
from compressit.datasets.specs import TensorSpec
from compressit.datasets.splits import Data
from compressit.datasets.statistics import factor_of
from compressit.errors import CompressitError
from compressit.seeds import Streams
from compressit_plugins.shrink import noise_inputs
from compressit_plugins.shrink.noise_inputs import (
    Noise,
    noise_generator,
    noise_source,
    shared_noise_source,
)

KINDS = ("uniform", "gaussian", "pixel", "covariance")
COUNT = 40_000
ROOM = 5 / COUNT**0.5  # five standard errors of a mean, in standard deviations


def _data(raw: Sources, scale: str = "unit") -> Data:
    return prepare(raw, DataConfig.model_validate({"scale": scale}), 4, ("a", "b", "c", "d"))


def _draw(kind: str, data: Data) -> np.ndarray:
    x = noise_source(Noise(kind), data).draw(COUNT, torch.Generator().manual_seed(0))
    assert x.shape == (COUNT, 2, 3, 3)
    assert x.dtype == torch.float32
    return x.flatten(1).double().numpy()


@pytest.mark.parametrize("scale", ["unit", "standard"])
def test_uniform_noise_is_uniform_in_pixels_whatever_the_scale(raw: Sources, scale: str) -> None:
    data = _data(raw, scale)
    x = _draw("uniform", data).reshape(COUNT, 2, 9)
    if scale == "standard":
        pixels = raw.train[0].double().numpy() / 255
        x = x * pixels.std((0, 2, 3))[None, :, None] + pixels.mean((0, 2, 3))[None, :, None]
    assert x.min() >= -1e-6
    assert x.max() <= 1 + 1e-6
    for channel in range(2):
        assert stats.kstest(x[:, channel].ravel()[:5000], "uniform").pvalue > 1e-3
    assert np.abs(x.mean(0) - 0.5).max() < ROOM * 12**-0.5
    assert np.abs(x.var(0) - 1 / 12).max() < 2 * ROOM / 12


@pytest.mark.parametrize("scale", ["unit", "standard"])
def test_gaussian_noise_has_one_mean_and_deviation_of_all_pixels(raw: Sources, scale: str) -> None:
    data = _data(raw, scale)
    given_x = data.train.x.double().numpy()
    mean, std = given_x.mean(), given_x.std(ddof=1)
    x = _draw("gaussian", data)
    assert np.abs(x.mean(0) - mean).max() < ROOM * std
    assert np.abs(x.std(0) / std - 1).max() < ROOM
    assert stats.kstest((x[:300].ravel() - mean) / std, "norm").pvalue > 1e-3


def test_pixel_noise_has_each_pixels_own_mean_and_deviation_and_no_correlation(raw: Sources) -> None:
    data = _data(raw)
    given_x = data.train.x.flatten(1).double().numpy()
    mean, std = given_x.mean(0), given_x.std(0, ddof=1)
    z = (_draw("pixel", data) - mean) / std
    assert np.abs(z.mean(0)).max() < ROOM
    assert np.abs(np.corrcoef(z.T) - np.eye(18)).max() < ROOM
    assert np.abs(z.std(0) - 1).max() < ROOM


@pytest.mark.parametrize("scale", ["unit", "standard"])
def test_covariance_noise_has_the_mean_and_covariance_of_the_training_inputs(
    raw: Sources, scale: str
) -> None:
    data = _data(raw, scale)
    given_x = data.train.x.flatten(1).double().numpy()
    covariance, std = np.cov(given_x.T), given_x.std(0, ddof=1)
    x = _draw("covariance", data)
    assert np.abs((x.mean(0) - given_x.mean(0)) / std).max() < ROOM
    assert np.abs((np.cov(x.T) - covariance) / np.outer(std, std)).max() < 2 * ROOM
    assert np.abs(covariance - np.diag(std**2)).max() > 0.1 * std.max() ** 2, "the data must correlate"


@given(st.integers(1, 12), st.integers(1, 12), st.floats(1e-3, 1e3), st.integers(0, 2**32))
def test_the_factor_gives_the_covariance_also_where_it_is_singular(
    width: int, rank: int, size: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    half = size * rng.standard_normal((min(rank, width), width))
    covariance = half.T @ half
    factor = factor_of(torch.from_numpy(covariance))
    assert factor.dtype == torch.float32
    assert factor.shape[1] == width
    assert factor.shape[0] <= min(rank, width)
    product = (factor.T @ factor).double().numpy()
    np.testing.assert_allclose(product, covariance, rtol=0, atol=1e-5 * np.abs(covariance).max())


@pytest.mark.parametrize("kind", ["gaussian", "pixel", "covariance"])
def test_inputs_that_never_vary_give_themselves(kind: str) -> None:
    x = torch.full((4, 1, 2, 2), 128, dtype=torch.uint8)
    data = prepare(
        Sources((x, torch.zeros(4).long()), (x, torch.zeros(4).long())), DataConfig(), 2, ("a", "b")
    )
    drawn = noise_source(Noise(kind), data).draw(3, torch.Generator())
    torch.testing.assert_close(drawn, torch.full((3, 1, 2, 2), 128 / 255))


def test_pixels_that_never_vary_stay_as_they_are_in_covariance_noise(raw: Sources) -> None:
    x = raw.train[0].clone()
    x[:, 0, 0, 0] = 7
    data = _data(Sources((x, raw.train[1]), (raw.test[0], raw.test[1])))
    drawn = noise_source(Noise("covariance"), data).draw(100, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn[:, 0, 0, 0], torch.full((100,), 7 / 255))


@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for kind in KINDS for seed in (0, 1)])
def test_a_generator_decides_every_number(kind: str, seed: int, raw: Sources) -> None:
    source = noise_source(Noise(kind), _data(raw))
    one, same, other = (
        source.draw(5, torch.Generator().manual_seed(number)) for number in (seed, seed, seed + 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def _number(redraw: str, number: int | None, epoch: int, seed: int = 0, stage: str = "blog") -> int:
    return noise_generator(Streams(seed, stage, number), redraw, epoch, "cpu").initial_seed()


def test_each_redraw_is_new_exactly_as_often_as_it_says() -> None:
    places = [(number, epoch) for number in (1, 2, 3) for epoch in range(4)]
    assert len({_number("epoch", *place) for place in places}) == 12
    by_round = {number: {_number("round", number, epoch) for epoch in range(4)} for number in (1, 2, 3)}
    assert all(len(numbers) == 1 for numbers in by_round.values())
    assert len(set.union(*by_round.values())) == 3
    assert len({_number("never", *place) for place in places}) == 1


@pytest.mark.parametrize("redraw", ["epoch", "round", "never"])
def test_other_seeds_and_stages_have_their_own_noise(redraw: str) -> None:
    numbers = {_number(redraw, 1, 0, seed, stage) for seed in (0, 1) for stage in ("blog", "covariance")}
    assert len(numbers) == 4


def test_statistics_are_made_once_for_each_kind_and_data(
    raw: Sources, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    original = noise_inputs.noise_source
    monkeypatch.setattr(
        noise_inputs, "noise_source", lambda noise, data: made.append(noise.kind) or original(noise, data)
    )
    memo: dict[object, object] = {}
    real, fake = (lab.context(memo=memo, identity=lambda ref, name=name: ref or name) for name in "ab")
    sources = [
        shared_noise_source(Noise(kind), ctx) for ctx in (real, real, fake) for kind in ("pixel", "uniform")
    ]
    assert made == ["pixel", "uniform", "pixel", "uniform"]
    assert sources[0] is sources[2]
    assert sources[0] is not sources[4]


def _of_range(low: float | None, high: float | None) -> Data:
    x = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * 6 - 3
    inputs = TensorSpec((3,), low=low, high=high)
    return prepare(Sources((x, torch.arange(20) % 4)), DataConfig(), 4, ("a", "b", "c", "d"), inputs=inputs)


def test_uniform_noise_fills_the_range_that_the_data_declare() -> None:
    x = noise_source(Noise("uniform"), _of_range(-3, 3)).draw(COUNT, torch.Generator().manual_seed(0))
    assert stats.kstest(x[:5000, 1].numpy(), stats.uniform(-3, 6).cdf).pvalue > 1e-3


def test_uniform_noise_of_inputs_without_bounds_is_refused() -> None:
    with pytest.raises(CompressitError, match="lies between bounds") as caught:
        noise_source(Noise("uniform"), _of_range(None, 3))
    assert "noise: gaussian" in str(caught.value.hint)
    noise_source(Noise("gaussian"), _of_range(None, 3))
