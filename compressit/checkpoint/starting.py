"""Checks that a model from a file fits the data: in a recipe (`from`, teachers), `evaluate`, or a stage call.

A model gets the inputs that its header describes. A recipe's data must match its shape, classes and scale
(`check_fits`). For scale "standard", mean and standard deviation are the model's own: a recipe that starts from a file
scales its data by that file's values (`statistics_of`); any other model gets its inputs through `rescaling.fed`.
Reads files only, without torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from compressit.contract.kinds import Dataset
from compressit.contract.tasks import Task
from compressit.datasets.options import MOST_INPUTS
from compressit.datasets.specs import Inputs, TensorSpec, as_inputs, in_words, values_of, within
from compressit.datasets.task_spec import CLASSIFICATION, TaskSpec
from compressit.errors import CompressitError
from compressit.files.reading import file_digest
from compressit.files.sealed import digest_of
from compressit.host.plugins import Host

if TYPE_CHECKING:
    from compressit.checkpoint.manifest import Manifest, Prepared

# Code that reads headers is imported where it is used, so that `check` starts fast.


@dataclass(frozen=True)
class Offer:
    """What a dataset gives a model, as far as it is known without loading it."""

    data: str  # the dataset's name
    inputs: Inputs
    classes: int
    class_names: tuple[str, ...]
    scale: str
    shuffled: bool = False  # pixels are permuted after scaling
    validation: bool = False  # there is a validation split
    task: str = CLASSIFICATION  # the task plugin's name

    @staticmethod
    def of(dataset: Dataset[Any], task: str | None = None) -> Offer:
        """What a dataset declares, for this task, by default the one that it poses.

        Raises CompressitError if a declaration is missing or wrong.
        """
        try:
            options = dataset.config
            inputs, posed = as_inputs(dataset.inputs), dataset.task
            validation = bool(options.validation or dataset.has_validation)
        except NotImplementedError as error:
            raise CompressitError(
                f"{dataset.name} does not declare {error}",
                "every dataset has `inputs`, and `classes` or `task`",
            ) from error
        except CompressitError:
            raise
        except Exception as error:
            raise CompressitError(
                f"{dataset.name}: reading what it declares failed: {type(error).__name__}: {error}",
                "this is a bug in the plugin, not in the recipe",
            ) from error
        if not isinstance(posed, TaskSpec):
            raise CompressitError(
                f"`task` of {dataset.name} is {posed!r:.60}, not a TaskSpec",
                'return compressit.TaskSpec("task.regression", outputs=1), or leave it out and declare `classes`',
            )
        if len(posed.names) != posed.outputs:
            raise CompressitError(
                f"{dataset.name} has {posed.outputs} classes but {len(posed.names)} class names",
                "`class_names` needs one name per class, in label order",
            )
        if (values := values_of(inputs)) > MOST_INPUTS:
            raise CompressitError(
                f"{dataset.name} has inputs {in_words(inputs)}: {values} values, but a checkpoint allows at most "
                f"{MOST_INPUTS}",
                "make the inputs smaller, or no result can be saved",
            )
        return Offer(
            dataset.name, inputs, posed.outputs, posed.names, options.scaling, options.pixels == "shuffled",
            validation, task or posed.uses,
        )  # fmt: skip


def check_fits(path: Path, offer: Offer, host: Host) -> Manifest:
    """The checkpoint's manifest, if its model can be built here and fits these data.

    Raises CompressitError if the checkpoint is damaged, its builder is not installed, or its input shape, classes or
    input scale differ from the data's.
    """
    manifest = _verified(path).manifest
    if manifest.model is None:
        raise CompressitError(
            f"{path} was saved without a registered builder, so compressit cannot build its model",
            "save it again with uses=, or register its class with @compressit.model",
        )
    from compressit.checkpoint.builders import builder_of, check_installed
    from compressit.checkpoint.header import naming

    model = manifest.model
    with naming(path):
        check_installed(manifest, host, built=True)
        builder_of(model.name, model.config, host)
    taken = manifest.inputs
    assert taken is not None
    if not within(offer.inputs, taken) or model.outputs != offer.classes:
        raise CompressitError(
            f"{path} takes inputs {in_words(taken)} and has {model.outputs} outputs, "
            f"but {offer.data} has inputs {in_words(offer.inputs)} and {offer.classes} outputs",
            "use the data it was trained on, or another checkpoint",
        )
    _check_task(path, manifest, offer, host)
    check_contract(path, manifest.input, offer)
    return manifest


def _check_task(path: Path, manifest: Manifest, offer: Offer, host: Host) -> None:
    """Raises CompressitError if the model was made for another task than the data's, and neither derives from the
    other, or takes it. Unknown where the file names none, or one that is not installed."""
    if manifest.task is None or manifest.task.uses not in host.names("task"):
        return
    names = manifest.task.uses, offer.task
    theirs, ours = (cast("type[Task[Any]]", host.find(name, "task").plugin) for name in names)
    if not (theirs.does() | theirs.takes) & ours.does() and not ours.takes & theirs.does():
        raise CompressitError(
            f"{path} was made for {manifest.task.uses}, but the task of {offer.data} is {offer.task}",
            "use the data it was trained on, or another checkpoint",
        )


def check_contract(path: Path, inputs: Prepared | None, offer: Offer) -> None:
    """Raises CompressitError unless the data have the model's input scale and class names."""
    if inputs is None:
        return
    if inputs.scale != offer.scale:
        raise CompressitError(
            f"{path} takes inputs of scale '{inputs.scale}', but {offer.data} gives '{offer.scale}'",
            f"set `scale: {inputs.scale}` under the data's `with`, or use another checkpoint",
        )
    theirs, ours = inputs.class_names, offer.class_names
    if theirs != ours and _named(theirs) and _named(ours):
        index = next((i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), 0)
        raise CompressitError(
            f"{path} calls class {index} '{theirs[index]}', but {offer.data} calls it '{ours[index]}'",
            "use the data it was trained on, or another checkpoint",
        )
    channels = offer.inputs.shape[0] if isinstance(offer.inputs, TensorSpec) else None
    if inputs.mean is not None and len(inputs.mean) not in (1, channels):
        raise CompressitError(
            f"{path} takes inputs of {len(inputs.mean)} channels, but {offer.data} has inputs {in_words(offer.inputs)}",
            "use data like those it was trained on, or other weights",
        )
    if offer.shuffled and inputs.mean is not None and len(inputs.mean) > 1:
        raise CompressitError(
            f"{path} needs a mean per channel, but {offer.data} shuffles pixels across channels",
            "remove `pixels: shuffled`, or use another checkpoint",
        )


