"""Searches a recipe: what is tried next, until enough was tried; then the winner, as a recipe that is run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import IO, cast

from rich.console import Console

from compressit.contract.results import Results
from compressit.errors import StageFailed
from compressit.host.plugins import Host
from compressit.planning.keys import key_of
from compressit.planning.plan import make_plan
from compressit.printable import Forgiving, folded
from compressit.recipe.alone import alone
from compressit.recipe.load import parse_recipe
from compressit.recipe.model import Recipe
from compressit.recipe.written import yaml_of
from compressit.running.session import Batches, run_plan
from compressit.searching.folder import RUN, SearchFolder
from compressit.searching.goals import goal_of
from compressit.searching.measuring import Asked, Measuring
from compressit.searching.proposing import propose, require_optuna
from compressit.searching.space import Strategy, strategies_of
from compressit.searching.told import Words
from compressit.searching.trials import Goal, Trial, Tried


@dataclass(frozen=True)
class Found:
    """What a search found."""

    folder: Path
    goal: Goal
    tried: Tried
    winner: Trial | None  # None: every trial lost more than is allowed
    recipe: Path | None = None  # the winner as a recipe, and
    final: str = ""  # the stage that makes its model, and
    results: Results | None = None  # its run, with the test metrics of the winner and its original

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, in order."""
        return self.tried.trials

    @property
    def front(self) -> tuple[Trial, ...]:
        """The trials than which no other costs less and lost less, the cheapest first."""
        return self.tried.front()

    @property
    def reason(self) -> str:
        """Why this is the winner, or why there is none."""
        return Words(self.goal, self.tried).reason(self.winner)

    def table(self) -> str:
        """The front in words, a line for each model."""
        return Words(self.goal, self.tried).table()

    @property
    def tests(self) -> dict[str, tuple[float, float]]:
        """What the winner's run measured on the test split, means over the seeds: of the original, and of the winner.
        Empty without a winner, and for what is not measured of both."""
        rows = self.results.rows if self.results is not None else ()
        own = {row.seed: row for row in rows if row.stage == self.final}  # of a repeated stage the last
        dense = {row.seed: row for row in rows if row.seed in own and row.name == own[row.seed].dense}
        name = self.goal.metric.replace("validation", "test")
        values = [[row.metrics.get(name) for row in found.values()] for found in (dense, own)]
        before, after = ([value for value in found if value is not None] for found in values)
        return {name: (fmean(before), fmean(after))} if before and len(before) == len(after) else {}


@dataclass(frozen=True)
class Order:
    """What is asked for."""

    minimize: str
    max_drop: float
    metric: str | None = None
    trials: int = 40
    jobs: int = 1
    seed: int = 0
    job_timeout: float | None = None
    command: str = ""


def search(
    recipe: Recipe, order: Order, host: Host, folder: Path, store: Path, console: Console | None = None
) -> Found:
    """Tries the recipe as it is written, then `order.trials` in all, in batches of `order.jobs`; runs the winner.

    Continues what `folder` holds. Raises CompressitError for a recipe that cannot be searched, StageFailed if nothing
    could be measured or the winner's run fails, and KeyboardInterrupt after Ctrl-C; finished trials are kept.
    """
    require_optuna()
    console = console or Console(file=cast("IO[str]", Forgiving(sys.stderr)))
    strategies = strategies_of(recipe)
    goal = goal_of(strategies, order.minimize, order.max_drop, order.metric)
    kept = SearchFolder(folder)
    say = partial(_say, console)
    batches = Batches(
        recipe, target=kept, folder=folder, store=store, workers=order.jobs, console=console,
        job_timeout=order.job_timeout,
    )  # fmt: skip
    searching = _Search(Measuring(recipe, goal, host, batches.run), strategies, order, kept, say)
    with kept.writing(say):
        with batches:
            tried = searching.trials()
        winner = tried.winner(goal)
        if winner is None:
            kept.remove_winner()
            return Found(folder, goal, tried, None)
        path, final = searching.write_winner(tried, winner)
    ran = parse_recipe(
        path.read_text(), str(path), host, trust=lambda plugin: plugin in recipe.plugins, path=path
    )
    results, failures = run_plan(
        make_plan(ran, host), host, folder=folder / RUN, store=store, workers=order.jobs, console=console,
        job_timeout=order.job_timeout, command=order.command,
    )  # fmt: skip
    if failures:
        raise StageFailed("\n".join(failures))
    return Found(folder, goal, tried, winner, path, final, results)


