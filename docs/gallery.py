"""Writes gallery.md: the figures of a book's chapter as the recipes in examples/chapter20/ give them.

`python docs/gallery.py RUN …` takes what the page shows from run folders: figures into images/gallery/, and the tables,
date and command into gallery/NAME.json. Then, and without arguments, it writes the page from these.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compressit import Results, installed
from compressit.contract.kinds import Report

DOCS = Path(__file__).parent
PAGE = DOCS / "gallery.md"
KEPT = DOCS / "gallery"
IMAGES = DOCS / "images" / "gallery"
RECIPES = DOCS.parent / "examples" / "chapter20"
DPI = 110
HEAD = """# The chapter gallery

"Why does deep learning work?" is chapter 20 of Simon Prince's
[Understanding Deep Learning](https://udlbook.github.io/udlbook/) (2023). Each of its figures is a recipe here, in
[examples/chapter20/](https://github.com/compressit/compressit/tree/main/examples/chapter20):

```text
compressit run examples/chapter20/06_intrinsic_dimension.yaml --profile quick
```

The page of a run shows the figure, and whether it agrees with what was published. Below are the figures of full runs,
without `--profile quick`: what was published, what is asked of a run on two cores, and what came out. What misses is
shown as a miss.
"""


def main(runs: list[str]) -> None:
    """Keeps what these run folders show, and writes the page."""
    for run in runs:
        keep(Path(run))
    PAGE.write_text(page(), encoding="utf-8")


def keep(run: Path) -> None:
    """Keeps the figures and tables of a run's reports."""
    results = Results.read_json(run / "results.json")
    name = Path(str(results.config["recipe"]["file"])).stem
    figures: list[Mapping[str, str]] = []
    tables: list[Mapping[str, Any]] = []
    IMAGES.mkdir(parents=True, exist_ok=True)
    for made in results.config["report"]:
        report = installed().create(Report, made["uses"], made["config"])
        for figure in report.figures(results).values():
            file = f"{name}-{len(figures) + 1}.png" if figures else f"{name}.png"
            figure.savefig(IMAGES / file, dpi=DPI, metadata={"Software": None})
            figures.append({"file": file, "caption": figure.get_label()})
        tables += [
            {"head": list(table.head), "rows": [list(row) for row in table.rows]}
            for table in report.tables(results)
        ]
    about = results.about
    facts = {
        "figures": figures,
        "tables": tables,
        "profile": results.profile,
        "date": str(about["date"])[:10],
        "minutes": round(float(about["job_seconds"]) / 60, 1),
        "cores": max(int(host["cores"]) for host in about["hosts"]),
        "gpu": next((str(host["gpu"]) for host in about["hosts"] if host["gpu"]), ""),
        "missing": len(results.missing) + len(results.failures),
    }
    KEPT.mkdir(exist_ok=True)
    (KEPT / f"{name}.json").write_text(
        json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def page() -> str:
    """The page, from what is kept."""
    recipes = sorted(RECIPES.glob("*.yaml"))
    return "\n".join([HEAD, *_summary(recipes), *(line for recipe in recipes for line in _section(recipe))])


def _summary(recipes: list[Path]) -> Iterator[str]:
    """A line for each figure: how many of its checks agree."""
    yield "| figure | checks that agree | minutes |"
    yield "| --- | --- | --- |"
    for recipe in recipes:
        kept = _kept(recipe)
        checked = [table for table in kept["tables"] if "verdict" in table["head"]] if kept else []
        verdicts = [row[table["head"].index("verdict")] for table in checked for row in table["rows"]]
        agree = f"{verdicts.count('within')} of {len(verdicts)}" if verdicts else "–"
        minutes = f"{kept['minutes']:g}" if kept else "not run yet"
        yield f"| [{_title(recipe)}](#{_anchor(recipe)}) | {agree} | {minutes} |"
    yield ""


def _section(recipe: Path) -> Iterator[str]:
    """A figure with its words, its picture and its checks."""
    yield f"## {_title(recipe)} {{#{_anchor(recipe)}}}\n"
    yield f"{_words(recipe)}\n"
    kept = _kept(recipe)
    if kept is None:
        yield f"`compressit run examples/chapter20/{recipe.name}`: its full run has not been made yet.\n"
        return
    profile = f" --profile {kept['profile']}" if kept["profile"] else ""
    machine = kept["gpu"] or f"{kept['cores']} cores"
    unfinished = f" {kept['missing']} models are missing." if kept["missing"] else ""
    yield (
        f"`compressit run examples/chapter20/{recipe.name}{profile}`, {kept['date']}, {machine}: "
        f"{kept['minutes']:g} minutes of computing.{unfinished}\n"
    )
    for figure in kept["figures"]:
        yield f"![{figure['caption']}](images/gallery/{figure['file']})\n"
    for table in kept["tables"]:
        rows = [table["head"], ["---"] * len(table["head"]), *table["rows"]]
        yield "\n".join(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows) + "\n"


def _kept(recipe: Path) -> Mapping[str, Any] | None:
    file = KEPT / f"{recipe.stem}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _title(recipe: Path) -> str:
    number, _, name = recipe.stem.partition("_")
    words = name.replace("_", " ").capitalize()
    return f"20.{int(number)} {words}" if number.isdigit() else recipe.stem.replace("_", " ").capitalize()


def _anchor(recipe: Path) -> str:
    return recipe.stem.replace("_", "-")


def _words(recipe: Path) -> str:
    """The comment at the recipe's head."""
    lines = re.match(r"(?:#.*\n)+", recipe.read_text(encoding="utf-8"))
    return "\n".join(line.removeprefix("#").strip() for line in lines[0].splitlines()) if lines else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main(sys.argv[1:])
