"""An option that would be accepted without any effect is a mistake, told at its own place."""

from __future__ import annotations

import pytest

from .samples import BASE, Parse, Problems, told

NO_EFFECT = "has no effect"


def _place(text: str, words: str) -> str:
    """Where the value stands of the option that these words begin with."""
    key = words.split()[0].split(".")[-1] + ": "
    number, line = next((n, line) for n, line in enumerate(text.splitlines(), 1) if key in line)
    return f"r.yaml:{number}:{line.index(key) + len(key) + 1}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("label_fraction: 0.5", "label_fraction has no effect with `labels: given`"),
        ("seed: 3", "seed has no effect"),
        ("validation: 1.5", "validation must be a fraction below 1 or a whole number of images (got 1.5)"),
        ("validation: 0.001", "validation rounds to 0 of 40 training images (got 0.001)"),
        ("validation: 40", "validation leaves none of the 40 images for training (got 40)"),
        ("validation: 0.04, limit: 12", "validation rounds to 0 of 12 training images"),
    ],
)
def test_options_of_the_data(problems: Problems, options: str, words: str) -> None:
    text = BASE.replace("tiny.data}", f"tiny.data, with: {{{options}}}}}")
    (problem,) = told(problems(text))
    assert problem.startswith(f"{_place(text, words)}: data.with.{words}")


@pytest.mark.parametrize(
    "options",
    [
        "labels: random, label_fraction: 0.5, seed: 3",
        "pixels: shuffled, seed: 3",
        "validation: 0.5, seed: 3",
        "validation: 39",
        "validation: 1",
        "labels: given, label_fraction: 1.0, seed: 0",
    ],
)
def test_options_of_the_data_that_have_one_or_are_their_defaults(parse: Parse, options: str) -> None:
    parse(BASE.replace("tiny.data}", f"tiny.data, with: {{{options}}}}}"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("optimizer: {name: adam, momentum: 0.9}", "optimizer.momentum has no effect with adam: it is an option of"),
        ("optimizer: {name: adamw, nesterov: true}", "optimizer.nesterov has no effect with adamw"),
        ("optimizer: {betas: [0.5, 0.9]}", "optimizer.betas has no effect with sgd: it is an option of adam and"),
        ("optimizer: {nesterov: true}", "optimizer.nesterov needs a momentum above 0"),
        ("schedule: {gamma: 0.5}", "schedule.gamma has no effect with the schedule `constant`"),
        ("schedule: {name: cosine, milestones: [2]}", "schedule.milestones has no effect with the schedule `cos"),
        ("schedule: {name: step, milestones: [2, 4]}", "schedule.milestones must be before the end"),
        ("schedule: {warmup: 4}", "schedule.warmup must be shorter than the training, which has 4 epochs (got 4)"),
    ],
)  # fmt: skip
def test_options_of_a_training(problems: Problems, options: str, words: str) -> None:
    text = BASE.replace("tiny.train}", f"tiny.train, with: {{{options}}}}}")
    (problem,) = told(problems(text))
    assert problem.startswith(f"{_place(text, words)}: stages.fit.with.{words}")


@pytest.mark.parametrize(
    "options",
    [
        "optimizer: {name: adam, momentum: 0, nesterov: false, betas: [0.5, 0.9]}",
        "optimizer: {momentum: 0.9, nesterov: true, betas: [0.9, 0.999]}",
        "schedule: {name: step, gamma: 0.5, milestones: [2]}",
        "schedule: {warmup: 3.9}",
    ],
)
def test_options_of_a_training_that_have_one_or_are_their_defaults(parse: Parse, options: str) -> None:
    parse(BASE.replace("tiny.train}", f"tiny.train, with: {{{options}}}}}"))


def test_every_mistake_of_a_training_is_told_at_once(problems: Problems) -> None:
    options = "optimizer: {name: adam, momentum: 0.9, nesterov: true}, schedule: {warmup: 9, gamma: 0.5}"
    text = BASE.replace("tiny.train}", f"tiny.train, with: {{{options}}}}}")
    assert [NO_EFFECT in problem for problem in told(problems(text))] == [True, True, True]


def test_feed_belongs_to_a_repeated_stage(problems: Problems, parse: Parse) -> None:
    text = BASE + "  cut: {uses: tiny.shrink, feed: original}\n"
    (problem,) = told(problems(text))
    assert problem.startswith(_place(text, "feed") + ": stages.cut.feed has no effect without `repeat`")
    text = text.replace("feed", "repeat: 2, feed")
    parse(text)
    (problem,) = told(problems(text, settings=["stages.cut.repeat=null"]))
    assert problem.startswith(_place(text, "feed") + ": stages.cut.feed has no effect")


def test_what_a_setting_or_a_variant_makes_idle_is_told_where_it_was_written(problems: Problems) -> None:
    assert told(problems(BASE, settings=["stages.fit.with.schedule.warmup=5"]))[0].startswith(
        "--set stages.fit.with.schedule.warmup=5: stages.fit.with.schedule.warmup must be shorter"
    )
    text = BASE.replace("tiny.data}", "tiny.data, with: {label_fraction: 0.5}}")
    (problem,) = told(problems(text + "variants: {real: {}, fake: {data: {with: {labels: random}}}}\n"))
    assert problem.endswith("(got 0.5) (variant real)")
