"""Models in files that are used on data: by a recipe (`from`, teachers), by `evaluate`, by a stage called directly.

One rule for all of them: such a model is fed what its header says. A recipe's data must have its shape, its classes
and its scale (`check_fits`); means and deviations of inputs of scale "standard" are the model's own. A recipe that
starts from a file scales its data by that file's (`statistics_of`); any other model is fed through `feeding.fed`.
Reads files only, and no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit.contract.kinds import Dataset
from compressit.datasets.options import MOST_INPUTS
from compressit.errors import CompressitError
from compressit.files.reading import file_digest
from compressit.files.sealed import digest_of
from compressit.host.plugins import Host

if TYPE_CHECKING:
    from compressit.checkpoint.manifest import Inputs, Manifest

# What reads headers is imported where one is read: `check` is to start fast.


@dataclass(frozen=True)
class Offer:
    """What data give a model, as far as it is known without loading them."""

    data: str  # the dataset's name
    shape: tuple[int, ...]  # without the batch dimension
    classes: int
    class_names: tuple[str, ...]
    scale: str
    shuffled: bool = False  # pixels change places after they were scaled

    @staticmethod
    def of(dataset: Dataset[Any]) -> Offer:
        """What a dataset declares. Raises CompressitError for one that does not say it."""
        try:
            options = dataset.config
            shape, classes, names = tuple(dataset.input_shape), dataset.classes, tuple(dataset.class_names)
        except NotImplementedError as error:
            raise CompressitError(
                f"{dataset.name} does not declare {error}", "every dataset has `input_shape` and `classes`"
            ) from error
        except Exception as error:
            raise CompressitError(
                f"{dataset.name} cannot say its `input_shape` and `classes`: {type(error).__name__}: {error}",
                "a fault of the plugin, not of the recipe",
            ) from error
        if len(names) != classes:
            raise CompressitError(
                f"{dataset.name} has {classes} classes and {len(names)} names for them",
                "`class_names` are in label order, one for each of `classes`",
            )
        if (values := math.prod(shape)) > MOST_INPUTS:
            raise CompressitError(
                f"{dataset.name} has inputs of shape {shape}: {values} values, of which a checkpoint's may have "
                f"{MOST_INPUTS}",
                "no result could be saved: make the inputs smaller",
            )
        return Offer(dataset.name, shape, classes, names, options.scaling, options.pixels == "shuffled")


def check_fits(path: Path, offer: Offer, host: Host) -> Manifest:
    """What a checkpoint says of itself, if its model can be built here and takes these data.

    Raises CompressitError for one that is damaged, has no builder here, takes other inputs, has other classes or was
    trained on inputs of another scale.
    """
    manifest = _verified(path).manifest
    if manifest.model is None:
        raise CompressitError(
            f"{path} was saved from a live module without a registered builder",
            "only a checkpoint whose model is a plugin can be built again",
        )
    from compressit.checkpoint.builders import builder_of, check_installed
    from compressit.checkpoint.header import naming

    model = manifest.model
    with naming(path):
        check_installed(manifest, host, built=True)
        builder_of(model.name, model.config, host)
    if (tuple(model.input_shape), model.classes) != (offer.shape, offer.classes):
        raise CompressitError(
            f"{path} takes inputs {tuple(model.input_shape)} and has {model.classes} classes, "
            f"but {offer.data} has {offer.shape} and {offer.classes}",
            "choose the data it was trained on, or another checkpoint",
        )
    check_contract(path, manifest.input, offer)
    return manifest


def check_contract(path: Path, inputs: Inputs | None, offer: Offer) -> None:
    """Raises CompressitError unless the data are scaled, and their classes called, as a model knows them."""
    if inputs is None:
        return
    if inputs.scale != offer.scale:
        raise CompressitError(
            f"{path} takes inputs of scale '{inputs.scale}', but {offer.data} gives '{offer.scale}'",
            f"set `scale: {inputs.scale}` under the data's `with`, or choose another checkpoint",
        )
    theirs, ours = inputs.class_names, offer.class_names
    if theirs != ours and _named(theirs) and _named(ours):
        index = next((i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), 0)
        raise CompressitError(
            f"{path} calls class {index} '{theirs[index]}', but {offer.data} calls it '{ours[index]}'",
            "choose the data it was trained on, or another checkpoint",
        )
    if offer.shuffled and inputs.mean is not None and len(inputs.mean) > 1:
        raise CompressitError(
            f"{path} has its own mean of every channel, but {offer.data} gives pixels whose channels are mixed",
            "leave out `pixels: shuffled`, or choose another checkpoint",
        )


def start_of(checkpoint: Path | None, weights: Path | None, offer: Offer, host: Host) -> Inputs | None:
    """How the inputs of a recipe's first model were made, where it comes from a file that says so.

    Raises CompressitError for a `checkpoint` as `check_fits` does, and for `weights` (any safetensors file) that
    are none, or tell of another scale or other classes.
    """
    if checkpoint is not None:
        return check_fits(checkpoint, offer, host).input
    manifest = _manifest(weights) if weights is not None else None
    if weights is None or manifest is None:
        return None
    check_contract(weights, manifest.input, offer)
    return manifest.input


def statistics_of(inputs: Inputs | None) -> dict[str, Any] | None:
    """The scale of a contract with its mean and deviation, as JSON values; None where inputs are pixels in 0..1."""
    if inputs is None or inputs.mean is None:
        return None
    return inputs.model_dump(mode="json", include={"scale", "mean", "std"})


def weights_digest(path: Path) -> str:
    """sha256 of what a file of weights makes a model compute.

    Of a compressit checkpoint these are its tensors and how its network is built and fed, not the metrics and
    the lineage beside them, which change when a run goes on. Of any other file, its bytes. Raises
    CompressitError when it is damaged or cannot be read.
    """
    manifest = _manifest(path)
    if manifest is None:
        return file_digest(path)
    plain = manifest.model_dump(mode="json", include={"tensors_sha256", "model", "edits", "tied", "input"})
    (plain["model"] or {}).pop("owner", None)  # a version number computes nothing
    return digest_of({"weights": plain})


def code_of(manifest: Manifest, host: Host) -> tuple[str, ...]:
    """The modules whose code builds a checkpoint's network: its model's, and those that replaced its layers."""
    builder = () if manifest.model is None else (host.find(manifest.model.name, "model").plugin.__module__,)
    replaced = any(edit.do == "replace" for edit in manifest.edits)
    return (*builder, *(host.module_type_modules() if replaced else ()))


def _manifest(path: Path) -> Manifest | None:
    """What a file of tensors says of itself; None where somebody else wrote it. Raises CompressitError."""
    from compressit.checkpoint.header import NoManifestError

    try:
        return _verified(path).manifest
    except CompressitError as error:
        if isinstance(error.__cause__, NoManifestError):
            return None
        raise


def _named(names: tuple[str, ...]) -> bool:
    """Whether classes have names: data that have none number them."""
    return bool(names) and names != tuple(str(number) for number in range(len(names)))


def _verified(path: Path) -> Any:
    """The header of a checkpoint whose tensors are those that were saved; read once while the file is the same."""
    from compressit.checkpoint.header import naming

    with naming(path):
        facts = path.stat()
    return _header(path, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


@lru_cache(maxsize=64)
def _header(path: Path, *facts: int) -> Any:
    from compressit.checkpoint.header import verify

    return verify(path)
