"""`eval.robustness`: how well a model does on noisy and on moved inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, field_validator

from compressit import Config, Curve, Evaluator, Metric, Task, counted, hookimpl
from compressit_plugins.evaluate.severities import SHIFTS, column, told

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class RobustnessConfig(Config):
    """Options of `eval.robustness`."""

    noise: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.08, 0.18, 0.38),
        description="standard deviations of the Gaussian noise, in units of the inputs before scaling: of pixels in "
        "0..1; noisy inputs stay in the range of the data",
    )
    shifts: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None,
        description="by how many pixels each image is moved up, down, left or right; black comes in; default: 1, 2 and "
        "4 for images, none for other inputs",
    )

    @field_validator("noise", "shifts")
    @classmethod
    def _differ(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if values is not None and len(set(values)) != len(values):
            raise ValueError("must differ from each other")
        return values


class Robustness(Evaluator[RobustnessConfig]):
    """The task's score on noisy test inputs, and on test images that are moved by some pixels.

    The default deviations are those of the Gaussian noise of severity 1, 3 and 5 in Hendrycks & Dietterich 2019,
    "Benchmarking neural network robustness to common corruptions and perturbations". All models see the same noise and
    the same moves, and every deviation scales the same draws.
    """

    name = "eval.robustness"
    example: ClassVar[Mapping[str, Any]] = {"noise": [0.1], "shifts": [1]}

    def misfits(self, task: Task[Any]) -> Mapping[str, str]:
        """Moves of images whose targets are maps."""
        if task.target == "map" and self.config.shifts:
            return {
                "shifts": "moves images, and their maps of classes would no longer fit them: use `shifts: []`"
            }
        return {}

    def declares(self, task: Task[Any]) -> Mapping[str, Metric | Curve]:
        """A number for every deviation and shift, and two curves: `noise_0_18_accuracy`, `noise_accuracy`."""
        watched = task.measures()[task.watch]
        asked = SHIFTS if self.config.shifts is None and task.target != "map" else self.config.shifts or ()
        found: dict[str, Metric | Curve] = {}
        for size in self.config.noise:
            about = f"{task.watch} on test inputs with Gaussian noise of deviation {told(size)}"
            found[column("noise", size, task)] = Metric(watched.better, watched.unit, about)
        for size in asked:
            about = f"{task.watch} on test images moved by {counted(size, 'pixel')} up, down, left or right"
            found[column("shift", size, task)] = Metric(watched.better, watched.unit, about)
        y = f"{task.watch} ({watched.unit})"
        about = f"{task.watch} the more test inputs are changed; at 0 they are as they were"
        if self.config.noise:
            found[f"noise_{task.watch}"] = Curve("standard deviation of the noise", y, about)
        if asked:
            found[f"shift_{task.watch}"] = Curve("pixels by which images are moved", y, about)
        return found

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Raises CompressitError for noise on inputs other than one tensor of floats, and for shifts of what is no
        image or out of sight. By default, shifts that the inputs cannot have are left out."""
        from compressit_plugins.evaluate.disturbed import scores

        return scores(model, ctx, self.config.noise, self.config.shifts)


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [Robustness]
