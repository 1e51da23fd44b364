from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from plugin_lab import Lab
from scipy import ndimage, stats

from compressit.datasets.options import DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Sources
from compressit.datasets.specs import TensorSpec
from compressit.datasets.splits import Data
from compressit.errors import CompressitError
from compressit_plugins.shrink.noise_inputs import Noise, noise_source
from compressit_plugins.shrink.noise_sources import smooth

CPU = torch.device("cpu")
COUNT = 20_000
SMOOTH = Noise("smooth", (0.6, 1.5), (0.2, 1.0))


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _of(x: torch.Tensor) -> Data:
    y = torch.arange(len(x)) % 4
    spec = TensorSpec(tuple(x.shape[1:]), low=None, high=None)
    return prepare(Sources((x, y)), DataConfig(), 4, tuple("abcd"), inputs=spec)


def _correlated(shape: tuple[int, ...], count: int = 300) -> Data:
    """Inputs whose neighbours and channels belong together, with a mean per channel and a brightness per input."""
    x = torch.randn(count, *shape, generator=_generator())
    x = x + x.roll(1, dims=2) + 0.5 * x.roll(1, dims=1)
    channel = torch.arange(shape[0]).view(-1, *[1] * (len(shape) - 1))
    return _of(x + channel + torch.randn(count, *[1] * len(shape), generator=_generator(1)))


@pytest.mark.parametrize("shape", [(1, 12, 9), (3, 5, 8), (2, 20), (1, 4, 5, 6)])
def test_smooth_noise_is_white_noise_under_scipys_gaussian_filter(shape: tuple[int, ...]) -> None:
    sigmas, contrast = (0.6, 1.0, 2.5), (0.3, 0.8)
    ours = smooth(shape, sigmas, contrast, CPU).draw(7, _generator())
    generator = _generator()
    white = torch.randn(7, *shape, generator=generator).double().numpy()
    contrasts = torch.rand(7, generator=generator).numpy() * 0.5 + 0.3
    for number in range(7):
        sigma = sigmas[number % 3]
        for channel in range(shape[0]):
            expected = white[number, channel]
            for axis, side in enumerate(shape[1:]):
                weights = ndimage.gaussian_filter1d(np.eye(side), sigma, axis=0, mode="constant", truncate=4)
                deviation = np.sqrt((weights**2).sum(1)).reshape(
                    [-1 if a == axis else 1 for a in range(len(shape) - 1)]
                )
                expected = (
                    ndimage.gaussian_filter1d(expected, sigma, axis=axis, mode="constant", truncate=4)
                    / deviation
                )
            np.testing.assert_allclose(ours[number, channel], expected * contrasts[number], atol=1e-5)


def test_smooth_noise_has_mean_0_and_the_contrast_asked_for_at_every_pixel_borders_too() -> None:
    x = smooth((1, 6, 6), (0.6, 1.0, 1.5, 2.5), (0.5, 0.5), CPU).draw(COUNT, _generator()).double().numpy()
    assert np.abs(x.mean(0)).max() < 5 * 0.5 / COUNT**0.5
    assert np.abs(x.std(0) / 0.5 - 1).max() < 5 / COUNT**0.5


def test_any_part_of_smooth_noise_has_as_much_of_each_blur() -> None:
    x = smooth((1, 16, 16), (0.5, 3.0), (1.0, 1.0), CPU).draw(200, _generator()).double().numpy()[:, 0]
    neighbours = (x[:, :, 1:] * x[:, :, :-1]).mean((1, 2)) / (x**2).mean((1, 2))
    assert neighbours[0::2].max() < neighbours[1::2].min(), "they take turns"


def test_the_blur_is_fast_a_gaussians_far_end_would_be_denormal_numbers() -> None:
    (matrix, _), *_ = smooth((1, 64, 64), (0.6, 2.5), (1.0, 1.0), CPU).blurs
    least = matrix[matrix > 0].min()
    assert least > torch.finfo(torch.float32).tiny


