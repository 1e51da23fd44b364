"""Nets that do what nets of other people do."""

from __future__ import annotations

import collections
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

Named = collections.namedtuple("Named", "logits aux")


def plain() -> nn.Sequential:
    """For inputs of (1, 8, 8) and 10 classes."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))


class KeepsFeatures(nn.Module):
    """Grad-CAM's, a mixture of experts' loss: results of the last forward pass, some deep inside."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.head = nn.Conv2d(1, 16, 3), nn.Linear(16, 10)
        self.seen: dict[str, list[Tensor]] = {}
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, x: Tensor) -> Tensor:
        self.features = F.relu(self.a(x))
        self.seen["last"] = [self.features.mean((2, 3))]
        self.mean = self.seen["last"][0].mean(0)
        return self.head(self.seen["last"][0])


class Outputs(nn.Module):
    """Gives its logits in another shape."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.net, self.kind = plain(), kind

    def forward(self, x: Tensor) -> Any:
        logits = self.net(x)
        match self.kind:
            case "tuple":
                return logits, logits
            case "named":
                return Named(logits, None)
            case "dict":
                return {"logits": logits}
            case "training":
                return (logits, logits) if self.training else logits
            case "few":
                return logits[:, :5]
            case _:
                return logits[:, :, None, None]


class ViewInside(nn.Module):
    """A layer's weight is a view of a parameter, made once or in every forward pass."""

    def __init__(self, once: bool) -> None:
        super().__init__()
        self.bank, self.a, self.once = nn.Parameter(torch.randn(640) / 8), nn.Linear(64, 10), once
        del self.a._parameters["weight"]
        if once:
            self.a.weight = self.bank.view(10, 64)  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        if not self.once:
            self.a.weight = self.bank.view(10, 64)  # type: ignore[assignment]
        return self.a(x.flatten(1))


class ViewGiven(nn.Module):
    """A layer is given a view of a parameter as its input."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm, self.a = nn.Parameter(torch.randn(64)), nn.LayerNorm(64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x.flatten(1) + self.norm(self.table.view(1, 64)))


class MadeInForward(nn.Module):
    """A buffer that its first forward pass makes."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "table"):
            self.register_buffer("table", torch.zeros(64))
        return self.a(x.flatten(1) + self.table)


class KeepsGenerator(nn.Module):
    """Something that nobody can copy."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        self.inner.steps = (i for i in range(3))  # type: ignore[assignment]
        return self.inner(x)


class HiddenLayer(nn.Module):
    """A layer in a list of Python's own, where torch does not see it."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.more = plain(), [nn.Linear(10, 10)]

    def forward(self, x: Tensor) -> Tensor:
        return self.more[0](self.net(x))


class InPlace(nn.Module):
    """Changes what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(0.5)


class Permutes(nn.Module):
    """Keeps numbers of places among its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.net = nn.Parameter(torch.arange(10).flip(0), requires_grad=False), plain()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[:, self.places]


class Complex(nn.Module):
    """Has complex weights and real outputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.head = nn.Linear(64, 16, dtype=torch.complex64), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.a(x.flatten(1).to(torch.complex64)).abs())


def masked() -> nn.Module:
    net = plain()
    prune.l1_unstructured(net[4], "weight", 0.5)
    return net


def normed() -> nn.Module:
    net = plain()
    torch.nn.utils.weight_norm(net[4])
    return net


def lazy() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(10))