@dataclass(frozen=True)
class _Search:
    measuring: Measuring
    strategies: Sequence[Strategy]
    order: Order
    folder: SearchFolder
    say: Callable[[str], None]

    def trials(self) -> Tried:
        """Those that the folder has, and as many more as were asked for."""
        content = self._content()
        tried = self.folder.read(content)
        if tried.trials:
            self.say(f"continuing after {len(tried.trials)} trials in {self.folder.path}")
        else:
            self.folder.write(
                content, tried
            )  # observers may write beside it: the folder is a search's from now on
            tried = self._first()
            self._keep(content, Tried(), tried)
        strategies = self._open(tried)
        while (left := self.order.trials - len(tried.trials)) > 0:
            before, count = tried, min(self.order.jobs, left)
            proposed = propose(strategies, tried.trials, self.measuring.goal, self.order.seed, count)
            if not proposed:
                self.say("there is nothing else to try")
                break
            first = len(tried.trials)
            asked = [Asked(first + n, strategy, values) for n, (strategy, values) in enumerate(proposed)]
            made = self.measuring.trials(asked, tried.originals)
            tried = replace(tried, trials=(*tried.trials, *made))
            self._keep(content, before, tried)
        return tried

    def write_winner(self, tried: Tried, winner: Trial) -> tuple[Path, str]:
        """Writes the winner's recipe, with a comment on how it was found. Returns its path, and its last stage."""
        strategy = next(s for s in self._open(tried) if s.name == winner.strategy)
        variant, final = strategy.at(winner.values, strategy.name)
        recipe = self.measuring.recipe
        description = f"found by a search of {recipe.name}: {winner.told}"
        found = alone(recipe, variant, f"{recipe.name}-winner", description)
        comment = Words(self.measuring.goal, tried).comment(winner, recipe, self.order.seed)
        return self.folder.write_winner(comment + yaml_of(found)), final

    def _first(self) -> Tried:
        """The strategies as the recipe is written: what is lost is counted from their originals."""
        asked = [Asked(n, strategy, strategy.written()) for n, strategy in enumerate(self.strategies)]
        trials, originals, layers = self.measuring.written(asked)
        return Tried(tuple(trials), originals, layers)

    def _open(self, tried: Tried) -> list[Strategy]:
        """The strategies that can be compared with their original, with all their parameters.

        Raises StageFailed if there is none.
        """
        known = [
            s for s in self.strategies if s.name in tried.originals and all(tried.layers[s.name].values())
        ]
        found = [s.with_layers(tried.layers[s.name]) for s in known]
        if not found:
            why = "\n".join(f"{trial.told}: {trial.failed}" for trial in tried.trials if trial.failed)
            raise StageFailed(
                f"nothing can be searched: the recipe as it is written could not be measured\n{why}"
            )
        return found

    def _content(self) -> str:
        """The key of everything that determines what is tried."""
        plan = self.measuring.plan([s.at({}, f"{n:03d}")[0] for n, s in enumerate(self.strategies)])
        models = [point.model for point in plan.points]
        spaces = [[asdict(p) for p in s.parameters] + [asdict(v) for v in s.layered] for s in self.strategies]
        return key_of({
            "goal": asdict(self.measuring.goal), "models": models, "spaces": spaces, "seed": self.order.seed,
            "strategies": [s.name for s in self.strategies],
        })  # fmt: skip

    def _keep(self, content: str, before: Tried, tried: Tried) -> None:
        self.folder.write(content, tried)
        words = Words(self.measuring.goal, tried)
        for trial in tried.trials[len(before.trials) :]:
            self.say(words.trial(trial))
        if tried.front() != before.front():
            for told in words.front():
                self.say(told)


def _say(console: Console, text: str) -> None:
    console.print(folded(text), markup=False, emoji=False, highlight=False, soft_wrap=True)
