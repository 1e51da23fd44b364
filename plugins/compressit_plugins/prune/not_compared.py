"""Lists what the comparison of a pruned net with the given one (see `oracle`) does not cover for this net."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import FunctionType

from torch import Tensor, nn

from compressit_plugins.prune.oracle import NORMS, Gap
from compressit_plugins.prune.surgery import Given


def unchecked(given: Given, pruned: nn.Module, trains: bool, gaps: Sequence[Gap]) -> list[str]:
    """A line for each thing that was not compared; empty if everything was.

    pruned: without storage if the net runs that way. trains: whether it runs in train mode. gaps: one for each step.
    """
    net, found = given.empty, list[str]()
    moody = _first(dict.fromkeys(type(m).__name__ for m in net.modules() if _reads_its_mode(m)))
    if moody:
        tried = "the pruned net runs in it but was not compared"
        untried = "the given net does not run in it on two zero inputs, so the pruned net was not tried"
        found.append(f"train mode ({moody}): {tried if trains else untried}")
    norms = _first(name for name, m in net.named_modules() if isinstance(m, NORMS) and _lost(pruned, name, m))
    if norms:
        found.append(
            f"statistics of norms across channels ({norms}): they are computed over the remaining channels"
        )
    if any(gap.rescaled for gap in gaps):
        found.append("scales of attention: they follow the remaining size of a head")
    if any(gap.weights == "given" for gap in gaps):
        found.append("random weights: they gave NaN or infinity, so only the net's own weights were compared")
    silent = _first(given.silent)
    if silent:
        found.append(f"layers that did not run ({silent}): channels that they may read kept their width")
    types = dict.fromkeys(str(p.dtype).removeprefix("torch.") for p in net.parameters())
    others = _first(name for name in types if name != "float32")
    if others:
        found.append(f"rounding in {others}: the comparison uses float32")
    return found


def _reads_its_mode(module: nn.Module) -> bool:
    """Whether the module's class, or a base class below nn.Module, reads `self.training` with any effect."""
    if not getattr(module, "track_running_stats", True) or 0 in (
        getattr(module, "p", None),
        getattr(module, "dropout", None),
    ):
        return False
    classes = type(module).__mro__[: type(module).__mro__.index(nn.Module)]
    functions = [f for cls in classes for f in vars(cls).values() if isinstance(f, FunctionType)]
    return any("training" in f.__code__.co_names for f in functions if f.__name__ not in ("train", "eval"))


def _lost(pruned: nn.Module, name: str, norm: nn.Module) -> bool:
    own, left = getattr(norm, "weight", None), getattr(pruned.get_submodule(name), "weight", None)
    return isinstance(own, Tensor) and isinstance(left, Tensor) and own.shape != left.shape


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
