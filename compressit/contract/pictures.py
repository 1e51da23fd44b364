"""Pictures as PNG files: the same picture gives the same bytes."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from compressit.errors import CompressitError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from torch import Tensor

MOST_PIXELS = 4096  # of a side
MOST_BYTES = 2**23  # of the file
DPI = 120  # of a figure
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_of(name: str, image: np.ndarray | Tensor | Figure) -> bytes:
    """The picture `name` as a PNG file.

    `image`: uint8 values (H, W) of gray or (H, W, 3) of red, green and blue, or a matplotlib figure, drawn at 120 dots
    per inch. Raises CompressitError for anything else, for a side of more than 4096 pixels and for more than 8 MiB.
    """
    told = f"ctx.picture('{name}')"
    if not is_file_name(name):
        raise CompressitError(
            f"{told}: a picture cannot have this name",
            "use letters, digits, '_', '-' and '.', 100 at most: it becomes a file's name",
        )
    png = _drawn(told, image) if hasattr(image, "savefig") else _encoded(told, image)
    if len(png) > MOST_BYTES:
        raise CompressitError(
            f"{told}: the picture has {len(png)} bytes as PNG, more than {MOST_BYTES}", "make it smaller"
        )
    return png


def is_png(content: bytes) -> bool:
    """Whether these bytes begin as a PNG file does."""
    return content.startswith(_SIGNATURE)


def is_file_name(name: str) -> bool:
    """Whether the name is safe as a file's: letters, digits, '_', '-' and '.', at most 100 bytes."""
    return re.fullmatch(r"\w[\w.-]*", name) is not None and len(name.encode()) <= 100


def _encoded(told: str, image: Any) -> bytes:
    import numpy as np
    from PIL import Image

    pixels = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not fits or 0 in pixels.shape:
        raise CompressitError(
            f"{told} got {pixels.dtype} values of shape {tuple(pixels.shape)}",
            "give uint8 values of shape (height, width) or (height, width, 3), or a matplotlib figure",
        )
    _check_sides(told, pixels.shape[1], pixels.shape[0])
    found = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(found, format="PNG")
    return found.getvalue()


def _drawn(told: str, figure: Any) -> bytes:
    width, height = (round(inches * DPI) for inches in figure.get_size_inches())
    _check_sides(told, width, height)
    found = io.BytesIO()
    figure.savefig(found, format="png", dpi=DPI, metadata={"Software": None})  # no version: the same bytes
    return found.getvalue()


def _check_sides(told: str, width: int, height: int) -> None:
    if max(width, height) > MOST_PIXELS:
        raise CompressitError(
            f"{told}: {width} x {height} pixels are too many: a side may have {MOST_PIXELS}",
            "make it smaller",
        )
