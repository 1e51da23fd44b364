"""Counts a recipe's jobs before they are made: a few lines can mean ten million jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from compressit.errors import Problem
from compressit.recipe.envelope import INIT
from compressit.recipe.yamlfile import Node

MOST_JOBS = 50_000
_ENOUGH = 10**15  # counts are capped here, since their products could grow without bound


def size_problem(variants: Sequence[Node], seeds: Node) -> Problem | None:
    """The problem of a recipe whose merged variants make more than MOST_JOBS jobs; otherwise None.

    The blocks are not validated yet: a value that is not a list or number counts as one.
    """
    per_model = max(1, len(seeds.items))
    total, largest, blamed = 0, 0, None
    for body in variants:
        evaluated = per_model * (1 + len(body.at("evaluate").items))
        files = body.at("model").at("from")
        total += evaluated * max(1, len(files.items), len(files.mapping))
        for stage, (members, rounds) in _models(body.at("stages")).items():
            jobs = min(members * rounds * evaluated, _ENOUGH)
            total += jobs
            if jobs > largest:
                mark = body.at("stages").keys[stage]
                largest, blamed = jobs, (stage, members, rounds, evaluated, mark)
    if total <= MOST_JOBS:
        return None
    if blamed is None:
        message = f"the recipe makes {_told(total)} jobs, at most {MOST_JOBS:,} are allowed"
        return Problem(message, seeds.mark, "use fewer seeds, files, variants or evaluators")
    stage, members, rounds, evaluated, mark = blamed
    return Problem(
        f"the recipe makes {_told(total)} jobs, at most {MOST_JOBS:,} are allowed. stages.{stage} alone makes "
        f"{_told(largest)}: {_told(members)} members x {rounds:,} rounds x {evaluated:,} (seeds and evaluations)",
        mark,
        "use fewer values, rounds, seeds or evaluators, or split the recipe: jobs that the parts share run once",
    )


def _models(stages: Node) -> Mapping[str, tuple[int, int]]:
    """Members and rounds of every stage. A stage's members are those of the stage it needs, times its own."""
    needs = dict(_needs(stages))
    members: dict[str, int] = {}
    for name in needs:
        chain = [name]
        while (above := needs.get(chain[-1], INIT)) in needs and above not in members and above not in chain:
            chain.append(above)
        for stage in reversed(chain):
            block = stages.at(stage)
            own = prod(max(1, len(values.items)) for values in block.at("sweep").mapping.values())
            members[stage] = min(members.get(needs[stage], 1) * own, _ENOUGH)
    return {name: (members[name], _rounds(stages.at(name))) for name in needs}


def _needs(stages: Node) -> Iterator[tuple[str, str]]:
    before = INIT
    for name, block in stages.mapping.items():
        written = block.at("needs").value
        yield name, written if isinstance(written, str) else before
        before = name


def _rounds(block: Node) -> int:
    repeat = block.at("repeat").value
    return repeat if type(repeat) is int and repeat > 0 else 1


def _told(count: int) -> str:
    return f"{count:,}" if count < _ENOUGH else "far too many"
