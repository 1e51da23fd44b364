"""A recipe that orders more than can be made is refused before anything of it is made."""

from __future__ import annotations

import tracemalloc

import pytest

from .samples import BASE, UNTIL_STAGES, Parse, Problems, told

LINES = [0.1 * n for n in range(1, 9)]
BLOW = "sweep: {{with.sparsity: {0}, with.skip: [[a], [b], [c], [d], [e], [f], [g], [h]], with.only: [1, 2, 3, 4, 5]}}"


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        (f"  p: {{uses: tiny.prune, repeat: 1000, {BLOW.format(LINES)}}}\n", "6:3"),
        (
            "".join(
                f"  p{n}: {{uses: tiny.prune, sweep: {{with.sparsity: {LINES}}}}}\n" for n in range(7)
            ),  # each has the members of the one before it: 8, 64, 512 …
            "12:3",
        ),
        ("  p: {uses: tiny.train, repeat: 1000}\nseeds: " + str(list(range(99))) + "\n", "6:3"),
        (
            "  p: {uses: tiny.train, repeat: 1000}\nvariants: {"
            + ", ".join(f"v{n}: {{}}" for n in range(60))
            + "}\n",
            "6:3",
        ),
        ("  p: {uses: tiny.train, repeat: 900}\n" + f"evaluate: [{', '.join(['tiny.odd'] * 60)}]\n", "6:3"),
    ],
    ids=["members", "members of members", "seeds", "variants", "evaluators"],
)
def test_too_many_jobs_are_refused_at_the_largest_stage(problems: Problems, text: str, stage: str):
    tracemalloc.start()
    (problem,) = problems(UNTIL_STAGES + text)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert told([problem])[0].startswith(f"r.yaml:{stage}: the recipe makes ")
    assert "at most 50,000" in problem.message
    assert most < 20 * 2**20


def test_stages_in_a_circle_and_unchecked_blocks_are_counted_once(problems: Problems):
    text = (
        UNTIL_STAGES
        + "  a: {uses: tiny.train, needs: b, repeat: [1]}\n  b: {uses: tiny.train, needs: a}\n  c: 5\n"
    )
    assert any("repeat must be a whole number" in line for line in told(problems(text)))


def test_a_long_chain_of_stages_is_no_trouble(parse: Parse):
    text = UNTIL_STAGES + "".join(f"  s{n}: {{uses: tiny.train}}\n" for n in reversed(range(1500)))
    assert len(parse(text).variants[0].stages) == 1500


def test_a_thousand_misspelt_names_are_told_in_seconds(problems: Problems):
    text = BASE + "".join(f"  stage{n}: {{uses: tiny.train, needs: stege{n}}}\n" for n in range(1200))
    assert len(problems(text)) == 1200
