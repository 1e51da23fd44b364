"""A search in words: each trial, the front, why the winner won."""

from __future__ import annotations

from dataclasses import dataclass

from compressit.formatting import counted, number
from compressit.printable import line
from compressit.recipe.model import Recipe
from compressit.searching.trials import Goal, Trial, Tried

NAME = 24  # characters of a strategy's name in the table of the front


@dataclass(frozen=True)
class Words:
    """What to say of the trials so far."""

    goal: Goal
    tried: Tried

    def trial(self, trial: Trial) -> str:
        """`trial 3: half: half.keep=0.43: macs 12 345 (2.31x less), validation_accuracy 95.10 % (0.30 points lost)`."""
        return f"trial {trial.number}: {trial.told}: {self._measured(trial)}"

    def front(self) -> list[str]:
        """The front as a table, the cheapest first: a head, and a short line for each model, with a star if it is
        allowed."""
        goal = self.goal
        rows = [
            [f"front (* lost at most {self._points(goal.max_drop)})", goal.minimize, "", goal.metric, "lost"]
        ]
        for trial in self.tried.front():
            cost, score = (number(v, u) for v, u in zip((trial.cost, trial.score), goal.units, strict=True))
            name, star = line(trial.strategy), " *" if trial.meets(goal) else ""
            name = name if len(name) <= NAME else f"{name[: NAME - 1]}…"
            first = f"trial {trial.number} {name}{star}"
            rows.append([first, cost, self._times(trial), score, self._points(trial.drop)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in rows
        ]

    def table(self) -> str:
        """The front, a line for each model."""
        lines = (f"{'*' if t.meets(self.goal) else ' '} {self.trial(t)}" for t in self.tried.front())
        head = f"the front, the cheapest first (* lost no more than {self._points(self.goal.max_drop)}):"
        return "\n".join([head, *lines])

    def reason(self, winner: Trial | None) -> str:
        """Why this is the winner, or why there is none."""
        allowed = f"no more than {self._points(self.goal.max_drop)} of {self.goal.metric}"
        count = counted(len(self.tried.trials), "trial")
        if winner is not None:
            return (
                f"of {count} it has the fewest {self.goal.minimize} that lost {allowed}: {self.trial(winner)}"
            )
        nearest = self.tried.nearest()
        found = f"; the nearest is {self.trial(nearest)}" if nearest is not None else ""
        return f"none of {count} lost {allowed}{found}"

    def comment(self, winner: Trial, recipe: Recipe, seed: int) -> str:
        """How the winner was found, for the recipe file that is made of it: lines of a YAML comment."""
        measured = [trial for trial in self.tried.trials if not trial.failed]
        return "".join(
            f"# {line(text)}\n"
            for text in [
                f"Found by a search of {recipe.name}: the fewest {self.goal.minimize} that lose no more than "
                f"{self.goal.max_drop:g} of {self.goal.metric}.",
                f"Trial {winner.number} of {len(self.tried.trials)} ({len(measured)} could be measured), seed {seed}.",
                winner.told,
                f"{self.goal.minimize} {winner.cost:g}, {self._times(winner)} than its original; "
                f"{self.goal.metric} {winner.score:g}, lost {winner.drop:g}.",
                "It was chosen among many by the validation split, so its number there flatters it: believe the test.",
            ]
        )

    def _measured(self, trial: Trial) -> str:
        if trial.failed:
            return f"failed: {trial.failed}"
        cost, score = (number(v, u) for v, u in zip((trial.cost, trial.score), self.goal.units, strict=True))
        lost = f"{self._points(trial.drop)} lost" if trial.drop >= 0 else f"{self._points(-trial.drop)} won"
        return f"{self.goal.minimize} {cost} ({self._times(trial)}), {self.goal.metric} {score} ({lost})"

    def _times(self, trial: Trial) -> str:
        before = self.tried.originals[trial.strategy].cost  # a measured trial has one
        return f"{before / trial.cost:.3g} times less" if trial.cost else "nothing left of it"

    def _points(self, value: float) -> str:
        return f"{100 * value:.2f} points" if self.goal.units[1] == "fraction" else f"{value:.3g}"
