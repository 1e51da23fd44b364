"""What to try next: Optuna's tree-structured Parzen estimator, the only place that imports Optuna.

Bergstra et al., "Algorithms for Hyper-Parameter Optimization" (2011); with constraints as in Watanabe & Hutter, "c-TPE"
(2022). The study is made anew from the finished trials each time, and its sampler from the seed and their number: the
same trials are followed by the same proposals, in a search that was stopped too.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compressit.errors import CompressitError
from compressit.searching.space import Parameter, Strategy
from compressit.searching.trials import Goal, Trial
from compressit.seeds import Streams

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as Asked

STRATEGY = "strategy"
PATIENCE = 50  # proposals in a row that were tried before
FAILED = 1e6  # how far a trial that failed is from what is allowed
_DIGITS = 4  # significant digits of a proposed number


def require_optuna() -> None:
    """Raises CompressitError, with the line that installs it, if Optuna is missing."""
    try:
        import optuna  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise CompressitError(
            f"a search needs Optuna, which is not installed ({error})", "pip install 'compressit[search]'"
        ) from error


def propose(
    strategies: Sequence[Strategy], trials: Sequence[Trial], goal: Goal, seed: int, count: int
) -> list[tuple[Strategy, dict[str, Any]]]:
    """At most `count` strategies with values that no trial had, to be tried side by side; fewer, or none, if nearly all
    there are were tried."""
    import optuna

    known = {(trial.strategy, json.dumps(dict(trial.values), sort_keys=True)) for trial in trials}
    found: list[tuple[Strategy, dict[str, Any]]] = []
    with warnings.catch_warnings(action="ignore"):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        number = Streams(seed, "search").number("proposals", len(trials)) % 2**32
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=number))
        own = {strategy.name: strategy for strategy in strategies}
        study.add_trials([_finished(own, trial, goal) for trial in trials if trial.strategy in own])
        repeated = 0
        while len(found) < count and repeated < PATIENCE:
            asked = study.ask()
            strategy, values = _chosen(asked, strategies)
            name = (strategy.name, json.dumps(values, sort_keys=True))
            if name in known:
                study.tell(asked, state=optuna.trial.TrialState.FAIL)
                repeated += 1
            else:
                known.add(name)
                found.append((strategy, values))
    return found


def _chosen(asked: Asked, strategies: Sequence[Strategy]) -> tuple[Strategy, dict[str, Any]]:
    names = [strategy.name for strategy in strategies]
    name = asked.suggest_categorical(STRATEGY, names) if len(names) > 1 else names[0]
    strategy = strategies[names.index(str(name))]
    return strategy, {parameter.name: _value(asked, parameter) for parameter in strategy.parameters}


def _value(asked: Asked, parameter: Parameter) -> Any:
    name, low, high = _key(parameter), parameter.low, parameter.high
    if parameter.choices:
        return json.loads(str(asked.suggest_categorical(name, [*map(json.dumps, parameter.choices)])))
    if parameter.whole:
        return asked.suggest_int(name, int(low), int(high), log=parameter.log)
    drawn = asked.suggest_float(name, low, high, log=parameter.log)
    return min(max(float(f"{drawn:.{_DIGITS}g}"), low), high)


def _finished(strategies: Mapping[str, Strategy], trial: Trial, goal: Goal) -> FrozenTrial:
    """A trial as Optuna knows it. One that failed has no value, and is as far from allowed as can be."""
    import optuna

    own = {parameter.name: parameter for parameter in strategies[trial.strategy].parameters}
    values = {name: value for name, value in trial.values.items() if name in own}
    found: dict[str, tuple[Any, BaseDistribution]] = {
        _key(own[name]): (_told(own[name], value), _distribution(own[name])) for name, value in values.items()
    }
    if len(strategies) > 1:
        found[STRATEGY] = (trial.strategy, optuna.distributions.CategoricalDistribution([*strategies]))
    done: Mapping[str, Any] = (
        {"state": optuna.trial.TrialState.PRUNED, "constraints": {"drop": FAILED}}
        if trial.failed
        else {
            "value": trial.cost,
            "constraints": {"drop": 0.0 if trial.meets(goal) else trial.drop - goal.max_drop},
        }
    )
    return optuna.trial.create_trial(
        params={name: value for name, (value, _) in found.items()},
        distributions={name: distribution for name, (_, distribution) in found.items()},
        **done,
    )


def _distribution(parameter: Parameter) -> BaseDistribution:
    from optuna import distributions

    if parameter.choices:
        return distributions.CategoricalDistribution([*map(json.dumps, parameter.choices)])
    if parameter.whole:
        return distributions.IntDistribution(int(parameter.low), int(parameter.high), parameter.log)
    return distributions.FloatDistribution(parameter.low, parameter.high, parameter.log)


def _told(parameter: Parameter, value: Any) -> Any:
    return json.dumps(value) if parameter.choices else value


def _key(parameter: Parameter) -> str:
    """The name of a parameter for Optuna, where one name has one range: strategies that share it learn from each
    other."""
    return f"{parameter.name} {json.dumps([parameter.low, parameter.high, parameter.log, parameter.choices])}"
