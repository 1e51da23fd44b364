"""Fresh weights for a net of any architecture."""

from __future__ import annotations

from torch import nn

from compressit import CompressitError


def reset_parameters(model: nn.Module) -> None:
    """Fresh weights for every layer that knows how.

    Raises CompressitError naming a layer with parameters of its own that does not.
    """
    for name, module in model.named_modules():
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if callable(reset):
            reset()
        elif any(parameter.numel() for parameter in module.parameters(recurse=False)):
            raise CompressitError(
                f"'{name or 'the model'}' ({type(module).__name__}) cannot be given fresh weights",
                "give its class a reset_parameters method, or its model a `with_width`",
            )
