"""Writes the generated tables of recipe.md from the config classes: `python docs/generate.py`.

Whatever stands between `<!-- generated: NAME -->` and `<!-- /generated -->` is replaced. Only the plugins of
the distribution `compressit` itself are listed, whatever else is installed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from compressit.config import Config
from compressit.contract.classification import usual
from compressit.contract.fit_options import FitConfig, OptimizerConfig, ScheduleConfig
from compressit.contract.init_options import InitConfig
from compressit.contract.kinds import Evaluator
from compressit.contract.plugin import Plugin
from compressit.contract.records import Declared, Metric
from compressit.contract.tasks import Task
from compressit.datasets.options import DataConfig
from compressit.host.declared import declared
from compressit.host.describe import Style
from compressit.host.describe import options as described
from compressit.host.plugins import Host, Registered
from compressit.recipe.envelope import (
    Body,
    CompareBlock,
    EvaluateBlock,
    Head,
    ModelBlock,
    StageBlock,
    TaskBlock,
    WeightsBlock,
)  # fmt: skip
from compressit.recipe.model import ComputeConfig

PAGE = Path(__file__).parent / "recipe.md"
KINDS = ("dataset", "task", "model", "trainer", "compressor", "evaluator", "report", "observer")
SHARED: Mapping[type[Config], str] = {
    DataConfig: "[options of every dataset](#options-of-every-dataset)",
    FitConfig: "[options of every training](#options-of-every-training)",
}
LINKS = {
    "OptimizerConfig": "[optimizer](#options-of-every-training)",
    "ScheduleConfig": "[schedule](#options-of-every-training)",
    "ComputeConfig": "[compute](#compute)",
    "CompareBlock": "[compare](#comparing-strategies)",
    "HintsConfig": "`{layers: {…}, weight: …}`",
    "ModelUse": "`{uses: …, with: {…}}`",
    "Scale": "`{mean: […], std: […]}`",
    "Crop": "`{crop: …}`",
    "Erase": "`{erase: …}`",
    **{config.__name__: link for config, link in SHARED.items()},
}


def main() -> None:
    """Rewrites the page."""
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def render(page: str) -> str:
    """The page with fresh tables. Raises KeyError for a section of an unknown name."""
    sections: Mapping[str, Callable[[], str]] = {
        "top": lambda: options(Head) + "".join(_rows(Body)),
        "task": lambda: options(TaskBlock),
        "model": lambda: options(ModelBlock),
        "init": lambda: options(InitConfig),
        "weights": lambda: options(WeightsBlock),
        "stage": lambda: options(StageBlock),
        "evaluate": lambda: options(EvaluateBlock),
        "compute": lambda: options(ComputeConfig),
        "compare": lambda: options(CompareBlock),
        "data": lambda: options(DataConfig),
        "training": _training,
        "plugins": lambda: "\n".join(_plugins(Host())),
    }
    return re.sub(
        r"(<!-- generated: (\w+) -->\n).*?(<!-- /generated -->)",
        lambda found: f"{found[1]}\n{sections[found[2]]().strip()}\n\n{found[3]}",
        page,
        flags=re.S,
    )


def options(config: type[Config], base: type[Config] | None = None) -> str:
    """A table of a config's options without those it has unchanged from `base`; empty where none is left."""
    rows = list(_rows(config, base))
    head = "| option | type | default | description |\n| --- | --- | --- | --- |\n"
    return head + "".join(rows) if rows else ""


def _training() -> str:
    parts = [options(FitConfig)]
    for name, config in (("optimizer", OptimizerConfig), ("schedule", ScheduleConfig)):
        parts.append(f"`{name}`: {config.__doc__}\n\n{options(config)}")
    return "\n".join(parts)


def _plugins(host: Host) -> Iterator[str]:
    for kind in KINDS:
        yield f"### {kind.capitalize()}s\n"
        own = [r for r in host.registered(kind) if r.source.name == "compressit"]
        for registered in own:
            yield from _plugin(registered)


def _plugin(registered: Registered) -> Iterator[str]:
    plugin: type[Plugin[Any]] = registered.plugin
    yield f"#### `{plugin.name}`\n\n{plugin.summary()}\n"
    base = next((shared for shared in SHARED if issubclass(plugin.Config, shared)), None)
    table = options(plugin.Config, base)
    if base is not None:
        yield f"The {SHARED[base]}" + (", and:\n" if table else ".\n")
    elif not table:
        yield "No options.\n"
    if table:
        yield table
    for name, block in _blocks(plugin.Config):
        yield f"`{name}`: {block.__doc__}\n\n{options(block)}"
    if issubclass(plugin, Evaluator):
        if plugin.declares is not Evaluator.declares:
            yield "Of a classification, with the default options:\n"
        yield _metrics(declared(plugin(plugin.Config()), usual()))
    if issubclass(plugin, Task):
        yield _metrics(plugin(plugin.Config()).measures())


def _blocks(config: type[Config]) -> Iterator[tuple[str, type[Config]]]:
    """The options that are blocks with options of their own, and have no section; then those within them. Each kind of
    block once, where it comes first."""
    seen: set[type] = set()
    ahead = [("", config)]
    while ahead:
        path, block = ahead.pop(0)
        for name, field in block.model_fields.items():
            for kind in _kinds(field.annotation):
                if issubclass(kind, Config) and kind.__name__ not in LINKS and kind not in seen:
                    seen.add(kind)
                    ahead.append((f"{path}{name}.", kind))
                    yield path + name, kind


def _kinds(annotation: Any) -> Iterator[type]:
    """The classes in an annotation."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def _metrics(metrics: Mapping[str, Declared]) -> str:
    """Numbers with their unit; what else is given with its kind in the unit's place."""
    kinds = {
        name: (m.unit, m.better) if isinstance(m, Metric) else (type(m).__name__.lower(), "")
        for name, m in metrics.items()
    }
    rows = (
        f"| `{name}` | {unit} | {better} | {_cell(metrics[name].about)} |\n"
        for name, (unit, better) in kinds.items()
    )
    return "| metric | unit | better | meaning |\n| --- | --- | --- | --- |\n" + "".join(rows)


def _rows(config: type[Config], base: type[Config] | None = None) -> Iterator[str]:
    style = Style(literal=lambda value: f"`{value}`", block=lambda name: LINKS.get(name, "block"))
    for option in described(config, base, style):
        yield f"| `{option.name}` | {_cell(option.type)} | {option.default} | {_cell(option.about)} |\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
