"""`shrink.thin`: a uniformly narrower net that costs what the given one costs, as a control for which parts went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from compressit import Compressor, Config, ModelRef, NoEffectError, Work, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext

Cost = Literal["macs", "parameters", "nonzero"]


class ThinConfig(Config):
    """Options of `shrink.thin`."""

    of: ModelRef = Field(
        description="the model to make narrower, usually what the given one was compressed from"
    )
    match: Literal["auto", "macs", "parameters", "nonzero"] = Field(
        default="auto",
        description="what to match of the given model: MACs, parameters, or parameters that are not zero; auto: MACs "
        "if it has fewer than `of`, else what is not zero",
    )


class Thin(Compressor[ThinConfig]):
    """A narrower net with fresh weights that costs what the given one costs: the control for how a net was pruned."""

    name = "shrink.thin"
    example: ClassVar[Mapping[str, Any]] = {"of": "wide"}

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Every width of `of` shrinks by the same share, to within 2 % of the given model's cost, or as near as widths
        allow: `requested` and `achieved` are noted, as fractions of what `of` has of `matched`.

        Raises NoEffectError if the given model does not cost less, and CompressitError if `of` cannot be traced or a
        layer cannot be given fresh weights.
        """
        from compressit_plugins.shrink.thinner import share_of, thinner

        wide = ctx.model(self.config.of)
        matched, share = share_of(model, wide, self.config.match, ctx.data.contract.inputs)
        if share >= 1:
            raise NoEffectError(
                f"the given model has as many {matched} as '{self.config.of}', so no narrower net costs the same",
                "compress it first, or `match` something else; in `compare`, leave the control `thin` out",
            )
        net, report = thinner(wide, share, matched, ctx)
        trained = {name: p.requires_grad for name, p in model.named_parameters()}
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(trained.get(name, parameter.is_floating_point()))
        ctx.note(
            matched=matched,
            requested=share,
            achieved=report.achieved,
            widths={name: list(widths) for name, widths in report.widths.items()},
            skipped=dict(report.skipped),
        )
        return net

    def dry_run(self, model: nn.Module, ctx: StageContext) -> None:
        """Halves the widths of the given net, to find out whether such nets can be traced. The shapes are unknown: they
        depend on `of`."""
        from compressit_plugins.shrink.thinner import thinner

        thinner(model, 0.5, "parameters", ctx)

    def work(self, images: int, times: int) -> Work:
        """No training."""
        return Work(0, 1)


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    """Registers `shrink.thin`."""
    return [Thin]
