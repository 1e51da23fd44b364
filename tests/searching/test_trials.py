"""The front and the winner, against every pair compared by hand."""

from __future__ import annotations

import random

from compressit.searching.trials import Goal, Trial, Tried

GOAL = Goal("macs", "validation_accuracy", 0.3)


def _tried(seed: int) -> Tried:
    draw = random.Random(seed)
    numbers = [(draw.randrange(12), draw.randrange(12) / 10) for _ in range(30)]
    trials = [Trial(n, "s", {}, cost, 0.0, drop) for n, (cost, drop) in enumerate(numbers)]
    return Tried((*trials, Trial(30, "s", {}, failed="too little")))


def test_the_front_is_what_no_other_trial_beats() -> None:
    for seed in range(50):
        tried = _tried(seed)
        measured = tried.trials[:-1]
        beaten = {
            one.number
            for one in measured
            for other in measured
            if (other.cost, other.drop) != (one.cost, one.drop)
            and other.cost <= one.cost
            and other.drop <= one.drop
        }
        left = {(trial.cost, trial.drop) for trial in measured if trial.number not in beaten}
        front = tried.front()
        assert [(trial.cost, trial.drop) for trial in front] == sorted(left)
        assert all(
            trial.number == min(t.number for t in measured if (t.cost, t.drop) == (trial.cost, trial.drop))
            for trial in front
        ), "of equals the first"
        allowed = [trial for trial in measured if trial.drop <= 0.3]
        winner = tried.winner(GOAL)
        assert (winner.cost if winner else None) == min((trial.cost for trial in allowed), default=None)


def test_a_drop_of_exactly_what_is_allowed_is_allowed() -> None:
    assert Trial(0, "s", {}, 1.0, 0.945, GOAL.drop(0.95, 0.945)).meets(Goal("macs", "m", 0.005))
    assert not Trial(0, "s", {}, 1.0, 0.94, GOAL.drop(0.95, 0.94)).meets(Goal("macs", "m", 0.005))


def test_a_loss_that_grows_is_a_drop() -> None:
    assert Goal("macs", "validation_rmse", 0.1, better="lower").drop(0.5, 0.7) == 0.7 - 0.5
