"""Options of `report.figure`: which numbers of which models are drawn and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from compressit import Config

Pattern = Annotated[str, Field(min_length=1)]


def _in_order(bounds: tuple[float | None, float | None] | None) -> tuple[float | None, float | None] | None:
    if bounds is not None:
        low, high = bounds
        if low is None and high is None:
            raise ValueError("is [null, null], which bounds nothing")
        if low is not None and high is not None and low > high:
            raise ValueError(f"is [{low:g}, {high:g}]: the lower bound comes first")
    return bounds


Bounds = Annotated[tuple[float | None, float | None] | None, AfterValidator(_in_order)]


class CurveReading(Config):
    """A number read from a model's curve."""

    curve: str = Field(description="the curve's name, as `loss` or `accuracy`")
    reaches: float | None = Field(default=None, description="the first step at which it is at least this")
    falls: float | None = Field(default=None, description="the first step at which it is at most this")
    at: float | None = Field(default=None, description="its value at the point nearest to this step")
    read: Literal["highest", "lowest", "first", "last"] | None = Field(
        default=None, description="its highest, lowest, first or last value"
    )

    @model_validator(mode="after")
    def _one(self) -> CurveReading:
        given = [name for name in ("reaches", "falls", "at", "read") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs one of `reaches`, `falls`, `at` and `read`, and has {len(given)}")
        return self


def _form(value: object) -> str:
    return "curve" if isinstance(value, Mapping | CurveReading) else "name"


Take = Annotated[
    Annotated[str, Tag("name")] | Annotated[CurveReading, Tag("curve")],
    Discriminator(_form),
]
"""One number of a model: a column of results.csv; an option of the stage that made it, or of one before
(`with.dimension`); two of these with ` / ` between them, the first divided by the second; or a reading of a curve."""


class Rows(Config):
    """Which models: patterns with `*`, `?` and `[…]`; all that is left out matches."""

    variant: Pattern = Field(default="*", description="the variant's name")
    stage: Pattern = Field(default="*", description="the stage's name, or `init`")
    member: Pattern = Field(default="*", description="the member of a sweep, as `sparsity=0.5`")
    round: int | None = Field(default=None, ge=1, description="the round of a repeated stage")


class Side(Rows):
    """What a number is compared with: other models, another number of the same ones, or both."""

    take: Take | None = Field(default=None, description="the number; default: that of the check")

    @property
    def same_rows(self) -> bool:
        """Whether it names no models, and so means those of the check."""
        return all(getattr(self, name) == field.default for name, field in Rows.model_fields.items())


class Check(Config):
    """A published statement beside what this run gives. Means are over all models that match, so over the seeds."""

    what: str = Field(min_length=1, description="what is compared, in words")
    published: str = Field(default="", description="what was published, and where")
    take: Take | None = Field(default=None, description="the number of each model")
    of: Rows = Field(default_factory=Rows, description="the models")
    over: Side | None = Field(default=None, description="divide the mean by this one's")
    minus: Side | None = Field(default=None, description="subtract this one's mean")
    order: tuple[Side, ...] = Field(
        default=(), description="each of these means must be above the one before it, instead of `within`"
    )
    gap: float = Field(default=0.0, description="of `order`: by at least this share of the one before")
    correlate: tuple[Take, Take] | None = Field(
        default=None, description="two numbers of each model: their rank correlation (Spearman 1904)"
    )
    share: Bounds = Field(
        default=None, description="[low, high]: the share of the models whose number is between these"
    )
    within: Bounds = Field(
        default=None, description="[low, high] that it is asked to be between; null: no bound"
    )

    @model_validator(mode="after")
    def _one_form(self) -> Check:
        if (self.take is None) == (self.correlate is None):
            raise ValueError("needs either `take` or `correlate`")
        forms = [name for name in ("over", "minus", "order", "correlate", "share") if getattr(self, name)]
        if len(forms) > 1:
            raise ValueError(f"has {' and '.join(f'`{form}`' for form in forms)}: a check has one of them")
        if bool(self.order) == (self.within is not None):
            raise ValueError("needs either `within` or `order`")
        if len(self.order) == 1:
            raise ValueError("compares one thing in `order`: it needs two or more")
        if self.gap and not self.order:
            raise ValueError("has a `gap`, which goes with `order`")
        return self


class Plot(Config):
    """One panel. `x` and `y`: a dot for each model, and a line through the means; or curves; or pictures."""

    title: str = Field(default="", description="above the panel")
    x: Take | None = Field(default=None, description="the number along the x axis")
    y: Take | None = Field(default=None, description="the number along the y axis")
    colour: Take | None = Field(default=None, description="a number shown as the colour of each dot")
    curve: tuple[str, ...] = Field(default=(), description="curves to draw, one line for each model")
    picture: str | None = Field(default=None, description="a picture that an evaluator gave, of each model")
    of: Rows = Field(default_factory=Rows, description="the models")
    by: str = Field(
        default="variant",
        description="what has a colour of its own: `variant`, `stage`, `member`, `seed`, or an option as in `x`",
    )
    log: Literal["", "x", "y", "xy"] = Field(default="", description="axes in powers of ten")
    labels: tuple[str, str] | None = Field(default=None, description="of both axes; default: what is drawn")
    published: dict[str, tuple[tuple[float, float], ...]] = Field(
        default_factory=dict[str, tuple[tuple[float, float], ...]],
        description="published points to draw beside it, like {Li et al. 2018: [[50, 0.45], [200, 0.76]]}",
    )
    lines: tuple[float, ...] = Field(default=(), description="values of y to mark by a line across")

    @model_validator(mode="after")
    def _one_kind(self) -> Plot:
        kinds = [self.x is not None or self.y is not None, bool(self.curve), self.picture is not None]
        if sum(kinds) != 1:
            raise ValueError("needs one of: `x` and `y`, `curve`, `picture`")
        if (self.x is None) != (self.y is None):
            raise ValueError("needs both `x` and `y`")
        if self.colour is not None and self.x is None:
            raise ValueError("has a `colour`, which goes with `x` and `y`")
        return self


class FigureConfig(Config):
    """Options of `report.figure`."""

    title: str = Field(default="", description="the figure's title")
    caption: str = Field(default="", description="what the figure shows, and whose it is")
    plots: tuple[Plot, ...] = Field(default=(), description="its panels, side by side")
    checks: tuple[Check, ...] = Field(default=(), description="what was published, beside what was found")

    @model_validator(mode="after")
    def _something(self) -> FigureConfig:
        if not self.plots and not self.checks:
            raise ValueError("needs `plots`, `checks` or both")
        return self


def written(take: Any) -> str:
    """A number's name in words, for axes and tables."""
    if isinstance(take, str):
        return take.removeprefix("with.").replace("_", " ")
    if take.reaches is not None:
        return f"steps until {take.curve} ≥ {take.reaches:g}"
    if take.falls is not None:
        return f"steps until {take.curve} ≤ {take.falls:g}"
    return f"{take.curve} at {take.at:g}" if take.at is not None else f"{take.read} {take.curve}"
