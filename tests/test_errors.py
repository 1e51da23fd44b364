from __future__ import annotations

import pytest

from compressit.errors import (
    CompressitError,
    Mark,
    NoEffectError,
    Problem,
    RecipeError,
    StageFailed,
    did_you_mean,
)


def test_a_problem_shows_place_line_caret_and_help() -> None:
    mark = Mark("recipe.yaml", 12, 5, "    epocs: 3")
    text = str(Problem("unknown key 'epocs'", mark, "did you mean 'epochs'?"))
    first, line, caret, hint = text.split("\n")
    assert first == "recipe.yaml:12:5: unknown key 'epocs'"
    assert line.endswith("|     epocs: 3")
    assert line[caret.index("^")] == "e", "the caret stands under the fifth character of the line"
    assert hint == "      help: did you mean 'epochs'?"


def test_the_caret_stays_under_its_character_behind_a_tab() -> None:
    line, caret = str(Problem("a tab", Mark("r.yaml", 1, 3, "\t\tx: 1"))).split("\n")[1:]
    expanded = line.expandtabs(8), caret.expandtabs(8)
    assert expanded[0][expanded[1].index("^")] == "x"


@pytest.mark.parametrize(
    ("mark", "text"),
    [(Mark("--set"), "--set: no"), (Mark("a.yaml", 3), "a.yaml:3:1: no"), (None, "no")],
)
def test_a_problem_names_as_much_of_its_place_as_is_known(mark: Mark | None, text: str) -> None:
    assert str(Problem("no", mark)) == text


def test_a_recipe_error_shows_every_problem_and_counts_them() -> None:
    one, two = RecipeError([Problem("a")]), RecipeError([Problem("a"), Problem("b", hint="c")])
    assert str(one) == "a\n1 problem, nothing was run"
    assert str(two) == "a\nb\n      help: c\n2 problems, nothing was run"
    assert two.problems[1].message == "b"


def test_thousands_of_mistakes_and_of_names_do_not_drown_the_reader() -> None:
    many = RecipeError([Problem(f"fault {number}") for number in range(3000)])
    assert len(many.problems) == 3000
    assert len(str(many).splitlines()) < 100
    assert "3,000 problems (2,950 not shown)" in str(many)
    hint = did_you_mean("zzz", [f"a{number}" for number in range(3000)])
    assert hint is not None
    assert len(hint) < 1000
    assert hint.endswith("and 2,900 more")


def test_exit_codes_tell_a_bad_recipe_from_a_failed_stage() -> None:
    assert (RecipeError([]).exit_code, CompressitError("x").exit_code) == (2, 2)
    assert (StageFailed("x").exit_code, NoEffectError("x").exit_code) == (1, 1)
    assert str(CompressitError("what", "do this")) == "what\n      help: do this"


def test_did_you_mean_gives_the_nearest_names_or_all_or_nothing() -> None:
    assert did_you_mean("epocs", ["lr", "epochs"]) == "did you mean 'epochs'?"
    assert did_you_mean("zzz", ["lr", "epochs"]) == "known: epochs, lr"
    assert did_you_mean("zzz", []) is None
