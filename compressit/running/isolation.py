"""What a plugin is lent, and must give back as it was: shared models and data, settings of the process, random numbers.

All code that is not ours runs in a `lending` block: datasets, models that are built or loaded, stages, evaluators.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager

from compressit.errors import CompressitError
from compressit.running import rng, settings
from compressit.running.memo import Recent


@contextmanager
def lending(name: str, *memos: Recent, called: Callable[[Hashable], str] = str) -> Generator[None]:
    """A block in which the plugin `name` computes with what is in `memos`.

    Its global random numbers start from a stream named after it, whatever ran before, and go on afterwards as if it
    had not been there. Afterwards settings are what they were, and where something in a memo was changed, all memos
    are empty: the next job loads anew what it needs. Raises CompressitError for either, unless the block raised.
    `called` names the value of a key.
    """
    before = settings.read()
    for memo in memos:
        memo.begin()
    damage: dict[str, list[str]] = {}
    changed: list[str] = []
    try:
        with rng.lent(name):
            yield
    finally:
        changed = settings.put_back(before)
        for memo in memos:
            damage |= {called(key): parts for key, parts in memo.damage().items()}
        if damage:  # also what was not asked for may share its memory
            for memo in memos:
                memo.clear()
    if damage:
        told = "; ".join(f"{what} ({_listed(parts)})" for what, parts in damage.items())
        raise CompressitError(
            f"{name} changed what other jobs use too: {told}",
            "work on a copy (`x.clone()`, `copy.deepcopy(model)`) and leave what ctx gives as it was; "
            f"nothing of this was kept, and `compressit plugins check {name}` tries it again",
        )
    if changed:
        raise CompressitError(
            f"{name} left settings of the process changed: {', '.join(changed)}",
            "use a `with` block, or put them back in a `finally`; nothing of this was kept",
        )


def _listed(parts: list[str]) -> str:
    return ", ".join(parts[:3]) + (f" and {len(parts) - 3} more" if len(parts) > 3 else "")
