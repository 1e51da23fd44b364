"""How much of each weight goes: what is given for single ones, and what is left for the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from compressit import CompressitError, NoEffectError, did_you_mean
from compressit_plugins.prune.options import Scope
from compressit_plugins.prune.weights import matches


def divided(
    sizes: Mapping[str, int],
    sparsity: float,
    scope: Scope = "global",
    sparsities: Mapping[str, float] | None = None,
) -> list[tuple[Sequence[str], float]]:
    """Weights that are compared with each other, each with the fraction of them to zero. `sizes`: by name.

    A weight that a glob of `sparsities` matches has that fraction; of several globs the last counts. The others get
    what is left of `sparsity` of all: together (`global`), or each the same fraction.
    Raises NoEffectError for a glob that matches nothing, CompressitError if the others cannot make up for the given.
    """
    given = of_single(sizes, sparsities or {})
    rest = [name for name in sizes if name not in given]
    parts: list[tuple[Sequence[str], float]] = [([name], share) for name, share in given.items()]
    if not rest:
        return parts
    share = sparsity
    if given:
        fixed = sum(round(share * sizes[name]) for name, share in given.items())
        total, others = sum(sizes.values()), sum(sizes[name] for name in rest)
        share = (round(sparsity * total) - fixed) / others
        if not 0 <= share < 1:
            least, most = fixed / total, (fixed + others) / total
            raise CompressitError(
                f"sparsity {sparsity:g} is out of reach: with these `sparsities` it is from {least:.3g} to {most:.3g}",
                "change one of the two, or leave more weights to `sparsity`",
            )
    return [*parts, (rest, share)] if scope == "global" else [*parts, *(([name], share) for name in rest)]


def counted(sizes: Mapping[str, int], parts: Iterable[tuple[Sequence[str], float]]) -> list[int]:
    """How many weights of each part (`divided`) go: round(share * n), at most all but one of each matrix.

    A matrix without a single weight could not be told from one that a builder starts at zero, which has to learn.
    Raises CompressitError if weights that are compared with each other would have to leave a matrix empty.
    """
    counts: list[int] = []
    for names, share in parts:
        total = sum(sizes[name] for name in names)
        count, most = round(share * total), total - len(names)
        if count > most and len(names) > 1:
            raise CompressitError(
                f"sparsity {share:g} leaves {total - count} of {total:,} weights for {len(names)} matrices, and each "
                "keeps at least one",
                "lower `sparsity`",
            )
        counts.append(min(count, most))
    return counts


def requested(sizes: Mapping[str, int], sparsity: float, sparsities: Mapping[str, float]) -> float:
    """The fraction of all weights that is asked for: `sparsity`, unless every weight has one of its own."""
    given = of_single(sizes, sparsities)
    if given.keys() < sizes.keys():
        return sparsity
    return sum(share * sizes[name] for name, share in given.items()) / sum(sizes.values())


def of_single(names: Iterable[str], shares: Mapping[str, float]) -> dict[str, float]:
    """What globs say of single names; of several globs that match, the last counts. Raises NoEffectError for a glob
    that matches nothing."""
    found: dict[str, float] = {}
    known = list(names)
    for glob, share in shares.items():
        own = {name: share for name in known if matches(name, [glob])}
        if not own:
            raise NoEffectError(f"'{glob}' matches no weight that is pruned", did_you_mean(glob, known))
        found |= own
    return found
