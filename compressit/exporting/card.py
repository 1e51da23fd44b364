"""The model card: Markdown with YAML front matter for model hubs. For a run's checkpoint, it includes the recipe.

All text from a checkpoint is put in code spans and code blocks, where Markdown and HTML have no effect.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from compressit.contract.results import Results
from compressit.datasets.specs import from_json, in_words
from compressit.printable import line


@dataclass(frozen=True)
class RecipeUsed:
    """A run's recipe, from its results, and the model's variant and seed."""

    name: str
    profile: str | None
    description: str
    variant: str
    seed: int
    text: str  # as written; "" if the recipe was created in Python
    command: str  # the command line that runs it


def recipe_of(checkpoint: Path) -> RecipeUsed | None:
    """The recipe behind a checkpoint in `RUN/checkpoints/`; None for any other file."""
    file = checkpoint.resolve()
    run = next((f.parent for f in file.parents if f.name == "checkpoints"), None)
    if run is None:
        return None
    try:
        r = Results.read_json(run / "results.json")
        row = next(row for row in r.rows if row.checkpoint == file.relative_to(run).as_posix())
        return RecipeUsed(r.recipe, r.profile, r.description, row.variant, row.seed, r.text, r.command)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, StopIteration):
        return None


def model_card(name: str, facts: Mapping[str, Any], recipe: RecipeUsed | None) -> str:
    """The card of a model with these facts (`folder.facts`). Equal facts give equal text."""
    source = resources.files("compressit").joinpath("exporting/templates/model_card.md.j2")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    filters: dict[str, Any] = {"code": code, "cell": cell, "block": block, "json": _json}
    environment.filters.update(filters)
    sizes = {key: value for key, value in facts["sizes"].items() if value is not None}
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        name=name,
        inputs=in_words(from_json(facts["inputs"])),
        facts=facts,
        front=_yaml(_front(facts, sizes)),
        sizes=sizes,
        metrics={key: _number(value) for key, value in sorted(facts["metrics"].items())},
        steps=list(_steps(facts["lineage"])),
        recipe=recipe,
        loading="\n".join(_loading([facts["architecture"]["owner"], *facts["layer_owners"].values()])),
    )


def code(text: Any) -> str:
    """A one-line code span for any text."""
    shown = line(text) or " "
    fence = "`" * (_longest_run(shown) + 1)
    gap = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{gap}{shown}{gap}{fence}"


def cell(text: Any) -> str:
    """A code span for a table cell, with `|` escaped."""
    return code(text).replace("|", "\\|")


def block(text: str, language: str) -> str:
    """A fenced code block for any text."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _loading(owners: Iterable[str]) -> Iterator[str]:
    """Python code that loads the model, whose network and layer types come from `owners`."""
    own = [owner for owner in dict.fromkeys(owners) if not owner.startswith("compressit ")]
    files = [owner for owner in own if owner.endswith(".py")]
    modules = [owner for owner in own if owner not in files and re.fullmatch(r"\w+(\.\w+)*", owner)]
    yield "import compressit"
    if files:
        yield "from compressit import installed"
        yield "from pathlib import Path"
        yield ""
    yield from (f"installed().load_file(Path({json.dumps(file)}))  # defines the network" for file in files)
    yield from (f"import {module}  # defines the network" for module in modules)
    for package in own:
        if package not in files and package not in modules:
            yield f"# needs the package {json.dumps(package)}, which defines the network"
    yield ""
    yield 'net = compressit.load("model.safetensors")  # in eval mode, after checking outputs against recorded ones'


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _front(facts: Mapping[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "library_name": "compressit",
        "tags": ["compressit", "model-compression"],
        "architecture": facts["architecture"]["name"],
        "inputs": facts["inputs"],
        "outputs": facts["outputs"],
        **({"task": facts["task"]["uses"]} if facts["task"] else {}),
        "sizes": sizes,
        "metrics": {key: value for key, value in facts["metrics"].items() if value is not None},
    }


def _steps(lineage: list[dict[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    for step in lineage:
        data = step.get("data")
        named = data if isinstance(data, dict) else {}
        words = f"{named.get('uses', '')} {_json(named.get('config', {}))}" if named else ""
        yield str(step.get("stage", "?")), str(step.get("uses", "?")), _json(step.get("config", {})), words


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.6g}"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _yaml(value: Any) -> str:
    from ruamel.yaml import YAML

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.width = 4096
    text = io.StringIO()
    writer.dump(value, text)
    return text.getvalue()
