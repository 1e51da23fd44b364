"""`search`: what may vary, and mistakes at the place where they were written."""

from __future__ import annotations

import pytest

from compressit.recipe.search import reordered

from .samples import BASE, Parse, Problems, told

STAGES = BASE + (
    "  prune: {uses: tiny.prune}\n"
    "  shrink: {uses: tiny.shrink, with: {teacher: fit}}\n"
    "  again: {uses: tiny.train}\n"
)


def test_what_may_vary_is_read(parse: Parse) -> None:
    search = parse(
        STAGES + "search:\n"
        "  stages.prune.with.sparsity: [0.5, 0.9]\n"
        "  stages.again.with.optimizer.lr: {low: 1e-4, high: 0.1, log: true}\n"
        "  stages.again.with.epochs: {low: 1, high: 8}\n"
        "  order: [[prune, shrink]]\n"
    ).search
    sparsity, rate, epochs = search.vary
    assert (sparsity.stage, sparsity.option, sparsity.choices) == ("prune", ("sparsity",), (0.5, 0.9))
    assert (rate.option, rate.low, rate.high, rate.log, rate.whole) == (
        ("optimizer", "lr"),
        1e-4,
        0.1,
        True,
        False,
    )
    assert (epochs.low, epochs.high, epochs.whole) == (1, 8, True)
    assert search.order == (("prune", "shrink"),)


def test_a_setting_replaces_it(parse: Parse) -> None:
    recipe = parse(STAGES, settings=["search.stages.prune.with.sparsity={low: 0.1, high: 0.2}"])
    assert [vary.stage for vary in recipe.search.vary] == ["prune"]


def test_stages_swap_places_with_what_they_need_and_are_needed_by(parse: Parse) -> None:
    stages = parse(STAGES).variants[0].stages
    swapped = reordered(stages, ("prune", "shrink"), ("shrink", "prune"))
    assert swapped is not None
    assert [(stage.name, stage.needs) for stage in swapped] == [
        ("fit", "init"), ("shrink", "fit"), ("prune", "shrink"), ("again", "prune"),
    ]  # fmt: skip
    assert reordered(stages, ("fit", "shrink"), ("shrink", "fit")) is None, "shrink names fit as its teacher"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "{stages.prune.with.sparsity: {low: 0.2, high: 1.9}}",
            "10:55: stages.prune.with.sparsity must be less than 1",
        ),
        ("{stages.prune.with.sparsity: [0.5, x]}", "10:44: stages.prune.with.sparsity must be"),
        ("{stages.prune.with.sparsty: [0.5]}", "unknown key 'sparsty' in stages.prune.with"),
        ("{stages.pruen.with.sparsity: [0.5]}", "10:10: search: there is no stage 'pruen'"),
        ("{data.with.images: [5]}", "10:10: search: 'data.with.images' is no option of a stage"),
        ("{stages.prune.with.sparsity: {low: 0.2, hgih: 0.9}}", "10:49: unknown key 'hgih'"),
        (
            "{stages.prune.with.sparsity: {low: 0.9, high: 0.2}}",
            "10:44: search.stages.prune.with.sparsity.low must be",
        ),
        (
            "{stages.prune.with.sparsity: {low: 0, high: 0.2, log: true}}",
            "10:44: search.stages.prune.with.sparsity.low",
        ),
        (
            "{stages.prune.with.sparsity: {}}",
            "10:38: search.stages.prune.with.sparsity needs `low` and `high`",
        ),
        ("{stages.prune.with.sparsity: 0.5}", "10:38: search.stages.prune.with.sparsity must be a range"),
        (
            "{stages.prune.with.sparsity: {low: 0.2, high: 0.5, per_layer: true}}",
            "10:71: search.stages.prune.with.sparsity.per_layer is for",
        ),
        ("{order: [[prune]]}", "10:18: search.order must be lists of 2 to 4 stages"),
        ("{order: [[prune, x]]}", "10:18: search.order names stages that no variant has together"),
        ("{order: [[prune, prune]]}", "10:18: search.order names a stage twice"),
        ("{order: [[fit, shrink]]}", "10:18: search.order: as shrink, fit the stages would need each other"),
    ],
)
def test_a_mistake_is_told_at_its_place(problems: Problems, text: str, expected: str) -> None:
    (said,) = told(problems(f"{STAGES}search: {text}\n"))
    assert expected in said
    assert said.startswith("r.yaml:10:")