def start_of(
    checkpoint: Path | None, weights: Path | None, offer: Offer, host: Host, fresh: Sequence[str] = ()
) -> Prepared | None:
    """How the inputs of a recipe's first model were prepared, if it comes from a file that records it.

    Raises CompressitError for a `checkpoint` as `check_fits` does, and for `weights` (any safetensors file) that
    are not a valid file, or record another scale or other classes. With `fresh` tensors, a head most often, the model
    may be for other classes than the file's.
    """
    if checkpoint is not None:
        return check_fits(checkpoint, offer, host).input
    manifest = _manifest(weights) if weights is not None else None
    if weights is None or manifest is None:
        return None
    inputs = manifest.input
    check_contract(weights, inputs and inputs.model_copy(update={"class_names": ()} if fresh else {}), offer)
    return inputs


def statistics_of(inputs: Prepared | None) -> dict[str, Any] | None:
    """Scale, mean and standard deviation of the inputs, as JSON values; None if inputs are pixels in 0..1."""
    if inputs is None or inputs.mean is None:
        return None
    return inputs.model_dump(mode="json", include={"scale", "mean", "std"})


def weights_digest(path: Path) -> str:
    """sha256 of everything in a weights file that affects what a model computes.

    For a compressit checkpoint: its tensors, how its network is built, and its inputs; not its metrics and lineage,
    which change when a run continues. For any other file: its bytes. Raises CompressitError if the file is damaged or
    cannot be read.
    """
    manifest = _manifest(path)
    if manifest is None:
        return file_digest(path)
    plain = manifest.model_dump(mode="json", include={"tensors_sha256", "model", "edits", "tied", "input"})
    (plain["model"] or {}).pop("owner", None)  # a version number does not affect the outputs
    return digest_of({"weights": plain})


def lineage_of(path: Path) -> Sequence[Mapping[str, Any]]:
    """How a checkpoint says that it was made, oldest step first; empty if it does not. Raises CompressitError if the
    file is damaged."""
    manifest = _manifest(path)
    return () if manifest is None else manifest.lineage


def _manifest(path: Path) -> Manifest | None:
    """A safetensors file's manifest; None if compressit did not write the file. Raises CompressitError."""
    from compressit.checkpoint.header import NoManifestError

    try:
        return _verified(path).manifest
    except CompressitError as error:
        if isinstance(error.__cause__, NoManifestError):
            return None
        raise


def _named(names: tuple[str, ...]) -> bool:
    """Whether classes have real names, not just their numbers."""
    return bool(names) and names != tuple(str(number) for number in range(len(names)))


def _verified(path: Path) -> Any:
    """The header of a checkpoint, after verifying its tensors; cached while the file is unchanged."""
    from compressit.checkpoint.header import naming

    with naming(path):
        facts = path.stat()
    return _header(path, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


@lru_cache(maxsize=64)
def _header(path: Path, *facts: int) -> Any:
    from compressit.checkpoint.header import verify

    return verify(path)
