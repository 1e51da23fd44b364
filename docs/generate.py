"""Writes the generated tables of recipe.md from the config classes: `python docs/generate.py`.

Whatever stands between `<!-- generated: NAME -->` and `<!-- /generated -->` is replaced. Only the plugins of
the distribution `compressit` itself are listed, whatever else is installed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from compressit.config import Config, ModelRefMarker
from compressit.data_options import DataConfig
from compressit.fit_options import FitConfig, OptimizerConfig, ScheduleConfig
from compressit.kinds import Evaluator, Metric, Plugin
from compressit.plugins import Host, Registered
from compressit.recipe.envelope import Body, Head, ModelBlock, StageBlock
from compressit.recipe.model import ComputeConfig

PAGE = Path(__file__).parent / "recipe.md"
KINDS = ("dataset", "model", "trainer", "compressor", "evaluator", "report")
SHARED: Mapping[type[Config], str] = {
    DataConfig: "[options of every dataset](#options-of-every-dataset)",
    FitConfig: "[options of every training](#options-of-every-training)",
}
LINKS = {
    "OptimizerConfig": "[optimizer](#options-of-every-training)",
    "ScheduleConfig": "[schedule](#options-of-every-training)",
    "ComputeConfig": "[compute](#compute)",
    **{config.__name__: link for config, link in SHARED.items()},
}


def main() -> None:
    """Rewrites the page."""
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def render(page: str) -> str:
    """The page with fresh tables. Raises KeyError for a section of an unknown name."""
    sections: Mapping[str, Callable[[], str]] = {
        "top": lambda: options(Head) + "".join(_rows(Body)),
        "model": lambda: options(ModelBlock),
        "stage": lambda: options(StageBlock),
        "compute": lambda: options(ComputeConfig),
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
        own = [r for r in host.registered(kind) if r.owner.split()[0] == "compressit"]
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
    if issubclass(plugin, Evaluator):
        yield _metrics(plugin.metrics)


def _metrics(metrics: Mapping[str, Metric]) -> str:
    rows = (f"| `{name}` | {m.unit} | {m.better} | {_cell(m.about)} |\n" for name, m in metrics.items())
    return "| metric | unit | better | meaning |\n| --- | --- | --- | --- |\n" + "".join(rows)


def _rows(config: type[Config], base: type[Config] | None = None) -> Iterator[str]:
    properties = config.model_json_schema(by_alias=True)["properties"]
    inherited = base.model_fields if base is not None else {}
    for name, field in config.model_fields.items():
        if repr(field) == repr(inherited.get(name)):
            continue
        shown = field.alias or name
        kind = "model" if ModelRefMarker.__name__ in repr(field) else _type(properties[shown])
        default = (
            "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        )
        yield f"| `{shown}` | {_cell(kind)} | {default} | {_cell(field.description or '')} |\n"


def _type(schema: Mapping[str, Any]) -> str:
    """A JSON Schema's type in words: `whole number ≥ 1 or null`."""
    if "$ref" in schema:
        name = schema["$ref"].split("/")[-1]
        return LINKS.get(name, f"`{name}`")
    if "enum" in schema or "const" in schema:
        return _or(_default(value) for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return _or(map(_type, schema["anyOf"]))
    kind = str(schema.get("type"))
    if kind != "array":
        return f"{_WORDS.get(kind, 'any value')} {_bounds(schema)}".strip()
    if "prefixItems" in schema:
        return f"list of {len(schema['prefixItems'])}: {', '.join(map(_type, schema['prefixItems']))}"
    item = _type(schema.get("items", {}))
    plural = item.replace("number", "numbers").replace("text", "texts").replace("value", "values")
    return f"{'non-empty ' if schema.get('minItems') else ''}list of {plural.removeprefix('any ')}"


_WORDS = {
    "integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`",
    "object": "mapping", "null": "`null`",
}  # fmt: skip
_SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _bounds(schema: Mapping[str, Any]) -> str:
    return " and ".join(f"{sign} {schema[key]:g}" for key, sign in _SIGNS.items() if key in schema)


def _default(value: Any) -> str:
    if isinstance(value, Config):
        return "its defaults"
    return f"`{value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)}`"


def _or(names: Iterable[str]) -> str:
    *first, last = dict.fromkeys(names)
    return f"{', '.join(first)} or {last}" if first else last


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