@pytest.mark.parametrize("scale", ["unit", "standard"])
@pytest.mark.parametrize("noise", [Noise("normal"), SMOOTH])
def test_noise_without_statistics_is_the_same_whatever_the_data_are(noise: Noise, scale: str) -> None:
    drawn = []
    for seed, low in ((0, 0), (1, 100)):
        x = torch.randint(low, 256, (40, 2, 6, 6), dtype=torch.uint8, generator=_generator(seed))
        y = torch.arange(40) % 4
        data = prepare(Sources((x, y)), DataConfig.model_validate({"scale": scale}), 4, tuple("abcd"))
        drawn.append(noise_source(noise, data).draw(9, _generator()))
    assert torch.equal(*drawn)


def test_normal_noise_has_mean_0_and_deviation_1() -> None:
    x = noise_source(Noise("normal"), _correlated((2, 4, 4))).draw(500, _generator())
    assert stats.kstest(x.flatten()[:5000].numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("shape", [(1, 6, 7), (3, 5, 6), (2, 9)])
def test_spectrum_noise_has_the_means_power_and_cross_spectra_of_the_inputs(shape: tuple[int, ...]) -> None:
    data = _correlated(shape)
    given = np.asarray(data.train.x).astype(np.float64)
    drawn = noise_source(Noise("spectrum"), data).draw(COUNT, _generator()).double().numpy()
    assert drawn.shape == (COUNT, *shape)
    axes = tuple(range(2, given.ndim))
    mean = given.mean((0, *axes), keepdims=True)
    spectra = []
    for x in (given, drawn):
        found = np.fft.fftn(x - mean, axes=axes)
        spectra.append(np.einsum("nc...,nd...->cd...", found, found.conj()) / len(x))
    power = np.sqrt(np.einsum("cc...->c...", spectra[0]).real)
    size = power[:, None] * power[None]
    assert np.abs((spectra[1] - spectra[0]) / size).max() < 8 / COUNT**0.5
    if shape[0] > 1:
        assert np.abs(spectra[0][0, 1] / size[0, 1]).max() > 0.3, "the channels must belong together"
    assert np.abs(drawn.mean((0, *axes)) - mean.ravel()).max() < 5 * drawn.std() / COUNT**0.5


def test_spectrum_noise_is_made_of_parts_of_the_data_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from compressit_plugins.shrink import noise_sources

    data = _correlated((2, 5, 6))
    whole = noise_source(Noise("spectrum"), data).draw(50, _generator())
    monkeypatch.setattr(noise_sources, "_VALUES", 7 * 60)
    torch.testing.assert_close(noise_source(Noise("spectrum"), data).draw(50, _generator()), whole)


def test_inputs_that_never_vary_give_themselves_in_spectrum_noise() -> None:
    data = _of(torch.full((4, 2, 3, 3), 0.5))
    torch.testing.assert_close(
        noise_source(Noise("spectrum"), data).draw(3, _generator()), torch.full((3, 2, 3, 3), 0.5)
    )


@pytest.mark.parametrize(("kind", "instead"), [("smooth", "normal"), ("spectrum", "covariance")])
def test_values_without_neighbours_are_refused(kind: str, instead: str) -> None:
    data = _of(torch.rand(20, 5, generator=_generator()))
    with pytest.raises(CompressitError, match=r"neighbour.*\(5,\)") as caught:
        noise_source(Noise(kind, (1.0,), (1.0, 1.0)), data)
    assert f"noise: {instead}" in str(caught.value.hint)


def test_it_is_drawn_on_the_device(lab: Lab, device: str) -> None:
    data = lab.data(device)
    for kind in ("normal", "smooth", "spectrum"):
        source = noise_source(Noise(kind, (1.0, 2.0), (0.5, 1.0)), data)
        one, same = (source.draw(6, torch.Generator(device).manual_seed(0)) for _ in range(2))
        assert one.device.type == device
        assert one.shape == (6, 1, 8, 8)
        assert torch.equal(one, same)
        assert math.isfinite(float(one.sum()))
