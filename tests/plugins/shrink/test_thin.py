"""`shrink.thin`: all widths by one share, to the cost of another net. Costs by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from plugin_lab import Lab
from torch import nn
from torchvision.models import VisionTransformer

from compressit.errors import CompressitError, NoEffectError
from compressit_plugins.prune.channels import prune_channels
from compressit_plugins.prune.masks import prune_smallest
from compressit_plugins.shrink.thin import Thin, ThinConfig

AUTO = ThinConfig(of="train")


def widths(net: nn.Module) -> tuple[int, ...]:
    return tuple(m.out_features for m in net.modules() if isinstance(m, nn.Linear))[:-1]


def mlp_macs(one: int, two: int) -> int:
    return 64 * one + one * two + two * 10


def mlp_parameters(one: int, two: int) -> int:
    return mlp_macs(one, two) + one + two + 10


@pytest.mark.parametrize("given", [(150, 50), (40, 90), (250, 3)])
def test_a_smaller_net_is_matched_in_macs_by_one_share_of_all_widths(
    lab: Lab, given: tuple[int, int]
) -> None:
    wide = lab.mlp(300, 100)
    ctx = lab.context({"train": wide}, data=lab.data())
    one, two = widths(Thin(AUTO).compress(lab.mlp(*given), ctx))
    assert mlp_macs(one, two) == pytest.approx(mlp_macs(*given), rel=0.02)
    assert abs(one / 300 - two / 100) < 0.03
    assert ctx.notes["matched"] == "macs"
    assert ctx.notes["requested"] == pytest.approx(mlp_macs(*given) / mlp_macs(300, 100))
    assert ctx.notes["achieved"] == pytest.approx(mlp_macs(one, two) / mlp_macs(300, 100))


def test_a_sparse_net_is_matched_in_what_is_not_zero(lab: Lab) -> None:
    sparse = lab.mlp(300, 100)
    prune_smallest(sparse, 0.9)
    left = mlp_parameters(300, 100) - round(0.9 * mlp_macs(300, 100))
    ctx = lab.context({"train": lab.mlp(300, 100)}, data=lab.data())
    one, two = widths(Thin(AUTO).compress(sparse, ctx))
    assert mlp_parameters(one, two) == pytest.approx(left, rel=0.02)
    assert ctx.notes["matched"] == "nonzero"


def test_parameters_can_be_matched_instead(lab: Lab) -> None:
    ctx = lab.context({"train": lab.mlp(300, 100)}, data=lab.data())
    one, two = widths(Thin(ThinConfig(of="train", match="parameters")).compress(lab.mlp(40, 90), ctx))
    assert mlp_parameters(one, two) == pytest.approx(mlp_parameters(40, 90), rel=0.02)


def test_the_weights_are_fresh_and_the_wide_net_stays_as_it_is(lab: Lab, device: str) -> None:
    thin = []
    for seed in (0, 1):
        wide = lab.mlp(60, 30, seed=seed).to(device)
        before = copy.deepcopy(wide)
        ctx = lab.context({"train": wide}, data=lab.data(device), device=device)
        thin.append(Thin(AUTO).compress(lab.mlp(30, 15).to(device), ctx))
        for one, other in zip(wide.parameters(), before.parameters(), strict=True):
            assert torch.equal(one, other)
    for one, two in zip(*(net.parameters() for net in thin), strict=True):
        assert torch.equal(one, two)
        assert one.requires_grad


def test_where_no_width_comes_near_the_nearest_is_taken_and_said(lab: Lab) -> None:
    ctx = lab.context({"train": lab.mlp(4)}, data=lab.data())
    (width,) = widths(Thin(ThinConfig(of="train", match="parameters")).compress(lab.mlp(2, 2), ctx))
    wanted = 64 * 2 + 2 * 2 + 2 * 10 + 14  # of 74 * width + 10 + width, so 2.1 units
    assert width == 2
    assert ctx.notes["requested"] == pytest.approx(wanted / (75 * 4 + 10))
    assert ctx.notes["achieved"] == pytest.approx((75 * 2 + 10) / (75 * 4 + 10))


def test_a_net_that_costs_as_much_has_no_thinner_one(lab: Lab) -> None:
    ctx = lab.context({"train": lab.mlp(20)}, data=lab.data())
    with pytest.raises(NoEffectError, match="as many nonzero as 'train'"):
        Thin(AUTO).compress(lab.mlp(20, seed=1), ctx)


def test_a_dry_run_finds_out_what_cannot_be_narrowed(lab: Lab) -> None:
    class Opaque(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(x), 10)

    assert Thin(AUTO).dry_run(lab.mlp(20), lab.context(data=lab.data())) is None
    with pytest.raises(CompressitError):
        Thin(AUTO).dry_run(Opaque(), lab.context(data=lab.data()))


def test_a_vision_transformer_is_narrowed_with_the_fresh_parameters_of_its_builder(lab: Lab) -> None:
    def vit(seed: int) -> VisionTransformer:
        torch.manual_seed(seed)
        return VisionTransformer(8, 4, 2, 3, 24, 32, num_classes=10)

    wide, small, data = vit(0), vit(1), lab.data(shape=[3, 8, 8], train=32, test=8)
    prune_channels(small, torch.zeros(1, 3, 8, 8), 0.5)
    with pytest.raises(CompressitError, match="cannot be given fresh weights"):
        Thin(AUTO).compress(small, lab.context({"train": wide}, data=data))
    ctx = lab.context({"train": wide}, data=data, narrow=lambda multiplier, times: None if times else vit(5))
    net = Thin(AUTO).compress(small, ctx)
    assert net.hidden_dim < 24
    table = net.encoder.pos_embedding
    assert torch.equal(table, vit(5).encoder.pos_embedding[:, :, : table.shape[2]])
    assert net(torch.rand(2, 3, 8, 8)).shape == (2, 10)
