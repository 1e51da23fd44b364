"""`prune.sparse_momentum`: a training at whose end most weights are next to nothing, and go."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from compressit import Compressor, Work, hookimpl
from compressit_plugins.prune.options import SparseMomentumConfig

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext
    from compressit_plugins.prune.masks import Pruning


class SparseMomentum(Compressor[SparseMomentumConfig]):
    """Train so that few weights do the work and the others decay, then zero those. It becomes sparse, not smaller.

    This is Global Sparse Momentum (GSM). What Dettmers & Zettlemoyer (2019) call sparse momentum, a training that stays
    sparse and grows weights by their momentum, is another method.
    """

    name = "prune.sparse_momentum"
    example: ClassVar[Mapping[str, Any]] = {"sparsity": 0.5, "epochs": 2, "batch_size": 32}

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Ding et al. 2019, "Global Sparse Momentum SGD for pruning very deep neural networks". Raises NoEffectError if
        a glob matches nothing or no weight would change."""
        from compressit_plugins.prune.masks import no_effect
        from compressit_plugins.prune.selective import condense

        pruning = self._pruning(model, ctx.round or 1)
        if not pruning.is_short():
            raise no_effect(self.config.sparsity, pruning.selected)
        condense(model, ctx, self.config, pruning)
        ctx.note(requested=self.config.share(ctx.round or 1), **pruning.facts())
        return model

    def dry_run(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Zeroes as many weights, the smallest, so that a later stage that refuses zeros is found. Raises NoEffectError
        if a glob matches nothing, or if the sparsity changes nothing for any weights."""
        from compressit_plugins.prune.masks import tried

        tried(partial(self._pruning, model), ctx, self.config.sparsity).zero()
        return model

    def _pruning(self, model: nn.Module, times: int) -> Pruning:
        from compressit_plugins.prune.masks import Pruning

        config = self.config
        return Pruning.of(
            model, config.share(times), config.scope, config.include, config.exclude, config.also
        )

    def work(self, images: int, times: int) -> Work:
        """The configured steps."""
        return Work(self.config.total_steps(images), self.config.images_per_step(images))


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    """Registers `prune.sparse_momentum`."""
    return [SparseMomentum]
