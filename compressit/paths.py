"""Where downloads and results are kept, unless told otherwise."""

from __future__ import annotations

import os
from pathlib import Path

from compressit.errors import CompressitError


def default_store() -> Path:
    """Where results are kept unless told otherwise: COMPRESSIT_STORE, else the user's cache folder."""
    return Path(os.environ.get("COMPRESSIT_STORE") or default_cache() / "store")


def default_cache() -> Path:
    """Where downloads are kept: COMPRESSIT_CACHE, else the user's cache folder.

    Raises CompressitError where the user has none: no HOME, and no entry among the machine's users.
    """
    from platformdirs import user_cache_path

    if given := os.environ.get("COMPRESSIT_CACHE"):
        return Path(given)
    try:
        path = user_cache_path("compressit")
    except (RuntimeError, KeyError):
        path = Path("~")
    if not path.is_absolute():  # else a folder called "~" would appear in the current one
        raise CompressitError(
            "there is no home folder to keep results and downloads in",
            "set HOME, or COMPRESSIT_CACHE to a folder of your own",
        )
    return path
