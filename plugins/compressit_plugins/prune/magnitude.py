"""`prune.magnitude`: zero the smallest weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from compressit import Compressor, Config, FitConfig, Work, counted, hookimpl, ratio

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class MagnitudeConfig(Config):
    """Options of magnitude pruning."""

    sparsity: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="fraction of the selected weights that are zero after pruning",
        json_schema_extra=ratio(0.1, 0.98),
    )
    sparsities: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        default={},
        description="fractions of single weights, by globs like `include`, such as {fc1: 0.9, head: 0}: the others "
        "reach `sparsity` of all; of several globs that match, the last counts",
        json_schema_extra=ratio(0.1, 0.98, layers="layers"),
    )
    score: Literal["magnitude", "random"] = Field(
        default="magnitude",
        description="which weights to zero: the smallest (magnitude), or as many by chance (random), as a control; "
        "zeros count first",
    )
    scope: Literal["global", "layer"] = Field(
        default="global", description="compare weights across all selected layers, or within each layer"
    )
    include: tuple[str, ...] = Field(
        default=("*",),
        min_length=1,
        description="globs over names of weight matrices and of modules that hold them: weights of linear, bilinear, "
        "convolutional and recurrent layers and attention projections. Never matches biases, norms, embeddings, "
        "scales, class tokens, position tables and parameters of other layers",
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="globs like `include`, for weights that stay dense"
    )
    also: tuple[str, ...] = Field(
        default=(),
        description="globs like `include`, for other parameters of two or more dimensions, which are not the weight "
        "matrix of a layer",
    )
    finetune: FitConfig | None = Field(
        default=None, description="training after pruning that keeps the zeros; default: none"
    )


class Magnitude(Compressor[MagnitudeConfig]):
    """Zero the smallest weights in one shot. The model becomes sparse, not smaller."""

    name = "prune.magnitude"
    example: ClassVar[Mapping[str, Any]] = {"sparsity": 0.5, "finetune": {"epochs": 2, "batch_size": 32}}

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Raises NoEffectError if a glob matches nothing or no weight would change."""
        from compressit_plugins.prune.masks import finetune, prune_smallest
        from compressit_plugins.prune.shares import requested
        from compressit_plugins.prune.weights import others

        config = self.config
        chance = ctx.streams.generator("score") if config.score == "random" else None
        selection = (config.include, config.exclude, config.also)
        pruned = prune_smallest(model, config.sparsity, config.scope, *selection, chance, config.sparsities)
        stay = others(model, pruned)
        if stay:
            shown = ", ".join(stay[:5]) + (", …" if len(stay) > 5 else "")
            left = f"{counted(len(stay), 'parameter')} that are not the weight matrix of a layer"
            ctx.emit({"announce": f"{self.name} does not prune {left}: {shown} (select them with `also`)"})
        if empty := [name for name, mask in pruned.items() if bool(mask.all())]:
            why = "nothing passes there, and a later training does not keep such zeros"
            text = f"warning: {self.name} leaves nothing of {', '.join(empty[:5])}: {why} (`scope: layer` leaves some)"
            ctx.emit({"announce": text})
        if config.finetune is not None:
            finetune(model, ctx, config.finetune, pruned)
        zeros = {
            name: mask.numel() - int(model.get_parameter(name).count_nonzero())
            for name, mask in pruned.items()
        }
        selected = sum(mask.numel() for mask in pruned.values())
        ctx.note(
            requested=requested(
                {n: mask.numel() for n, mask in pruned.items()}, config.sparsity, config.sparsities
            ),
            achieved=sum(zeros.values()) / selected,
            zeros=sum(zeros.values()),
            selected=selected,
            layers={name: zeros[name] / mask.numel() for name, mask in pruned.items()},
            **({"others": stay} if stay else {}),
        )
        return model

    def dry_run(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Returns the model unchanged, since shapes stay. Raises NoEffectError if a glob matches nothing, or if the
        sparsity changes nothing for any weights, and CompressitError if `sparsities` leave it out of reach."""
        from compressit_plugins.prune.masks import no_effect
        from compressit_plugins.prune.shares import divided
        from compressit_plugins.prune.weights import select_weights

        config = self.config
        weights = select_weights(model, config.include, config.exclude, config.also)
        sizes = {name: weight.numel() for name, weight in weights.items()}
        parts = divided(sizes, config.sparsity, config.scope, config.sparsities)
        again = (ctx.round or 1) > 1 and ctx.feed == "previous"  # the previous round zeroed as many
        if again or not any(round(share * sum(sizes[name] for name in names)) for names, share in parts):
            raise no_effect(config.sparsity, sum(sizes.values()))
        return model

    def alternatives(self) -> Mapping[str, MagnitudeConfig]:
        """As many zeros, by chance or the smallest."""
        return {score: self.config.model_copy(update={"score": score}) for score in ("random", "magnitude")}

    def work(self, images: int, times: int) -> Work:
        """Only the training of `finetune`, if set."""
        options = self.config.finetune
        if options is None:
            return Work(0, 1)
        return Work(options.total_steps(images), options.images_per_step(images))


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    """Registers `prune.magnitude`."""
    return [Magnitude]
