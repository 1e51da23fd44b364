"""Checks of models."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator, Mapping
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from compressit.checkpoint import model as checkpoint
from compressit.checkpoint.manifest import Architecture
from compressit.checkpoint.tensors import same_bits
from compressit.config import dump
from compressit.contract import measure
from compressit.datasets.specs import TensorSpec
from compressit.errors import CompressitError
from compressit.running.rng import building
from compressit.testing.check import ConformanceError, NotApplicable, check, none_found
from compressit.testing.subject import Subject
from compressit.testing.watch import differing, quiet_place, tensors, watched

SHAPES = ((1, 8, 8), (3, 32, 32), (3, 224, 224), (16,))
"""Input shapes to try until the model accepts one."""
CLASSES = 4


@check("model")
def builds(subject: Subject) -> None:
    """It builds a net that computes logits in train and eval mode."""
    with _built(subject) as (net, x):
        for mode in (True, False):
            outputs = net.train(mode)(x)
            got = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
            if got != (len(x), CLASSES):
                raise ConformanceError(
                    f"for inputs of shape {tuple(x.shape)} and {CLASSES} classes its output is {got} "
                    f"in {'train' if mode else 'eval'} mode",
                    f"return logits of shape {(len(x), CLASSES)}",
                )
            if not bool(outputs.isfinite().all()):
                raise ConformanceError("with fresh weights, its outputs are not finite")


@check("model", needs=[builds])
def same_seed_same_weights(subject: Subject) -> None:
    """The same seed gives the same weights."""
    none_found(
        differing(tensors(_build(subject)), tensors(_build(subject))),
        "building it twice with the same seed gives different tensors",
        "draw from torch's global generator, which the host seeds",
    )


@check("model", needs=[builds])
def builds_offline(subject: Subject) -> None:
    """Building it opens no network connection."""
    with _no_network() as tried, contextlib.suppress(OSError, CompressitError):
        _build(subject)
    none_found(
        tried,
        "building it connects to",
        "loading a checkpoint must work offline; pretrained weights belong in the recipe: `model: {weights: …}`",
    )


@check("model", needs=[builds])
def restores_settings(subject: Subject) -> None:
    """Building it leaves process settings unchanged."""
    with quiet_place(subject), watched() as left:
        _build(subject)
    hint = "use a `with` block, or restore them in a `finally`"
    none_found(left["settings"], "it changed process settings and did not restore them", hint)


@check("model", needs=[builds])
def gradients_flow(subject: Subject) -> None:
    """Every parameter gets a gradient."""
    with _built(subject) as (net, x):
        nn.functional.cross_entropy(net.train()(x), torch.arange(len(x)) % CLASSES).backward()
    none_found(
        (name for name, p in net.named_parameters() if p.requires_grad and p.grad is None),
        "no gradient reaches",
        "look for a detach() or an unused layer",
    )
    none_found(
        (n for n, p in net.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())),
        "gradients are not finite",
    )


@check("model", needs=[builds])
def with_width(subject: Subject) -> None:
    """`with_width` returns valid options of a model with fewer parameters."""
    config = subject.create().with_width(0.5)
    if config is None:
        raise NotApplicable("it has no narrower form")
    if not isinstance(config, subject.plugin.Config):
        raise ConformanceError(
            f"`with_width` returned a {type(config).__name__}, not a {subject.plugin.Config.__name__}",
            "return self.config.model_copy(update={…})",
        )
    before, after = (measure.parameters(_build(subject, options)) for options in (None, dump(config)))
    if not after < before:
        raise ConformanceError(
            f"at half the width it has {after} parameters, at full width {before}",
            "return None if there is no narrower form",
        )


@check("model", needs=[same_seed_same_weights])
def saves_and_reloads(subject: Subject) -> None:
    """After saving and loading, its outputs are the same bit for bit."""
    path = subject.folder / "built.safetensors"
    with _built(subject) as (net, x):
        checkpoint.save(net, path, _architecture(subject), None, subject.host)
        loaded = checkpoint.load(path, host=subject.host)
        with torch.no_grad():
            wanted, got = net.eval()(x), loaded(x)
    if not same_bits(wanted, got):
        difference = float((wanted - got).abs().max())
        raise ConformanceError(f"the loaded model's outputs differ by up to {difference:.2g}")


def input_shape(subject: Subject) -> tuple[int, ...]:
    """The first of SHAPES that the model accepts. Raises ConformanceError if it accepts none."""
    return subject.keep("input shape", lambda: _input_shape(subject))


def _input_shape(subject: Subject) -> tuple[int, ...]:
    reasons: list[str] = []
    for shape in SHAPES:
        try:
            with quiet_place(subject), torch.random.fork_rng():
                subject.create().build(TensorSpec(shape), CLASSES).eval()(torch.rand(2, *shape))
            return shape
        except Exception as error:  # noqa: BLE001 - it may not accept this shape
            reasons.append(f"{shape}: {type(error).__name__}: {error}")
    raise ConformanceError("it accepts none of these input shapes. " + "; ".join(reasons))


def _architecture(subject: Subject, options: Mapping[str, Any] | None = None) -> Architecture:
    return Architecture(
        subject.name,
        dict(subject.options if options is None else options),
        TensorSpec(input_shape(subject)),
        CLASSES,
    )


def _build(subject: Subject, options: Mapping[str, Any] | None = None) -> nn.Module:
    """Builds it as the host does, always with the same seed."""
    with building(0):
        return checkpoint.build(_architecture(subject, options), subject.host)


@contextlib.contextmanager
def _built(subject: Subject) -> Generator[tuple[nn.Module, torch.Tensor]]:
    """A block with the net and six inputs, in an isolated environment."""
    shape = input_shape(subject)
    with quiet_place(subject), torch.random.fork_rng():
        yield _build(subject), torch.rand(6, *shape)


@contextlib.contextmanager
def _no_network() -> Generator[list[str]]:
    """Blocks connections and name lookups; yields the attempts."""
    tried: list[str] = []

    def refuse(*args: Any, **kwargs: Any) -> Any:
        address = args[1] if args and isinstance(args[0], socket.socket) else args[0]
        tried.append(str(address))
        raise OSError("no network while a model is built")

    with (
        patch.object(socket.socket, "connect", refuse),
        patch.object(socket.socket, "connect_ex", refuse),
        patch.object(socket, "getaddrinfo", refuse),
    ):
        yield tried
