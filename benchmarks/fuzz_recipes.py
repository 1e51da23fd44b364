"""Mutates recipes at random: each gives a plan or an error in words, and what reads well is planned.

    python benchmarks/fuzz_recipes.py [--count 20000] [--seed 0]

In one process and without running anything. Counts what was planned and what was refused; prints every recipe that
ended in a traceback, took longer than LIMIT seconds, was refused without a place, or read well and was then refused by
the plan without words. Exit code 1 where there is one.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import copy
import json
import random
import re
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from compressit.errors import CompressitError, RecipeError
from compressit.host.plugins import Host, installed
from compressit.planning.plan import make_plan
from compressit.recipe.load import parse_recipe

LIMIT = 10.0  # seconds for one recipe, on a machine that has other work
EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.yaml"))
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**40, -(2**70), 0.5, -0.0, 1e308, float("inf"), float("nan"), "",
    " ", ".", "..", "/", "a\0b", "\ud800", "\x1b[31m", "\u202e", "é", "x" * 5000, "1e400", "0x10", "null", "~", "[",
    "{}", [], {}, [[]], {"": None}, {"with": {}}, [None], "train", "previous", "init", "x.safetensors", "data.mnist",
    "train.supervised", "prune.magnitude", "eval.accuracy", {"uses": "train.supervised"}, [1, 1], [0, 1], [-1],
)  # fmt: skip
TEXTS = ("\0", "\r\n", "\ufeff", "\t", "&a ", "*a", "<<: ", "!!python/object:os.system ", "- ", ": ", "{", "]", "'",
         '"', "|", "%YAML 9\n", "---\n", "...\n", "#", "\\", "?", "é", "\u2028", "1" * 400)  # fmt: skip
SETTINGS = ("stages.train.with.epochs", "seeds", "data.with.limit", "stages", "model.with.hidden", "evaluate.0", "",
            "variants.real", "stages.train", "report", "name", "a.b.c", "stages.blog.repeat", "..")  # fmt: skip
BASE = """
version: 1
name: base
data: {uses: data.synthetic, with: {validation: 0.1, limit: 50}}
model: {uses: model.mlp, with: {hidden: [8, 8]}}
variants: {real: {}, fake: {data: {with: {labels: random}}}}
stages:
  train: {uses: train.supervised, with: {epochs: 3, schedule: {name: step, milestones: [1]}, optimizer: {lr: 0.1}}}
  prune: {uses: prune.structured, needs: train, sweep: {with.keep: [0.5, 0.7]}}
  cut: {uses: prune.magnitude, needs: train, with: {sparsity: 0.5, finetune: {epochs: 1}}}
  kd: {uses: distill.soft_labels, needs: train, repeat: 3, feed: original, with: {width: 0.5, teacher: train}}
evaluate: [eval.accuracy, eval.size, {uses: eval.latency, with: {}}]
seeds: [0, 1]
compute: {device: cpu, threads: 1}
profiles: {quick: {stages: {train: {with: {epochs: 2}}}}}
"""


def trees() -> list[Any]:
    """The recipes that are mutated: not the examples that need files of the user's."""
    yaml = YAML(typ="safe")
    examples = (yaml.load(path.read_text(encoding="utf-8")) for path in EXAMPLES)
    return [yaml.load(BASE), *(tree for tree in examples if tree["data"]["uses"] != "data.folder")]


