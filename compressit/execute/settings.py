"""Settings of the process by which everything in it computes: read before a plugin is called, put back after it.

Not the global random numbers: `draws` gives every plugin its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

SETTINGS: Mapping[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "threads": (torch.get_num_threads, torch.set_num_threads),
    "deterministic algorithms": (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    "anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "fast attention": (
        torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled,
    ),
    "float32 matmul precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "cudnn.benchmark": (
        lambda: torch.backends.cudnn.benchmark, lambda on: setattr(torch.backends.cudnn, "benchmark", on),
    ),
    "default device": (
        torch.get_default_device,
        lambda device: torch.set_default_device(None if device.type == "cpu" else device),
    ),
    "working folder": (lambda: _folder(), lambda folder: os.chdir(folder)),
}  # fmt: skip
"""By name: how to read it, and how to set it."""


def read() -> dict[str, Any]:
    """All settings as they are."""
    return {name: get() for name, (get, _) in SETTINGS.items()}


def put_back(before: Mapping[str, Any]) -> list[str]:
    """Sets what `read` gave wherever it is another now; tells each, as `default dtype (now torch.float64)`."""
    now = read()
    other = [name for name in SETTINGS if now[name] != before[name]]
    for name in other:
        SETTINGS[name][1](before[name])
    return [f"{name} (now {now[name]})" for name in other]


def _folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # somebody removed it: there is nothing to go back to
        return "/"
