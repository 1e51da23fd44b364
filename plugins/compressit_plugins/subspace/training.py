"""Training in a random subspace, on a sphere, or on a sphere within a subspace."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compressit import StageContext
from compressit_plugins.subspace.bases import check_size, drawn
from compressit_plugins.subspace.confined import confined
from compressit_plugins.subspace.norms import glorot_radius, norm, radius_of, trained, zeros_to_keep
from compressit_plugins.subspace.options import SphereConfig, SubspaceConfig
from compressit_plugins.train.early_stopping import fit_early, supervise

_ANSWERED = 2000  # training examples of which the scale of the outputs is measured


def on_sphere(model: nn.Module, ctx: StageContext, options: SphereConfig) -> nn.Module:
    """Trains `model` in place: rescaled to the radius at the start and after every step.

    Notes `radius`, a norm, and `glorot_radii`, the same as a multiple; `output_scale`; `zeros_kept`."""
    masks = zeros_to_keep(model, ctx, options.keep_zeros)
    radius = radius_of(model, options.radius, masks)
    weights = list(trained(model).values())

    @torch.no_grad()
    def rescale(*step: object) -> None:
        factor = radius / norm(weights)
        for weight in weights:
            weight.mul_(factor)

    ctx.compute.placed(model)
    rescale()
    train = ctx.data.train
    supervise(model, ctx, options, train, ctx.task.objective(train.y), rescale)
    _note_sphere(model, ctx, radius, masks)
    return model.eval()


def in_subspace(model: nn.Module, ctx: StageContext, options: SubspaceConfig) -> nn.Module:
    """Trains `model` in place within a subspace that is drawn from the stage's stream "basis".

    Notes `subspace_of`, the number of weights that it lies in, and `zeros_kept`; with a radius what `on_sphere` notes.
    """
    model, compute, train = ctx.compute.placed(model), ctx.compute, ctx.data.train
    masks = zeros_to_keep(model, ctx, options.keep_zeros)
    radius = None if options.radius is None else radius_of(model, options.radius, masks)
    kept = places(model, masks)
    count = sum(map(len, kept.values()))
    check_size(options.basis, count, options.dimension, compute.dtype)
    generator = ctx.streams.generator("basis")
    basis = drawn(options.basis, count, options.dimension, generator, compute.device, compute.dtype)
    ctx.note(subspace_of=count)
    if masks:
        ctx.note(zeros_kept=sum(int(mask.sum()) for mask in masks.values()))
    with confined(model, basis, kept, options.dimension, radius) as inside:
        loss = ctx.task.objective(train.y)
        fit_early(inside, ctx, options, train, loss, lambda *step: inside.return_to_sphere())
    if radius is not None:
        _note_sphere(model, ctx, radius, masks)
    return model.eval()


def check_subspace(model: nn.Module, ctx: StageContext, options: SubspaceConfig) -> None:
    """Raises CompressitError if `in_subspace` can never work on a net of these shapes. Of a net that will be pruned
    it is not known yet how many weights are left."""
    if not zeros_to_keep(model, ctx, options.keep_zeros):
        count = sum(weight.numel() for weight in trained(model).values())
        check_size(options.basis, count, options.dimension, ctx.compute.dtype)


def places(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """For each parameter that learns where its weights are that are not pruned: flat, ascending, int64."""
    return {
        name: (~masks[name]).flatten().nonzero().flatten()
        if name in masks
        else torch.arange(weight.numel(), device=weight.device)
        for name, weight in trained(model).items()
    }


def _note_sphere(model: nn.Module, ctx: StageContext, radius: float, masks: Mapping[str, Tensor]) -> None:
    train = ctx.data.train
    outputs = ctx.compute.forward(model, train.some(_ANSWERED)).flatten(1)
    ctx.note(
        radius=radius, output_scale=float((outputs - outputs.mean(1, keepdim=True)).square().mean().sqrt())
    )
    if unit := glorot_radius(model, masks):
        ctx.note(glorot_radii=radius / unit)
