"""Finds the parameters of a model that are weight matrices of its layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.utils import parametrize

from compressit import CompressitError, NoEffectError, did_you_mean

_ONE_WEIGHT = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)  # pyright: ignore[reportPrivateUsage]
_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


def select_weights(
    model: nn.Module,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    also: Sequence[str] = (),
) -> dict[str, nn.Parameter]:
    """Weight matrices that match a glob of `include` by their own name or the name of a module that holds them, and
    other parameters of at least two dimensions that match a glob of `also`; without those that match `exclude`.

    Weight matrices are found by the type of their layer, including subclasses: weights of linear, bilinear,
    (transposed) convolutional and recurrent layers, and projections of `nn.MultiheadAttention`. Embeddings, scales,
    class tokens, position tables and parameters of custom layers are others: only `also` selects them.
    Tied parameters occur once, by their first name, and may match by any of their names. A weight that a linear layer
    shares with an embedding is a weight matrix.

    Raises NoEffectError that names the glob if a glob matches no such parameter, and if no parameter is left;
    CompressitError for a selected weight that is computed from other tensors (masked, parametrised).
    """
    names = _names(model)
    matrices, made = _matrices(model)
    first = {n: p for n, p in model.named_parameters() if p.ndim >= 2}
    weights = {n: p for n, p in first.items() if id(p) in matrices}
    others = {n: p for n, p in first.items() if id(p) not in matrices}

    def matching(among: dict[str, nn.Parameter], globs: Sequence[str]) -> set[str]:
        return {n for n, p in among.items() if any(matches(name, globs) for name in names[id(p)])}

    for glob in include:
        if not matching(weights, [glob]) and not any(matches(name, [glob]) for name in made):
            raise _no_weight(glob, matching(others, [glob]), weights)
    for globs, among in ((exclude, first), (also, others)):
        for glob in globs:
            if not matching(among, [glob]) and not any(matches(name, [glob]) for name in made):
                raise NoEffectError(f"'{glob}' matches no weight of the model", did_you_mean(glob, among))
    for name, why in made.items():
        if matches(name, include) and not matches(name, exclude):
            raise CompressitError(
                f"weights cannot be zeroed: {name} is {why[0]}", f"{why[1]}, or `exclude` it"
            )
    chosen = (matching(weights, include) | matching(others, also)) - matching(first, exclude)
    if not chosen:
        raise NoEffectError(
            f"exclude ({', '.join(exclude)}) removes everything that include ({', '.join(include)}) selects"
        )
    return {name: first[name] for name in first if name in chosen}


def others(model: nn.Module, chosen: Iterable[str] = ()) -> list[str]:
    """Parameters of at least two dimensions that are not a layer's weight matrix, without the chosen ones."""
    matrices, _ = _matrices(model)
    taken = set(chosen)
    return [
        n for n, p in model.named_parameters() if p.ndim >= 2 and id(p) not in matrices and n not in taken
    ]


def _no_weight(glob: str, beside: set[str], weights: dict[str, nn.Parameter]) -> NoEffectError:
    shown = ", ".join(sorted(beside)[:3])
    return NoEffectError(
        f"'{glob}' matches no weight matrix of a layer in the model",
        f"{shown} is not a weight matrix: select it with `also`" if beside else did_you_mean(glob, weights),
    )


def _matrices(model: nn.Module) -> tuple[set[int], dict[str, tuple[str, str]]]:
    """The ids of parameters that are weight matrices; and by name the computed weight matrices, with the remedy."""
    matrices: set[int] = set()
    made: dict[str, tuple[str, str]] = {}
    for at, layer in model.named_modules():
        for own in _own(layer):
            value = layer._parameters.get(own)  # pyright: ignore[reportPrivateUsage]
            if value is not None:
                matrices.add(id(value))
            elif getattr(layer, own, None) is not None:
                plain = "not a parameter of its layer", "make the layer's weight a plain parameter"
                made[f"{at}.{own}".lstrip(".")] = computed(layer) or plain
    return matrices, made


def _own(layer: nn.Module) -> Iterator[str]:
    if isinstance(layer, nn.RNNBase):
        yield from (own for part in layer._all_weights for own in part if own.startswith("weight"))  # pyright: ignore
    elif isinstance(layer, nn.RNNCellBase):
        yield from ("weight_ih", "weight_hh")
    elif isinstance(layer, nn.MultiheadAttention):
        yield from _ATTENTION
    elif isinstance(layer, _ONE_WEIGHT):
        yield "weight"


def computed(layer: nn.Module) -> tuple[str, str] | None:
    """If a layer's weights are computed from other tensors in every pass: what they are, and the remedy; else None."""
    hooks = {type(hook).__module__ for hook in layer._forward_pre_hooks.values()}  # pyright: ignore[reportPrivateUsage]
    if "torch.nn.utils.prune" in hooks:
        return "masked by torch.nn.utils.prune", "call torch.nn.utils.prune.remove on its layer first"
    if parametrize.is_parametrized(layer) or any(hook.startswith("torch.nn.utils.") for hook in hooks):
        return (
            "parametrised (weight_norm, spectral_norm): computed from other tensors in every pass",
            "make it a plain parameter first, with torch.nn.utils.parametrize.remove_parametrizations or "
            "remove_weight_norm",
        )
    return None


def _names(model: nn.Module) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return names


def matches(parameter: str, globs: Iterable[str]) -> bool:
    """Whether a glob matches a parameter's name, or the name of a module that holds it."""
    parts = parameter.split(".")
    names = [".".join(parts[: end + 1]) for end in range(len(parts))]  # enclosing modules, then the parameter
    return any(fnmatchcase(name, glob) for name in names for glob in globs)
