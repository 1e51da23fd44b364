"""`train.scratch`: training of a net's shape from fresh weights, as a control for what its weights are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit import Trainer, hookimpl
from compressit_plugins.train.supervised import Supervised

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class Scratch(Supervised):
    """Training from fresh weights of the same shapes, where pruned weights stay zero: the control for pruning."""

    name = "train.scratch"

    def train(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Otherwise as `train.supervised`. After Liu et al., "Rethinking the value of network pruning" (2019).

        The weights are those that the model plugin draws, or, where shapes have changed, each layer's own
        `reset_parameters`; frozen parameters keep their values. Raises CompressitError for a layer without it, if no
        model plugin built the net.
        """
        import torch

        from compressit import pruned_zeros
        from compressit_plugins.train.fresh_weights import redraw_as_built

        zeros = {} if ctx.fresh else pruned_zeros(model)
        redraw_as_built(model, ctx)
        ctx.note(fresh_weights=True)
        with torch.no_grad():
            for name, mask in zeros.items():
                model.get_parameter(name).masked_fill_(mask, 0)
        return super().train(model, ctx)


@hookimpl
def compressit_trainers() -> list[type[Trainer]]:
    return [Scratch]
