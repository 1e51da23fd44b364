"""Searches of a recipe whose best ratio is known, their jobs carried out in this process."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from tiny import PLUGINS, Bench

from compressit.host.plugins import Host
from compressit.recipe.load import parse_recipe
from compressit.recipe.model import Recipe
from compressit.searching.search import Found, Order, search

KNOWN = f"""\
version: 1
name: known
plugins: [{PLUGINS}, {PLUGINS.with_name("search_plugins.py")}]
data: {{uses: known.data, with: {{validation: 0.2}}}}
model: {{uses: tiny.mlp}}
stages:
  fill: {{uses: known.fill}}
  cut: {{uses: known.cut}}
evaluate: [known.kept]
"""
"""A net of 72 and 36 weights. Keeping a share of them loses (1 - share) ** 2."""


@dataclass
class Desk:
    """Searches in one folder with one store."""

    root: Path
    bench: Bench
    host: Host = field(default_factory=lambda: Host(entry_points=False))
    folder: str = "out"
    said: io.StringIO = field(default_factory=io.StringIO)

    def recipe(self, more: str = "", text: str = KNOWN) -> Recipe:
        return parse_recipe(text + more, "recipe.yaml", self.host, trust=lambda plugin: True)

    def search(self, recipe: Recipe, **asked: Any) -> Found:
        order = Order(**{"minimize": "nonzero", "max_drop": 0.1, "trials": 8, "jobs": 2, **asked})
        console = Console(file=self.said, width=300)
        return search(recipe, order, self.host, self.root / self.folder, self.root / "store", console)
