"""Files of weights that a recipe starts from or refers to: what counts of them, and whether they fit.

Reads headers only, and no torch.
"""

from __future__ import annotations

from pathlib import Path

from compressit.checkpoint.header import read_header, verify
from compressit.checkpoint.manifest import Builder
from compressit.errors import CompressitError
from compressit.keys import key_of
from compressit.plugins import file_digest


def weights_digest(path: Path) -> str:
    """sha256 of what a file of weights makes a model compute.

    Of a compressit checkpoint these are its tensors and how its network is built and fed, not the metrics and
    the lineage beside them, which change when a run goes on. Of any other file, its bytes. Raises
    CompressitError when it cannot be read.
    """
    try:
        manifest = verify(path).manifest
    except CompressitError:  # no checkpoint, or a damaged one, which is nothing but itself
        return file_digest(path)
    plain = manifest.model_dump(mode="json", include={"tensors_sha256", "model", "edits", "tied", "input"})
    (plain["model"] or {}).pop("owner", None)  # a version number computes nothing
    return key_of({"weights": plain})


def check_fits(
    checkpoint: Path, data: str, input_shape: tuple[int, ...], classes: int, scale: str
) -> Builder:
    """The builder of a checkpoint whose model takes this data.

    Raises CompressitError for one that takes other inputs, has other classes or no builder, or was trained on
    inputs of another scale.
    """
    manifest = read_header(checkpoint).manifest
    model = manifest.model
    if model is None:
        raise CompressitError(
            f"{checkpoint} was saved from a live module without a registered builder",
            "a recipe can only start from a checkpoint whose model is a plugin",
        )
    if (tuple(model.input_shape), model.classes) != (input_shape, classes):
        raise CompressitError(
            f"{checkpoint} takes inputs {tuple(model.input_shape)} and has {model.classes} classes, "
            f"but {data} has {input_shape} and {classes}",
            "choose the data it was trained on, or another checkpoint",
        )
    if manifest.input is not None and manifest.input.scale != scale:
        raise CompressitError(
            f"{checkpoint} takes inputs of scale '{manifest.input.scale}', but {data} gives '{scale}'",
            f"set `scale: {manifest.input.scale}` under the data's `with`, or choose another checkpoint",
        )
    return model