def depth(tree: Any) -> int:
    """How deep the tree is, without recursion."""
    level, count = [tree], 0
    while level := [
        v for n in level if isinstance(n, dict | list) for v in (n.values() if isinstance(n, dict) else n)
    ]:
        count += 1
    return count


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every container of a tree with each of its keys."""
    if isinstance(tree, dict):
        own = [(tree, key) for key in tree]
    elif isinstance(tree, list):
        own = [(tree, index) for index in range(len(tree))]
    else:
        return []
    return own + [place for holder, key in own for place in places(holder[key])]


def mutated(tree: Any, draw: random.Random) -> Any:
    """A copy with one to four nodes changed: replaced, removed, doubled, renamed, exchanged, wrapped, nested."""
    tree = json.loads(json.dumps(tree))
    for _ in range(draw.randint(1, 4)):
        found = places(tree) if depth(tree) < 300 else []
        if not found:
            break
        holder, key = draw.choice(found)
        other, second = draw.choice(found)
        match draw.randrange(8):
            case 0 | 1 | 2:
                holder[key] = copy.deepcopy(draw.choice(ODD))
            case 3:
                del holder[key]
            case 4 if isinstance(holder, dict):
                holder[str(draw.choice(ODD))[:200]] = holder.pop(key)
            case 5:
                holder[key] = [holder[key], holder[key]]
            case 6 if key in other if isinstance(other, dict) else False:
                other[key] = json.loads(json.dumps(holder[key]))
            case 7:
                for _ in range(draw.choice((1, 3, 60, 150))):
                    holder[key] = {draw.choice(("with", "uses", "a")): holder[key]}
            case _:
                with contextlib.suppress(
                    KeyError, IndexError
                ):  # the first change took the second's place away
                    other[second], holder[key] = json.loads(json.dumps([holder[key], other[second]]))
    return tree


def scrambled(text: str, draw: random.Random) -> str:
    """The text with pieces removed, doubled or put in."""
    for _ in range(draw.randint(1, 5)):
        start = draw.randrange(len(text) + 1)
        end = min(len(text), start + draw.choice((0, 1, 1, 3, 20)))
        text = text[:start] + draw.choice((*TEXTS, text[start:end] * 2, "")) + text[end:]
    return text


def example(draw: random.Random, recipes: list[Any]) -> tuple[str, list[str], str | None]:
    """A recipe's text, its --set arguments and its profile."""
    tree = draw.choice(recipes)
    changed = mutated(tree, draw) if draw.random() < 0.8 else tree
    text = json.dumps(changed, default=str, allow_nan=True).replace("NaN", ".nan").replace("Infinity", ".inf")
    if changed is tree or draw.random() < 0.1:
        text = scrambled(text, draw)
    settings = []
    while draw.random() < 0.2:
        value = draw.choice(ODD)
        said = value if isinstance(value, str) else json.dumps(value)
        settings.append(draw.choice(SETTINGS) + draw.choice(("=", "=", "")) + said)
    return text, settings, draw.choice((None, None, None, "quick", "slow"))


def outcome(host: Host, text: str, settings: list[str], profile: str | None) -> str:
    """What became of it: "planned", "refused", or a fault: "no place", "late", "traceback: …"."""
    try:
        try:
            recipe = parse_recipe(text, "r.yaml", host, profile, settings)
        except RecipeError as error:
            placed = all(re.search(r"^(r\.yaml(:\d+:\d+)?|--set .*|--profile .*): ", line) for line in
                         (str(problem) for problem in error.problems))  # fmt: skip
            return "refused" if placed and error.problems else f"no place: {error}"
        try:
            make_plan(recipe, host)
        except CompressitError as error:
            return f"late: {error}"
    except Exception:  # noqa: BLE001 - that is what is looked for
        return "traceback: " + traceback.format_exc(limit=-3)
    return "planned"


def main() -> None:
    """Runs the count and prints what happened."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    host, recipes, draw = installed(), trees(), random.Random(arguments.seed)
    counts: collections.Counter[str] = collections.Counter()
    slowest = 0.0
    for number in range(arguments.count):
        text, settings, profile = example(draw, recipes)
        started = time.process_time()
        found = outcome(host, text, settings, profile)
        taken = time.process_time() - started
        slowest = max(slowest, taken)
        if taken > LIMIT:
            found = f"slow: {taken:.1f} s"
        counts[found.split(":")[0]] += 1
        if ":" in found:
            sys.stdout.write(f"{number}: {found}\n  {text[:600]!r}\n  {settings!r:.300} {profile}\n")
            sys.stdout.flush()
    sys.stdout.write(
        json.dumps({**counts, "seed": arguments.seed, "slowest_seconds": round(slowest, 2)}) + "\n"
    )
    sys.exit(int(set(counts) - {"planned", "refused"} != set()))


if __name__ == "__main__":
    main()
