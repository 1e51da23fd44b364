"""Default folders for downloads and results."""

from __future__ import annotations

import os
from pathlib import Path

from compressit.errors import CompressitError


def default_store() -> Path:
    """The default store: COMPRESSIT_STORE if set, otherwise the user's cache folder."""
    return Path(os.environ.get("COMPRESSIT_STORE") or default_cache() / "store")


def default_cache() -> Path:
    """The folder for downloads: COMPRESSIT_CACHE if set, otherwise the user's cache folder.

    Raises CompressitError if the user has no home folder: no HOME, and no entry in the user database.
    """
    from platformdirs import user_cache_path

    if given := os.environ.get("COMPRESSIT_CACHE"):
        return Path(given)
    try:
        path = user_cache_path("compressit")
    except (RuntimeError, KeyError):
        path = Path("~")
    if not path.is_absolute():  # otherwise a folder named "~" would be created
        raise CompressitError(
            "there is no home folder for results and downloads",
            "set HOME, or set COMPRESSIT_CACHE to a folder of your own",
        )
    return path
