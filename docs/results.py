"""Writes the tables and pictures of results.md from the results in results/: `python docs/results.py`.

`results/NAME.csv` is the `results.csv` of a full run of `examples/NAME.yaml`. What stands between
`<!-- results: NAME -->` and `<!-- /results -->` is replaced. The rest of the page is written by hand.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compressit.results.statistics import Estimate, estimate

DOCS = Path(__file__).parent
PAGE = DOCS / "results.md"
MEASURED = {"nonzero": "non-zeros", "parameters": "parameters", "macs": "MACs"}


@dataclass(frozen=True)
class Shown:
    """What is shown of a run: its models, by variant and stage, and their cost. The first is the original."""

    cost: str
    models: Mapping[str, str]  # "variant stage" or "stage" -> what it is


RUNS: Mapping[str, Shown] = {
    "lenet300_sparse": Shown(
        "nonzero",
        {
            "train": "dense",
            "gradual57": "gradual, LAMP, distilled",
            "sparse57": "sparse momentum, distilled",
            "sparse68": "sparse momentum, distilled, sparser",
        },
    ),
    "lenet5_sparse": Shown(
        "nonzero",
        {"train": "dense", "fade": "sparse momentum", "sparse": "sparse momentum, distilled"},
    ),
    "lenet300_structured": Shown(
        "parameters",
        {
            "units train": "dense",
            "units recover": "fewer units, distilled",
            "low_rank recover": "fewer units and low rank, distilled",
        },
    ),
}


@dataclass(frozen=True)
class Line:
    """A model over all seeds. Errors in percent."""

    what: str
    cost: float
    validation: Estimate
    test: Estimate
    errors: Sequence[float]  # on the test split, by seed


def main() -> None:
    """Rewrites the page and its pictures."""
    text = PAGE.read_text(encoding="utf-8")
    for name in re.findall(r"<!-- results: (\w+) -->", text):
        draw(name)
    PAGE.write_text(rewritten(text), encoding="utf-8")


def rewritten(text: str) -> str:
    """The page with all its tables made anew."""
    return re.sub(
        r"(<!-- results: (\w+) -->\n).*?(<!-- /results -->)",
        lambda found: f"{found[1]}\n{table(found[2])}\n\n{found[3]}",
        text,
        flags=re.S,
    )


def table(name: str) -> str:
    """The Markdown table of a run, and its picture."""
    shown, found = RUNS[name], list(lines(name))
    head = ["model", MEASURED[shown.cost], "times fewer", "validation error", "test error", "by seed"]
    rows = [
        [
            line.what,
            f"{line.cost:,.0f}",
            f"{found[0].cost / line.cost:.1f}",
            _percent(line.validation),
            _percent(line.test),
            ", ".join(f"{error:.2f}" for error in line.errors),
        ]
        for line in found
    ]
    made = [head, ["---"] * len(head), *rows]
    picture = f"![Test error of {name} against {MEASURED[shown.cost]}](images/results/{name}.png)"
    return "\n".join(f"| {' | '.join(row)} |" for row in made) + f"\n\n{picture}"


def lines(name: str) -> Iterator[Line]:
    """The models of a run that are shown, in their order."""
    with (DOCS / "results" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for model, what in RUNS[name].models.items():
        *variant, stage = model.split()
        own = [
            row for row in rows if row["stage"] == stage and row["variant"] in (variant or [row["variant"]])
        ]
        errors = {
            split: [100 - 100 * float(row[f"{split}_accuracy"]) for row in own]
            for split in ("validation", "test")
        }
        validation, test = estimate(errors["validation"]), estimate(errors["test"])
        assert validation is not None, f"{name}: no {model}"
        assert test is not None
        cost = sum(float(row[RUNS[name].cost]) for row in own) / len(own)
        yield Line(what, cost, validation, test, errors["test"])


def draw(name: str) -> None:
    """The picture: every seed a dot, means with their 95 % intervals."""
    from matplotlib.figure import Figure

    found = list(lines(name))
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for number, line in enumerate(found):
        colour = f"C{number}"
        axes.plot([line.cost] * len(line.errors), line.errors, "o", color=colour, alpha=0.4, markersize=4)
        spread = (
            None if line.test.low is None or line.test.high is None else (line.test.high - line.test.low) / 2
        )
        axes.errorbar(line.cost, line.test.mean, spread, fmt="D", color=colour, capsize=4, label=line.what)
    axes.set(xscale="log", xlabel=MEASURED[RUNS[name].cost], ylabel="test error, %")
    for ticks in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        ticks(lambda value, _: f"{value:,.0f}" if f"{value:e}"[0] in "125" else "")
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    target = DOCS / "images" / "results" / f"{name}.png"
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target, dpi=120, metadata={"Software": None})


def _percent(found: Estimate) -> str:
    spread = "" if found.low is None or found.high is None else f" ± {(found.high - found.low) / 2:.2f}"
    return f"{found.mean:.2f}{spread} %"


if __name__ == "__main__":
    main()
