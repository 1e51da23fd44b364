"""How many functions of compressit one option passes on its way from a recipe's text to a checkpoint.

    python benchmarks/one_option.py [--list]

Loads, plans and runs (in this process) a tiny recipe whose `sparsity` has a value of its own, and counts the functions
with an argument or local that holds it: itself, as text, or at most two levels down in mappings, lists and objects.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import compressit
from compressit.contract.job import Job
from compressit.contract.kinds import Plugin
from compressit.host.plugins import installed
from compressit.planning.plan import make_plan
from compressit.recipe.load import load_recipe
from compressit.running.job import JobRunner
from compressit.store.objects import Store

VALUE = 0.5371
DEPTH = 2
RECIPE = f"""\
version: 1
name: one
data: {{uses: data.synthetic, with: {{limit: 100, validation: 0.1}}}}
model: {{uses: model.mlp, with: {{hidden: [8]}}}}
stages:
  prune:
    uses: prune.magnitude
    with:
      sparsity: {VALUE}
evaluate: [eval.size]
"""
ROOT = Path(compressit.__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--list", action="store_true", help="print the functions")
    listed = parser.parse_args().list
    with tempfile.TemporaryDirectory() as folder:
        seen = followed(Path(folder))
    print(f"{sum(map(len, seen.values()))} functions in {len(seen)} files")
    for file, names in sorted(seen.items()) if listed else ():
        print(f"  {file}: {', '.join(sorted(names))}")


def followed(folder: Path) -> Mapping[str, set[str]]:
    seen: dict[str, set[str]] = defaultdict(set)

    def look(frame: Any, event: str, arg: Any) -> None:
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(str(ROOT)):
            return
        name = code.co_qualname.split(".<locals>")[0]  # what it defines inside is a part of it
        file = str(Path(code.co_filename).relative_to(ROOT))
        if name != "<module>" and name not in seen[file] and holds(list(frame.f_locals.values()), DEPTH + 1):
            seen[file].add(name)

    path = folder / "one.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    host, store = installed(), Store(folder / "store", warn=print)
    runner = JobRunner(store, host, folder / "cache")
    sys.setprofile(look)
    try:
        plan = make_plan(load_recipe(path, host=host), host)
        for job in plan.jobs.values():
            runner.run(Job.from_json(job.to_json()), lambda event: None)
    finally:
        sys.setprofile(None)
    assert all(store.find(key) for key in plan.jobs)
    return {file: names for file, names in seen.items() if names}


def holds(value: object, depth: int) -> bool:
    if isinstance(value, float):
        return value == VALUE
    if isinstance(value, str):
        return str(VALUE) in value
    return depth > 0 and any(holds(part, depth - 1) for part in parts(value))


def parts(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple):
        yield from value
    elif is_dataclass(value) and not isinstance(value, type):
        yield from (getattr(value, field.name, None) for field in fields(value))
    elif isinstance(value, BaseModel):
        yield from vars(value).values()
    elif isinstance(value, Plugin):
        yield getattr(value, "config", None)


if __name__ == "__main__":
    main()
