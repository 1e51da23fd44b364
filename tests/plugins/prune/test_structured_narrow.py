"""Narrow networks: where no common share of their widths costs what was asked, single widths are moved."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from compressit.errors import CompressitError
from compressit_plugins.models.nets import convnet, mlp
from compressit_plugins.prune.channels import prune_channels

SHAPES = {"convnet": (3, 16, 16), "mlp": (1, 12, 12)}
Widths = Sequence[int]


def network(kind: str, widths: Widths) -> nn.Module:
    return (convnet if kind == "convnet" else mlp)(SHAPES[kind], 10, widths)


def counted(kind: str, target: str, widths: Widths) -> int:
    """Parameters or MACs, by hand."""
    first, kernel, places = (3, 9, 256) if kind == "convnet" else (144, 1, 1)
    total = 0
    for before, width in itertools.pairwise([first, *widths]):
        if target == "parameters":
            total += before * width * kernel + (2 * width if kind == "convnet" else width)
        else:
            total += before * width * kernel * places
        places = max(1, places // 4) if kind == "convnet" else 1
    return total + widths[-1] * 10 + (10 if target == "parameters" else 0)


def some_widths_near(widths: Widths, error: Callable[[Widths], float]) -> bool:
    """Whether a common share, two of its widths moved by at most one, has an error of at most 2 %."""
    shares = (n / 1000 for n in range(1, 1001))
    even = {tuple(max(1, int(width * share + 0.5)) for width in widths) for share in shares}
    nearest = min(even, key=error)
    around = itertools.product(
        *(range(max(1, n - 1), min(w, n + 1) + 1) for n, w in zip(nearest, widths, strict=True))
    )
    return any(
        error(left) <= 0.02 for left in around if sum(a != b for a, b in zip(left, nearest, strict=True)) <= 2
    )


@settings(max_examples=40)
@given(
    st.sampled_from(["convnet", "mlp"]),
    st.sampled_from(["parameters", "macs"]),
    st.lists(st.integers(8, 24), min_size=2, max_size=3),
    st.floats(0.1, 0.95),
)
def test_a_target_is_reached_where_trying_all_widths_around_a_common_share_reaches_it(
    kind: str, target: str, widths: list[int], keep: float
) -> None:
    whole = counted(kind, target, widths)
    assume(some_widths_near(widths, lambda left: abs(counted(kind, target, left) / whole / keep - 1)))
    net = network(kind, widths)
    _, report = prune_channels(net, torch.zeros(1, *SHAPES[kind]), keep, target=target)  # type: ignore[arg-type]
    left = [module.weight.shape[0] for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)][
        :-1
    ]
    assert report.achieved == pytest.approx(counted(kind, target, left) / whole)
    assert report.achieved == pytest.approx(keep, rel=0.02)


@pytest.mark.parametrize("target", ["parameters", "macs"])
def test_every_round_of_a_repeated_stage_on_a_narrow_net_reaches_its_target(target: str) -> None:
    net = network("convnet", (8, 16))
    for _ in range(3):  # 0.648 and 0.736 are the nearest with common shares
        _, report = prune_channels(net, torch.zeros(1, 3, 16, 16), 0.7, target=target)  # type: ignore[arg-type]
        assert report.achieved == pytest.approx(0.7, rel=0.02)


def test_a_net_that_reaches_it_with_a_common_share_keeps_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("single widths were moved")

    monkeypatch.setattr("compressit_plugins.prune.channels.find_steps", never)
    _, report = prune_channels(
        network("convnet", (64, 96)), torch.zeros(1, 3, 16, 16), 0.5, target="parameters"
    )
    assert report.achieved == pytest.approx(0.5, rel=0.02)


def test_moved_widths_keep_the_channels_with_the_highest_scores() -> None:
    net = network("convnet", (8, 16))
    given_weights = copy.deepcopy(net.get_submodule("conv1").weight).detach()  # type: ignore[arg-type]
    scores = lambda model: lambda group: torch.arange(len(group[0].idxs)).float()  # noqa: E731
    prune_channels(net, torch.zeros(1, 3, 16, 16), 0.7, target="parameters", importance=scores)
    kept = net.get_submodule("conv1").weight
    assert 0 < len(kept) < 8  # type: ignore[arg-type]
    assert torch.equal(kept, given_weights[-len(kept) :])  # type: ignore[arg-type]


def test_where_nothing_reaches_it_the_two_nearest_of_all_that_was_tried_are_named() -> None:
    """One width only: 7 of 10 units are 0.7 of what depends on it, 8 are 0.8."""
    net = network("mlp", (10,))
    whole = counted("mlp", "parameters", [10])
    nearest = [counted("mlp", "parameters", [n]) / whole for n in (7, 8)]
    with pytest.raises(CompressitError) as error:
        prune_channels(net, torch.zeros(1, 1, 12, 12), 0.75, target="parameters")
    assert f"the nearest are {nearest[0]:.3g} and {nearest[1]:.3g}" in error.value.message
    assert "target: channels" in str(error.value.hint)
