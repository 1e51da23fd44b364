"""All checks by kind, and two ways to run them: with pytest or one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from compressit.contract.compute import Compute
from compressit.contract.plugin import Plugin
from compressit.host.plugins import KINDS
from compressit.testing import datasets, models, observers, options, reports, runs, stages, tasks
from compressit.testing.check import Check, NotApplicable
from compressit.testing.subject import Subject

_ALL = [
    value
    for module in (options, stages, models, datasets, tasks, reports, observers, runs)
    for value in vars(module).values()
    if isinstance(value, Check) and value.test.__module__ == module.__name__
]
CHECKS: Mapping[str, tuple[Check, ...]] = {
    kind: tuple(check for check in _ALL if kind in check.kinds) for kind in KINDS
}
"""The checks of each kind, in definition order, which is also the order in which they run."""


def checks_for(plugin: str | type[Plugin[Any]] | Subject) -> tuple[Check, ...]:
    """The checks for a plugin's kind. Raises CompressitError for an unknown plugin."""
    return CHECKS[(plugin if isinstance(plugin, Subject) else Subject.of(plugin)).kind]


def parametrize(
    *plugins: str | type[Plugin[Any]],
    options: Mapping[str, Any] | None = None,
    files: Iterable[Path | str] = (),
    device: str = "cpu",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A pytest decorator that runs the test once per check of these plugins, as the argument `check`, to be called.

    `@parametrize("prune.mine", options={"sparsity": 0.5})`: `options` override the plugins' `example`, `files` are
    local plugin files, `device` is `cpu`, `cuda` or `auto`. Raises CompressitError like `Subject.of`, and if CUDA is
    not available.
    """
    import pytest

    files, device = tuple(files), Compute.select(device).device
    cases = [
        pytest.param(_as_test(check, tested), id=f"{tested.name}-{check.name}")
        for tested in (Subject.of(plugin, options, files, device) for plugin in plugins)
        for check in checks_for(tested)
    ]
    return pytest.mark.parametrize("check", cases)


def _as_test(check: Check, tested: Subject) -> Callable[[], None]:
    def test() -> None:
        import pytest

        try:
            check.run(tested)
        except NotApplicable as reason:
            pytest.skip(str(reason))

    return test
