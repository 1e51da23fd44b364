"""Narrows all widths of a net by one share, to a requested cost, with fresh weights."""

from __future__ import annotations

from torch import nn

from compressit import Inputs, StageContext, copied, macs, nonzero, parameters
from compressit_plugins.prune.channels import PruneReport, prune_channels
from compressit_plugins.prune.one_input import one_input
from compressit_plugins.train.fresh_weights import as_built, redraw


def share_of(model: nn.Module, wide: nn.Module, match: str, inputs: Inputs) -> tuple[str, float]:
    """What to match (`auto` chooses), and how much of it `model` has, as a fraction of what a dense `wide` has."""
    costs = {
        "macs": macs(model, inputs) / max(macs(wide, inputs), 1),
        "parameters": parameters(model) / parameters(wide),
        "nonzero": nonzero(model) / parameters(wide),
    }
    chosen = ("macs" if costs["macs"] < 1 else "nonzero") if match == "auto" else match
    return chosen, costs[chosen]


def thinner(wide: nn.Module, share: float, matched: str, ctx: StageContext) -> tuple[nn.Module, PruneReport]:
    """A copy of `wide` with that share of its MACs, or else of its parameters, and fresh weights from the stage's
    stream "student". All its parameters learn. Raises as `prune_channels` and `redraw` do."""
    net = copied(wide).train()
    for parameter in net.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    target = "macs" if matched == "macs" else "parameters"
    net, report = prune_channels(net, one_input(net, ctx), share, target=target, exact=False)
    redraw(net, ctx.streams.number("student", ctx.init.draw or None), ctx.init, as_built(ctx))
    return net, report
