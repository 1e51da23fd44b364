"""A first plugin: a file beside a recipe, or a package."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import compressit
from compressit.errors import CompressitError
from compressit.public import EXPORTS
from compressit.scaffold.files import rendered

_KINDS = {"train": "trainer", "eval": "evaluator", "model": "model", "data": "dataset", "task": "task",
          "report": "report", "observe": "observer"}  # fmt: skip
_TAKEN = sys.stdlib_module_names | {"compressit", "numpy", "torch", "pydantic", "matplotlib"}


@dataclass(frozen=True)
class NewPlugin:
    """The names of a plugin to be written, and of its files."""

    name: str  # "prune.mine"
    kind: str  # "compressor"
    package: bool = False

    @property
    def method(self) -> str:
        """The part after the dot as a module name: "soft-labels" gives soft_labels."""
        method = self.name.split(".")[1].replace("-", "_")
        usable = method.isidentifier() and not keyword.iskeyword(method) and method not in _TAKEN
        return method if usable else re.sub(r"\W", "_", self.name)

    @property
    def cls(self) -> str:
        """The class name: SoftLabels; MySoftLabels if SoftLabels would hide a name of compressit's."""
        name = "".join(part.capitalize() for part in re.split(r"[_-]+", self.name.split(".")[1]))
        hides = {name, f"{name}Config"} & {*EXPORTS, "Field", "Work"}
        return f"My{name}" if hides or keyword.iskeyword(name) or not name.isidentifier() else name

    @property
    def distribution(self) -> str:
        """The distribution to install: compressit-soft-labels."""
        return f"compressit-{self.method.strip('_').replace('_', '-')}"

    @property
    def module(self) -> str:
        """The module that the distribution provides: compressit_soft_labels."""
        return self.distribution.replace("-", "_")

    @property
    def folder(self) -> Path:
        """The folder of its files, relative to `--folder`."""
        return Path(self.distribution) if self.package else Path()

    @property
    def file(self) -> Path:
        """The file with the plugin itself."""
        return self.folder / self.module / "__init__.py" if self.package else Path(f"{self.method}.py")

    @property
    def recipe(self) -> Path:
        """The file of a recipe that uses it."""
        return self.folder / f"{self.method}.yaml"


def kind_of(name: str) -> str:
    """The kind that the first part of a name stands for: `eval.…` is an evaluator; by default a compressor.

    Raises CompressitError for a name that is not a plugin's, or that has capital letters.
    """
    form = re.compile(r"[a-z][a-z0-9_-]*\.[a-z0-9][a-z0-9_-]*")
    if not form.fullmatch(name):
        small = name.lower()
        hint = "use kind.method, for example prune.mine or eval.mine"
        if form.fullmatch(small):
            hint = f"use lower case: {small}"
        raise CompressitError(f"'{name}' is not a valid plugin name", hint)
    return _KINDS.get(name.split(".")[0], "compressor")


def plugin_files(new: NewPlugin) -> Iterator[tuple[Path, str]]:
    """The files of a new plugin, relative to its folder, without the recipe."""
    templates = {f"{new.kind}.py.j2": new.file}
    if new.package:
        templates |= {
            "pyproject.toml.j2": new.folder / "pyproject.toml",
            "README.md.j2": new.folder / "README.md",
            "test_plugin.py.j2": new.folder / "tests" / f"test_{new.method}.py",
        }
    for template, path in templates.items():
        yield path, rendered(template, new=new, compressit=compressit.__version__)
