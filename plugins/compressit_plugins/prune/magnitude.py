"""`prune.magnitude`: zero the weights that matter least."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from compressit import Compressor, Task, Work, counted, hookimpl
from compressit_plugins.prune.options import MagnitudeConfig

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext
    from compressit_plugins.prune.masks import Pruning


class Magnitude(Compressor[MagnitudeConfig]):
    """Zero the weights that matter least, at once or during a training. The model becomes sparse, not smaller."""

    name = "prune.magnitude"
    example: ClassVar[Mapping[str, Any]] = {"sparsity": 0.5, "finetune": {"epochs": 2, "batch_size": 32}}

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """What is zero never comes back. Raises NoEffectError if a glob matches nothing or no weight would change, and
        CompressitError if `sparsity` is out of reach or the score cannot be had for this net."""
        from compressit_plugins.prune.masks import no_effect
        from compressit_plugins.prune.shares import requested
        from compressit_plugins.prune.sparsify import sparsify
        from compressit_plugins.prune.weights import others

        config, pruning = self.config, self._pruning(model, ctx.round or 1)
        stay = others(model, pruning.weights)
        if stay:
            shown = ", ".join(stay[:5]) + (", …" if len(stay) > 5 else "")
            left = f"{counted(len(stay), 'parameter')} that are not the weight matrix of a layer"
            ctx.emit({"announce": f"{self.name} does not prune {left}: {shown} (select them with `also`)"})
        if not pruning.is_short():
            raise no_effect(config.sparsity, pruning.selected)
        sparsify(model, ctx, config, pruning)
        sizes = {name: weight.numel() for name, weight in pruning.weights.items()}
        ctx.note(
            requested=requested(sizes, *config.shares(ctx.round or 1)),
            **pruning.facts(),
            **({"others": stay} if stay else {}),
        )
        return model

    def dry_run(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Zeroes as many weights, the smallest, so that a later stage that refuses zeros is found. Raises NoEffectError
        if a glob matches nothing, or if the sparsity changes nothing for any weights, and CompressitError if
        `sparsities` leave it out of reach, or the score cannot be had for this net."""
        from compressit_plugins.prune.masks import tried
        from compressit_plugins.prune.sparsify import refuse

        pruning = tried(partial(self._pruning, model), ctx, self.config.sparsity)
        refuse(model, ctx, self.config, pruning)
        pruning.zero()
        return model

    def _pruning(self, model: nn.Module, times: int) -> Pruning:
        from compressit_plugins.prune.masks import Pruning

        config = self.config
        share, shares = config.shares(times)
        return Pruning.of(model, share, config.compared, config.include, config.exclude, config.also, shares)

    def alternatives(self) -> Mapping[str, MagnitudeConfig]:
        """As many zeros, compared with the same weights, by chance or the smallest."""
        config = self.config
        scope = "row" if config.compared == "row" else config.scope  # which is a default of wanda alone
        seen = type(config).model_fields["calibration"].default
        return {
            score: config.model_copy(update={"score": score, "scope": scope, "calibration": seen})
            for score in ("random", "magnitude")
        }

    def misfits(self, task: Task[Any]) -> Mapping[str, str]:
        """What of the teacher's options the task cannot do."""
        return self.config.unlike(task)

    def work(self, images: int, times: int) -> Work:
        """Only the training of `finetune`, if set; what its teachers see as `forwards`."""
        options = self.config.finetune
        if options is None:
            return Work(0, 1)
        taught, epochs = self.config.distill, options.total_epochs(images)
        seen = 0 if taught is None else taught.forwards(images, epochs)
        return Work(options.total_steps(images), options.images_per_step(images), forwards=seen)


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    """Registers `prune.magnitude`."""
    return [Magnitude]
