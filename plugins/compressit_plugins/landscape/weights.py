"""The weights of a net in one flat vector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressit import CompressitError, StageContext, copied, pruned_zeros


@dataclass(frozen=True)
class FlatWeights:
    """Where each weight of a net is in a vector (n,).

    In it are all parameters with `requires_grad`; of a net where none has it, all of floats. Pruned weights are left
    out: for the vector they do not exist, and what is made of it has zeros there.
    """

    shapes: Mapping[str, torch.Size]  # of the parameters in it, by name, in the net's order
    kept: (
        Tensor | None
    )  # (n,) int64: the places of the vector among all values of these; None where all are in it

    @staticmethod
    def of(model: nn.Module, ctx: StageContext) -> FlatWeights:
        """The layout for a net; pruned are the zeros that `keeping_zeros` would keep.

        Raises CompressitError for a net without parameters of floats.
        """
        floats = {name: p for name, p in model.named_parameters() if p.is_floating_point()}
        chosen = {name: p for name, p in floats.items() if p.requires_grad} or floats
        if not chosen:
            raise CompressitError(
                f"{type(model).__name__} has no weights to look at", "use a net with layers"
            )
        masks = {} if ctx.fresh else pruned_zeros(model)
        masks = {name: mask for name, mask in masks.items() if name in chosen}
        kept = None
        if masks:
            gone = [
                masks[n] if n in masks else torch.zeros_like(p, dtype=torch.bool) for n, p in chosen.items()
            ]
            kept = (~torch.cat([part.flatten() for part in gone])).nonzero().flatten()
        return FlatWeights({name: p.shape for name, p in chosen.items()}, kept)

    def __len__(self) -> int:
        """The number of weights in the vector, n."""
        return self._values if self.kept is None else len(self.kept)

    @property
    def pruned(self) -> int:
        """How many weights are left out because they are pruned."""
        return self._values - len(self)

    @property
    def _values(self) -> int:
        return sum(shape.numel() for shape in self.shapes.values())

    def flat(self, model: nn.Module, dtype: torch.dtype | None = None) -> Tensor:
        """The weights of this net, or of another one with its shapes, as a new vector (n,)."""
        there = dict(model.named_parameters())
        return self.joined(there[name].detach() for name in self.shapes).to(dtype)

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """A vector (n,) as parameters by name, differentiable; pruned ones are zero."""
        full = vector
        if self.kept is not None:
            full = vector.new_zeros(self._values).index_copy(0, self.kept, vector)
        parts = full.split([shape.numel() for shape in self.shapes.values()])
        return {
            name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def net(self, model: nn.Module, vector: Tensor) -> nn.Module:
        """A copy of the net with these weights (n,)."""
        made = copied(model)
        there = dict(made.named_parameters())
        with torch.no_grad():
            for name, value in self.named(vector).items():
                there[name].copy_(value)
        return made

    def matrices(self) -> Tensor:
        """Which entries of the vector are of matrices and kernels, (n,) bool: not biases, nor scales of norms."""
        return self.joined(torch.full(shape, len(shape) > 1) for shape in self.shapes.values())

    def joined(self, values: Iterable[Tensor]) -> Tensor:
        """What stands in the parameters' shapes, in their order, as a vector (n,)."""
        full = torch.cat([value.flatten() for value in values])
        return full if self.kept is None else full.index_select(0, self.kept.to(full.device))
