"""What is right by itself but not beside the rest of its variant: one metric twice, no validation split."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressit.errors import RecipeError
from compressit.host.plugins import Host
from compressit.recipe.load import parse_recipe

from .samples import BASE, Parse, Problems, told

PATIENT = BASE.replace("tiny.train}", "tiny.train, with: {patience: 2}}")
NONE = "stages.fit.with.patience needs a validation split, and the data has none"


# One metric is one column


ODD_TWO = "{uses: tiny.odd, with: {fault: log}}"


@pytest.mark.parametrize(
    ("evaluate", "expected"),
    [
        ("[tiny.odd, tiny.size, tiny.rival]",
         ["33: evaluate.2: tiny.rival measures fine, which tiny.odd already measures"]),
        (f"[tiny.odd, {ODD_TWO}]",
         ["22: evaluate.1: tiny.odd measures fine, broken, which tiny.odd already measures"]),
        (f"[tiny.rival, tiny.odd, {ODD_TWO}]",
         ["24: evaluate.1: tiny.odd measures fine, which tiny.rival already measures",
          "34: evaluate.2: tiny.odd measures fine, broken, which tiny.rival and tiny.odd already measures"]),
    ],
)  # fmt: skip
def test_two_evaluators_of_one_metric(problems: Problems, evaluate: str, expected: list[str]) -> None:
    assert told(problems(f"{BASE}evaluate: {evaluate}\n")) == [f"r.yaml:7:{line}" for line in expected]


def test_it_is_told_along_with_other_mistakes_and_of_the_variant_that_has_it(problems: Problems) -> None:
    text = BASE.replace("demo", "a b") + "evaluate: [tiny.odd]\n"
    text += "variants:\n  a: {}\n  b: {evaluate: [tiny.rival, tiny.odd]}\n"
    assert told(problems(text)) == [
        "r.yaml:2:7: name cannot be a file name: use letters, digits, '.', '_' and '-', starting with a letter "
        "or digit (got 'a b')",
        "r.yaml:10:30: evaluate.1: tiny.odd measures fine, which tiny.rival already measures (variant b)",
    ]


def test_variants_may_measure_the_same_with_different_evaluators(parse: Parse) -> None:
    parse(BASE + "variants: {a: {evaluate: [tiny.odd]}, b: {evaluate: [tiny.rival]}}\n")


# Options that need a validation split


def test_an_option_that_needs_a_validation_split(problems: Problems) -> None:
    (problem,) = problems(PATIENT)
    assert told([problem]) == [f"r.yaml:6:44: {NONE}"]
    assert "validation: 0.1" in str(problem.hint)


def test_the_split_may_come_from_anywhere(parse: Parse, problems: Problems) -> None:
    split = "tiny.data, with: {validation: 0.1}}"
    parse(PATIENT.replace("tiny.data}", split))
    parse(PATIENT + "profiles: {q: {data: {with: {validation: 5}}}}\n", profile="q")
    parse(PATIENT, settings=["data.with.validation=0.5"])
    parse(PATIENT + "variants: {a: {data: {with: {validation: 0.1}}}}\n")
    text = PATIENT.replace("tiny.data}", split) + "variants: {a: {}, b: {data: {with: {validation: null}}}}\n"
    assert told(problems(text)) == [f"r.yaml:6:44: {NONE} (variant b)"]
    parse(text.replace("null}}", "null}}, stages: {fit: {with: {patience: null}}}"))


def test_a_dataset_may_have_a_split_of_its_own(
    parse: Parse, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host.find("tiny.data").plugin, "has_validation", True)
    parse(PATIENT)


def test_it_is_told_where_the_option_was_written(problems: Problems) -> None:
    text = PATIENT.replace("with: {patience: 2}", "sweep: {with.patience: [null, 3], with.epochs: [1, 2]}")
    assert told(problems(text)) == [f"r.yaml:6:57: {NONE}"]
    setting = "stages.fit.with.patience=3"
    assert told(problems(PATIENT, settings=[setting])) == [f"--set {setting}: {NONE}"]


def test_where_the_data_is_wrong_nothing_is_said_of_its_split(problems: Problems) -> None:
    (problem,) = problems(PATIENT.replace("tiny.data", "tiny.dat"))
    assert problem.message.startswith("data.uses")


SPLITS = st.sampled_from([None, 0, 0.25, 3])
WAITS = st.lists(st.sampled_from([None, 1, 2]), min_size=1, max_size=3, unique=True)


@given(base=SPLITS, variants=st.lists(SPLITS, max_size=3), waits=WAITS, repeat=st.sampled_from([None, 2]))
def test_a_recipe_is_refused_exactly_when_a_variant_lacks_the_split(
    host: Host,
    base: float | None,
    variants: Sequence[float | None],
    waits: Sequence[int | None],
    repeat: int | None,
) -> None:
    def data(split: float | None) -> dict[str, object]:
        return {"uses": "tiny.data", "with": {} if split is None else {"validation": split}}

    stage = {"uses": "tiny.train", "sweep": {"with.patience": waits}} | ({"repeat": repeat} if repeat else {})
    recipe: dict[str, object] = {
        "version": 1, "name": "demo", "data": data(base), "model": {"uses": "tiny.mlp"}, "stages": {"fit": stage},
    }  # fmt: skip
    if variants:
        recipe["variants"] = {f"v{n}": {"data": data(split)} for n, split in enumerate(variants)}
    # a variant that says nothing of the split has the base's
    splits = [base if split is None else split for split in variants] or [base]
    check: Callable[[], object] = lambda: parse_recipe(json.dumps(recipe), "r.yaml", host)  # noqa: E731
    if any(waits) and not all(splits):
        with pytest.raises(RecipeError) as caught:
            check()
        assert {problem.message.split(" (variant")[0] for problem in caught.value.problems} == {NONE}
        assert len(caught.value.problems) == len(list(filter(None, waits)))
    else:
        check()
