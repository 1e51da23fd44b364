"""The plugin under test: its class, its options, and the host it was found in. No torch here."""

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

from pydantic import ValidationError

from compressit.config import Config, dump, parse
from compressit.contract.kinds import Plugin
from compressit.errors import CompressitError
from compressit.host.plugins import Host, installed
from compressit.recipe.model import LocalPlugin

BENCH = Path(__file__).parent / "bench" / "testing_bench.py"
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Subject:
    """A plugin with options, and what checks found out about it, for those that come after."""

    plugin: type[Plugin[Any]]
    kind: str
    config: Config
    host: Host
    files: tuple[LocalPlugin, ...]  # what recipes of it must name: the kit's bench, then its own
    device: str = "cpu"  # where it is called
    outcomes: dict[str, Exception | None] = field(default_factory=dict[str, Exception | None])
    kept: dict[str, Any] = field(default_factory=dict[str, Any])

    @staticmethod
    def of(
        plugin: str | type[Plugin[Any]],
        options: Mapping[str, Any] | None = None,
        files: Iterable[Path | str] = (),
        device: str = "cpu",
    ) -> Subject:
        """The plugin of that name (or class), installed or in one of these local files.

        `options` are laid over the plugin's `example`; `device` is `cpu` or `cuda`. Raises CompressitError where
        there is no such plugin, and for options that are not valid.
        """
        host = _host()
        name = plugin if isinstance(plugin, str) else plugin.name
        local = [Path(file) for file in files] or _home(host, plugin)
        loaded = tuple(LocalPlugin.read(path.absolute()) for path in (BENCH, *local))
        for file in loaded:
            host.load_file(file.path, file.digest)
        found = host.find(name)
        values = {**found.plugin.example, **(options or {})}
        return Subject(found.plugin, found.kind, _config(found.plugin, values), host, loaded, device)

    @property
    def name(self) -> str:
        """`prune.mine`."""
        return self.plugin.name

    @property
    def options(self) -> dict[str, Any]:
        """Its options as JSON values, defaults written out."""
        return dump(self.config)

    @property
    def source(self) -> Path:
        """The file its class is in."""
        return Path(inspect.getfile(self.plugin))

    @cached_property
    def folder(self) -> Path:
        """A folder of its own for all that it writes, removed with the subject."""
        path = Path(tempfile.mkdtemp(prefix="compressit-check-"))
        weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)
        return path

    def create(self) -> Any:
        """A new instance, as a worker makes it."""
        return self.plugin(parse(self.plugin.Config, self.options))

    @property
    def per_host(self) -> bool:
        """Whether with these options it measures this machine: it need not give the same twice."""
        return bool(getattr(self.create(), "per_host", False))

    def keep(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gave when it was first asked for."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]


def _host() -> Host:
    """A host of the kit's own: its bench is nobody else's business."""
    disabled = installed().disabled
    return Host(entry_points="*" not in disabled, disabled=disabled)


def _home(host: Host, plugin: str | type[Plugin[Any]]) -> list[Path]:
    """The local file of a plugin that no entry point brings."""
    name = plugin if isinstance(plugin, str) else plugin.name
    if name in host.names():
        return []
    if not isinstance(plugin, str):
        return [Path(inspect.getfile(plugin))]
    found = installed().find(name).plugin if name in installed().names() else None
    return [Path(inspect.getfile(found))] if found is not None else []


def _config(plugin: type[Plugin[Any]], values: Mapping[str, Any]) -> Config:
    try:
        return parse(plugin.Config, values)
    except ValidationError as error:
        found = error.errors(include_url=False)
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'its options'}: {e['msg']}" for e in found)
        hint = f"its options: {', '.join(plugin.Config.model_fields)}"
        if any(e["type"] == "missing" for e in found):
            hint = 'set `example = {"option": value}` on the class, or give options: --set option=value'
        raise CompressitError(f"{plugin.name} cannot be tried with {dict(values)}: {wrong}", hint) from error
    except TypeError as error:  # no JSON
        raise CompressitError(f"{plugin.name}: its options are no plain values: {error}") from error
