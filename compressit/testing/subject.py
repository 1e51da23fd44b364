"""The plugin under test: its class, its options and its host. Does not import torch."""

from __future__ import annotations

import inspect
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from compressit.config import Config, absolute, dump, parse
from compressit.contract.kinds import Plugin
from compressit.errors import CompressitError
from compressit.host.plugins import Host, installed
from compressit.python.arguments import plain
from compressit.recipe.model import LocalPlugin
from compressit.recipe.validation import checked

BENCH = Path(__file__).parent / "bench" / "testing_bench.py"
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Subject:
    """A plugin with options, and cached findings of checks."""

    plugin: type[Plugin[Any]]
    kind: str
    config: Config
    host: Host  # separate from the installed one, since it also has the kit's bench plugins
    files: tuple[LocalPlugin, ...]  # plugin files for recipes: the kit's bench, then the plugin's own
    device: str = "cpu"  # where the plugin runs
    kept: dict[str, Any] = field(default_factory=dict[str, Any])

    @staticmethod
    def of(
        plugin: str | type[Plugin[Any]],
        options: Mapping[str, Any] | None = None,
        files: Iterable[Path | str] = (),
        device: str = "cpu",
    ) -> Subject:
        """The plugin with this name (or class), installed or in one of these local files.

        `options` override the plugin's `example`; `device` is `cpu` or `cuda`. Raises CompressitError for an unknown
        plugin or invalid options.
        """
        disabled = installed().disabled
        host = Host(entry_points="*" not in disabled, disabled=disabled)
        name = plugin if isinstance(plugin, str) else plugin.name
        local = [Path(file) for file in files]
        if not local and name not in host.names() and (name in installed().names() or plugin is not name):
            found = installed().find(name).plugin if isinstance(plugin, str) else plugin
            local = [Path(inspect.getfile(found))]
        loaded = tuple(LocalPlugin.read(path.absolute()) for path in (BENCH, *local))
        for file in loaded:
            host.load_file(file.path, file.digest)
        registered = host.find(name)
        config = _config(registered.plugin, {**registered.plugin.example, **(options or {})})
        return Subject(registered.plugin, registered.kind, config, host, loaded, device)

    @property
    def name(self) -> str:
        """`prune.mine`."""
        return self.plugin.name

    @property
    def options(self) -> dict[str, Any]:
        """Its options as JSON values, including defaults."""
        return dump(self.config)

    @cached_property
    def folder(self) -> Path:
        """A temporary folder for everything it writes, removed with the subject."""
        path = Path(tempfile.mkdtemp(prefix="compressit-check-"))
        weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)
        return path

    def create(self) -> Any:
        """A new instance, as a worker makes it."""
        return self.plugin(parse(self.plugin.Config, self.options))

    @property
    def per_host(self) -> bool:
        """Whether it measures this machine with these options, so that results may differ between calls."""
        return bool(getattr(self.create(), "per_host", False))

    def keep(self, name: str, make: Callable[[], T]) -> T:
        """The cached result of `make`, which is called once per name."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]


def _config(plugin: type[Plugin[Any]], values: Mapping[str, Any]) -> Config:
    fields = plugin.Config.model_fields.items()
    missing = [
        name for name, option in fields if option.is_required() and (option.alias or name) not in values
    ]
    if missing:
        raise CompressitError(
            f"{plugin.name} cannot be checked without {', '.join(missing)}",
            'set `example = {"option": value}` on the class, or pass --set option=value',
        )
    config = checked(plugin.Config, plain(plugin.name, values), plugin.name)
    return absolute(config, lambda _: Path.cwd())
