from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from compressit.datasets.specs import TensorSpec
from compressit.errors import CompressitError
from compressit_plugins.shrink.skeleton import skeleton


class Residual(nn.Module):
    """A stem, a block whose output is added to its input, and a classifier over channel means."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.one = nn.Conv2d(width, inner, 3, padding=1)
        self.two = nn.Conv2d(inner, width, 3, padding=1)
        self.out = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = x + self.two(self.one(x).relu())
        return self.out(x.mean((2, 3)))


def _seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make()


def _plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 10, 3, padding=1), nn.BatchNorm2d(10), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(10, 7, 3, padding=1), nn.BatchNorm2d(7), nn.ReLU(), nn.Flatten(), nn.Linear(7 * 16, 5),
    )  # fmt: skip


def _residual() -> nn.Module:
    return Residual(10, 7)


def _shapes(model: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in model.parameters() if p.ndim > 1]


def _narrow(model: nn.Module, width: float, seed: int = 1, times: int = 1) -> nn.Module:
    return skeleton(model, width, TensorSpec((3, 8, 8)), seed, times)


@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (_plain, [(6, 3, 3, 3), (5, 6, 3, 3), (5, 5 * 16)]),
        (_residual, [(6, 3, 3, 3), (5, 6, 3, 3), (6, 5, 3, 3), (5, 6)]),
    ],
)
def test_every_hidden_layer_keeps_its_share_rounded_up_and_the_classifier_its_outputs(
    make: Callable[[], nn.Module], shapes: list[tuple[int, ...]]
) -> None:
    narrow = _narrow(_seeded(make), 0.6)
    assert _shapes(narrow) == shapes
    assert narrow.training
    assert narrow(torch.randn(4, 3, 8, 8)).shape == (4, 5)


@pytest.mark.parametrize("width", [0.01, 0.05, 0.1, 0.3, 0.7, 0.9])
def test_no_width_is_too_small_or_falls_between_the_numbers(width: float) -> None:
    narrow = _narrow(
        _seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 10), nn.Linear(10, 5))), width
    )
    assert narrow.get_parameter("1.weight").shape[0] == {0.01: 1, 0.05: 1}.get(width, round(10 * width))


def test_several_times_narrower_rounds_up_each_time() -> None:
    model = _seeded(_plain)
    once_more = _narrow(_narrow(model, 0.7), 0.7)
    assert _shapes(_narrow(model, 0.7, times=2)) == _shapes(once_more)
    assert _shapes(once_more)[0][0] == 5, "10, 7, 4.9 rounded up"


@pytest.mark.parametrize(
    ("layers", "kept"),
    [
        ([nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 1, groups=4)], [(4, 3, 1, 1), (8, 1, 1, 1)]),
        ([nn.Conv2d(3, 12, 1), nn.GroupNorm(4, 12)], [(8, 3, 1, 1)]),
        ([nn.Conv2d(3, 10, 1), nn.Conv2d(10, 10, 3, padding=1, groups=10)], [(5, 3, 1, 1), (5, 1, 3, 3)]),
    ],
    ids=["grouped", "group norm", "depthwise"],
)
def test_groups_stay_and_shrink_alike(layers: Sequence[nn.Module], kept: list[tuple[int, ...]]) -> None:
    last = nn.Conv2d(max(getattr(layer, "out_channels", 0) for layer in layers), 5, 1)
    narrow = _narrow(nn.Sequential(*layers, last, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 0.5)
    assert _shapes(narrow)[:-1] == kept
    assert narrow(torch.randn(2, 3, 8, 8)).shape == (2, 5)


@pytest.mark.parametrize("make", [_plain, _residual])
def test_its_weights_come_from_the_seed_alone(make: Callable[[], nn.Module]) -> None:
    trained, other = _seeded(make, 0), _seeded(make, 1)
    trained(torch.randn(16, 3, 8, 8) + 3)  # moves the running statistics of the batch norm
    one, same, another = _narrow(trained, 0.5), _narrow(other, 0.5), _narrow(trained, 0.5, seed=2)
    for name, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[name]), name
        if value.ndim > 1:
            assert not torch.equal(value, another.state_dict()[name]), name
    norms = [m for m in one.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(m.running_mean is not None and not m.running_mean.any() for m in norms)


def test_the_model_and_torchs_random_numbers_are_left_as_they_were() -> None:
    model = _seeded(_plain).eval().requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    numbers = torch.get_rng_state()
    narrow = _narrow(model, 0.5)
    assert torch.equal(numbers, torch.get_rng_state())
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in narrow.parameters()), "a student of a frozen teacher trains"


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(192, 8)
        self.scale = nn.Parameter(torch.ones(8))
        self.out = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden(x.flatten(1)) * self.scale)


class Rigid(nn.Module):
    """A reshape to a number of channels that only the author knows."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(192, 8)
        self.out = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden(x.flatten(1)).view(len(x), 2, 4).sum(1))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Rigid(), "Rigid could not be pruned structurally: RuntimeError.*\n.*`with_width`"),
        (nn.Flatten(), "Flatten has no linear or convolutional layer"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), "no channel of Sequential could be removed at width 0.5"),
        (Scaled(), r"'the model' \(Scaled\) cannot be given fresh weights\n.*reset_parameters"),
    ],
    ids=["rigid", "no layer", "only a classifier", "parameters without a way to draw them"],
)  # fmt: skip
def test_what_cannot_be_done_is_said_with_advice(model: nn.Module, words: str) -> None:
    with pytest.raises(CompressitError, match=words):
        _narrow(model, 0.5)
