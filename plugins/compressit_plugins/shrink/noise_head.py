"""Gives a student its teacher's output layer."""

from __future__ import annotations

import torch
from torch import nn

from compressit import CompressitError, StageContext, tensors_of, zero_inputs
from compressit_plugins.shrink.skeleton import output_layer


def take_over_head(student: nn.Module, teacher: nn.Module, ctx: StageContext) -> None:
    """Copies the teacher's output layer into the student's, in place: biases, and of the weights those of as many
    inputs as the student's layer has, the ones of the largest norm, in their order.

    The layers before are fresh, so no unit of theirs has a counterpart: what the student gets is directions, among
    the outputs, that can make up the teacher's logits. Raises CompressitError if the layers differ in kind or outputs,
    or the student's has more inputs.
    """
    example = tensors_of(zero_inputs(ctx.data.contract.inputs, 2))[0].to(ctx.compute.device)
    nets = (ctx.compute.placed(student), teacher)
    ours, theirs = (output_layer(net, lambda net=net: ctx.compute.forward(net, example)) for net in nets)
    here, there = ours.weight, theirs.weight
    if type(ours) is not type(theirs) or here.shape[0] != there.shape[0] or here.shape[2:] != there.shape[2:]:
        raise CompressitError(
            f"the teacher's output layer is {theirs}, and the student's {ours}: it does not fit",
            "set `head: fresh`",
        )
    if here.shape[1] > there.shape[1]:
        raise CompressitError(
            f"the student's output layer has {here.shape[1]} inputs, and the teacher's {there.shape[1]}: there are not "
            "enough to take over",
            "set `head: fresh`, or make the student narrower",
        )
    norms = there.detach().flatten(2).norm(dim=2) if there.ndim > 2 else there.detach()
    kept = norms.norm(dim=0).topk(here.shape[1]).indices.sort().values
    with torch.no_grad():
        here.copy_(there.index_select(1, kept))
        if ours.bias is not None and theirs.bias is not None:
            ours.bias.copy_(theirs.bias)
