"""Process-wide settings that affect computation: read before a plugin runs, restored afterwards.

Global random numbers are not among them: `rng` gives every plugin its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Mapping
from typing import Any

import torch


class _Output:
    """The file behind a file descriptor. If a plugin closes it, the next opened file gets its number and receives
    what is printed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._kept = self._file = None
        with contextlib.suppress(OSError):  # it is closed
            self._file = os.fstat(descriptor)[1:3]  # inode and device
            self._kept = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)  # a duplicate, at least 10

    def restore(self) -> None:
        """Makes the descriptor refer to this file again."""
        if self._kept is not None:
            os.dup2(self._kept, self._descriptor)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Output) and self._file == other._file

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return "closed" if self._file is None else "another file"

    def __del__(self) -> None:
        if self._kept is not None:
            with contextlib.suppress(OSError):  # a plugin closed it
                os.close(self._kept)


def _folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed, so it cannot be restored
        return "/"


SETTINGS: Mapping[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "threads": (torch.get_num_threads, torch.set_num_threads),
    "deterministic algorithms": (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    "anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "fast attention": (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled),
    "float32 matmul precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "cudnn.benchmark": (
        lambda: torch.backends.cudnn.benchmark, lambda on: setattr(torch.backends.cudnn, "benchmark", on),
    ),
    "default device": (
        torch.get_default_device,
        lambda device: torch.set_default_device(None if device.type == "cpu" else device),
    ),
    "working folder": (_folder, os.chdir),
    "recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
    "standard output": (lambda: _Output(1), lambda output: output.restore()),
    "standard error": (lambda: _Output(2), lambda output: output.restore()),
}  # fmt: skip
"""Getter and setter of each setting, by name."""


_NEW: Mapping[str, Any] = {
    "gradients": True,
    "default dtype": torch.float32,
    "deterministic algorithms": 0,
    "anomaly detection": False,
    "fast attention": True,
    "float32 matmul precision": "highest",
    "cudnn.benchmark": False,
    "default device": torch.device("cpu"),
}
"""What these settings are in a process that has just started."""


def start_anew() -> None:
    """In a session, or a process that was forked from it: the settings as they were before the session changed them."""
    put_back({**read(), **_NEW})


@contextlib.contextmanager
def borrowed() -> Generator[None]:
    """A block with the settings of a new process, in a session that finds its own afterwards: these, and its
    environment, warning filters, signal handlers and standard streams."""
    before, environment = read(), dict(os.environ)
    streams = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")}
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    with warnings.catch_warnings():
        start_anew()
        try:
            yield
        finally:
            put_back(before)
            for name, stream in streams.items():
                setattr(sys, name, stream)
            for name in os.environ.keys() - environment.keys():
                del os.environ[name]
            os.environ.update(environment)
            for number, handler in handlers.items():
                if handler is not None and signal.getsignal(number) != handler:  # None: not set from Python
                    signal.signal(number, handler)


def read() -> dict[str, Any]:
    """The current settings."""
    return {name: get() for name, (get, _) in SETTINGS.items()}


def put_back(before: Mapping[str, Any]) -> list[str]:
    """Restores all settings that differ from `before`; returns them, as `default dtype (now torch.float64)`."""
    now = read()
    other = [name for name in SETTINGS if now[name] != before[name]]
    for name in other:
        SETTINGS[name][1](before[name])
    return [f"{name} (now {now[name]})" for name in other]
