"""The names of a variant's models, and which model an option names.

A model is called as in the results: `train`, `blog-04`, `prune@sparsity=0.9`. `@seed=1` and `@variant=random` after a
name mean the model of that name of another seed or variant.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product

from compressit.errors import CompressitError, did_you_mean
from compressit.recipe.model import Stage, join_labels, member_of

_ELSEWHERE = re.compile(r"(.+)@(seed|variant)=([^@]+)")
_ROUND = re.compile(r"(.+)-(\d+)")
_SHOWN = 10  # members in a message


def point_name(stage: str, member: str, number: int | None) -> str:
    """A model's name within its variant and seed."""
    return stage + (f"@{member}" if member else "") + (f"-{number:02d}" if number is not None else "")


def called(stage: str, member: str, number: int | None) -> tuple[str, ...]:
    """The names that mean this model among others: of its stage, its member, its round, and its own."""
    found = (point_name(stage, m, n) for m in ("", member) for n in (None, number))
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Series:
    """The models of a stage: its members, and the rounds of each. Without either it is one model, as `init` is."""

    stage: str
    members: Mapping[str, None] = field(default_factory=lambda: {"": None})  # labels, in order
    repeat: int | None = None

    def places(self) -> Iterator[tuple[str, int | None]]:
        """Member and round of all its models."""
        return product(self.members, range(1, self.repeat + 1) if self.repeat else (None,))


def series_of(stages: Iterable[Stage], first: Iterable[str]) -> dict[str, Series]:
    """The models of a variant by stage: those of `first`, which no stage makes, and of the stages, sorted by need.

    A stage that needs one that is not among them is left out.
    """
    found = {name: Series(name) for name in first}
    for stage in stages:
        if stage.needs in found:
            members = dict.fromkeys(
                join_labels(above, own) for above in found[stage.needs].members for own, _ in stage.members
            )
            found[stage.name] = Series(stage.name, members, stage.repeat)
    return found


@dataclass(frozen=True)
class Named:
    """The model that a name means. None: of the asking model's own member, seed or variant; of the last round."""

    stage: str
    member: str | None = None
    round: int | None = None
    seed: int | None = None
    variant: str | None = None

    def place(self, own: str) -> tuple[str, str]:
        """Variant and stage, if the asking model is of the variant `own`."""
        return self.variant or own, self.stage

    def member_for(self, label: str, members: Collection[str]) -> str | None:
        """The one of `members` that the member `label` of some stage means; None unless there is exactly one."""
        return self.member if self.member is not None else member_of(label, members)


def elsewhere(text: str) -> tuple[str, int | None, str | None]:
    """The name, seed and variant of `train@seed=1@variant=random`, with one suffix, both in either order, or none."""
    name, found = text, dict[str, str]()
    while suffix := _ELSEWHERE.fullmatch(name):
        before, key, value = suffix.groups()
        if key in found or (key == "seed" and not value.isdecimal()):
            break
        name, found[key] = before, value
    return name, int(found["seed"]) if "seed" in found else None, found.get("variant")


def stage_of(text: str, stages: Collection[str]) -> str | None:
    """The stage whose model a name means; None if it is none of `stages`."""
    head = text.partition("@")[0]
    numbered = _ROUND.fullmatch(head)
    found = numbered[1] if numbered and head not in stages else head
    return found if found in stages else None


def named(name: str, models: Mapping[str, Series]) -> Named | None:
    """The model of that name in a variant that has these models."""
    stage = stage_of(name, models)
    if stage is None:
        return None
    for member, tail in _members(name.removeprefix(stage), models[stage]):
        number = _number(tail, models[stage])
        if number is not None:
            return Named(stage, member, number or None)
    return None


def variant_of(text: str, own: str, models: Mapping[str, Mapping[str, Series]]) -> str:
    """The variant in which an option of the variant `own` names a model, whether or not that exists."""
    return own if named(text, models[own]) is not None else elsewhere(text)[2] or own


def meaning(
    text: str, own: str, models: Mapping[str, Mapping[str, Series]], seeds: Collection[int] | None = None
) -> Named:
    """The model that an option of the variant `own` names. `models`: of every variant, by stage. `seeds`: those of the
    recipe, to check the name against.

    Raises CompressitError if there is no such model, seed or variant. A member of a sweep over an option that is
    called `seed` or `variant` goes before other seeds and variants.
    """
    found = named(text, models[own])
    if found is not None:
        return found
    name, seed, variant = elsewhere(text)
    if variant is not None and variant not in models:
        raise CompressitError(f"names no variant: '{text}'", did_you_mean(variant, models))
    if seed is not None and seeds is not None and seed not in seeds:
        raise CompressitError(
            f"names no seed of the recipe: '{text}'", f"its seeds: {', '.join(map(str, seeds))}"
        )
    there = models[variant or own]
    found = named(name, there)
    if found is None:
        place = f" in the variant '{variant}'" if variant is not None else ""
        raise CompressitError(f"names no model{place}: '{text}'", did_you_mean(name, known(there)))
    return replace(found, seed=seed, variant=variant)


def check_one(text: str, meant: Named, series: Series, labels: Iterable[str]) -> None:
    """Raises CompressitError unless `meant`, of `series`, is one model for each of the members `labels`."""
    members = series.members
    if all(meant.member_for(label, members) is not None for label in labels):
        return
    shown = ", ".join([*members][:_SHOWN]) + (", …" if len(members) > _SHOWN else "")
    example = point_name(meant.stage, next(iter(members)), None)
    raise CompressitError(
        f"names the model '{text}', which has {len(members)} members: {shown}",
        f"name one, like '{example}': only a model made from '{meant.stage}' has a member of its own there",
    )


def _members(rest: str, series: Series) -> Iterator[tuple[str | None, str]]:
    """What may stand after the stage's name: a member, and what follows it."""
    if not rest.startswith("@"):
        yield None, rest
        return
    label = rest[1:]
    if label in series.members:
        yield label, ""
    numbered = _ROUND.fullmatch(label)
    if numbered and numbered[1] in series.members:
        yield numbered[1], f"-{numbered[2]}"


def _number(tail: str, series: Series) -> int | None:
    """The round of `-04`; 0 for no round at all, None for one that does not exist."""
    if not tail:
        return 0
    numbered = re.fullmatch(r"-(\d{2,4})", tail)
    exists = numbered and series.repeat is not None and 1 <= int(numbered[1]) <= series.repeat
    return int(numbered[1]) if numbered and exists else None


def known(models: Mapping[str, Series]) -> list[str]:
    """The names of all models, and of their stages."""
    every = (
        name
        for series in models.values()
        for place in series.places()
        for name in called(series.stage, *place)
    )
    return list(dict.fromkeys(every))
