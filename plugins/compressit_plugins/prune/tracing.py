"""Guards for Torch-Pruning: rejects models that it cannot handle, and limits its time."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from torch import nn

from compressit import CompressitError
from compressit_plugins.prune.weights import computed

_WRAPPERS = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel")


def refuse_unprunable(model: nn.Module) -> None:
    """Raises CompressitError for models that Torch-Pruning would silently get wrong: compiled, scripted, wrapped,
    quantised, parametrised and masked ones, and recurrent layers. The error names the layer and the remedy."""
    for at, module in model.named_modules():
        fault = _fault(module)
        if fault is not None:
            what, remedy = fault
            raise CompressitError(f"channels cannot be pruned: {at or 'the model'} is {what}", remedy)


@contextmanager
def at_most(seconds: float, message: str, hint: str) -> Generator[None]:
    """Ends the block with CompressitError(message, hint) if it has not finished after `seconds`.

    Works in any thread of CPython: raises the exception in the block's thread between two bytecodes, and again every
    second in case a bare `except` swallows it. It cannot stop an endless call into C.
    """
    thread = threading.get_ident()
    sending = threading.Lock()  # held by the watcher while it interrupts, and by the block once it has ended
    finished = threading.Event()

    def watch() -> None:
        pause = seconds
        while not finished.wait(pause) and sending.acquire(blocking=False):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_TimeIsUp))
            sending.release()
            pause = 1.0

    threading.Thread(target=watch, daemon=True).start()
    try:
        try:
            yield
        finally:
            sending.acquire()  # never released, so nothing is sent from now on
            time.sleep(0)  # an exception that was already sent is raised here
    except _TimeIsUp:
        raise CompressitError(message, hint) from None
    finally:
        finished.set()


class _TimeIsUp(BaseException):
    """A BaseException, so that a model's own `except Exception` does not swallow it."""


def _fault(module: nn.Module) -> tuple[str, str] | None:
    kind = type(module).__name__
    if kind == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None:
        return "compiled", "prune the model first, then torch.compile it"
    if kind in ("ScriptModule", "RecursiveScriptModule", "TopLevelTracedModule"):
        return "a TorchScript module", "prune the Python module, then script it"
    if kind in _WRAPPERS:
        return f"wrapped in {kind}", "prune its `.module`, then wrap the result"
    if type(module).__module__.startswith(("torch.ao.nn", "torch.nn.quantized", "torch.nn.qat")):
        return "quantised", "prune before quantising"
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return (
            f"recurrent ({kind})",
            "the coupling of its gates is not supported, and `ignore` does not help; use `prune.magnitude`",
        )
    return computed(module)
