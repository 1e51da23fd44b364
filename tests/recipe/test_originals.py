"""`original`: the dense parent of each model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compressit.recipe.originals import of_files
from tests.recipe.samples import BASE, UNTIL_STAGES, Parse, Problems, told, write_checkpoint

GAP = "evaluate: [{uses: tiny.gap, with: {other: original}}]\n"
USED = "uses: tiny.cut, with: {units: 4}"
FILES = "version: 1\nname: demo\ndata: {uses: tiny.data}\n"
TRAINERS = {"tiny.train"}


def _step(key: str, uses: str = "tiny.train") -> dict[str, Any]:
    return {"stage": key, "uses": uses, "key": key}


INIT, FIT, MORE, CUT = _step("i", "tiny.mlp"), _step("f"), _step("m"), _step("c", "tiny.cut")


def _originals(folder: Path, **lineages: list[dict[str, Any]]) -> dict[str, str | None]:
    files = [(name, folder / f"{name}.safetensors") for name in lineages]
    for name, path in files:
        write_checkpoint(path, lineage=lineages[name])
    return of_files(files, TRAINERS)


def test_a_model_that_was_trained_has_an_original(parse: Parse):
    parse(BASE + f"  cut: {{{USED}}}\n  again: {{uses: tiny.train}}\n" + GAP)
    parse(BASE + "  cut: {uses: tiny.prune, with: {rewind: original}}\n")


def test_a_given_model_is_its_own_original(parse: Parse, tmp_path: Path):
    write_checkpoint(tmp_path / "a.safetensors")
    parse(UNTIL_STAGES.replace("{uses: tiny.mlp}", "{from: a.safetensors}") + f"  cut: {{{USED}}}\n" + GAP)


@pytest.mark.parametrize(
    ("stages", "item", "expected"),
    [
        (f"  cut: {{{USED}}}\n  fit: {{uses: tiny.train}}\n", "", "8:43: evaluate.0.with.other names the trained"),
        (f"  fit: {{uses: tiny.train}}\n  cut: {{{USED}, needs: init}}\n", "", "8:43: evaluate.0.with.other"),
        ("  fit: {uses: tiny.train}\n", ", stages: [init]", "7:43: evaluate.0.with.other"),
    ],
)  # fmt: skip
def test_what_was_compressed_from_fresh_weights_has_none(
    problems: Problems, stages: str, item: str, expected: str
):
    (line,) = told(problems(UNTIL_STAGES + stages + GAP.replace("original}", "original}" + item)))
    assert line.startswith(f"r.yaml:{expected}"), line
    assert "has none" in line


def test_a_stage_that_gets_fresh_weights_has_no_original_to_learn_from(problems: Problems):
    (line,) = told(problems(UNTIL_STAGES + "  cut: {uses: tiny.prune, with: {rewind: original}}\n"))
    assert line.startswith("r.yaml:6:42: stages.cut.with.rewind names the trained model")
    assert "'init' has none" in line


def test_no_model_may_be_called_so(problems: Problems, tmp_path: Path):
    write_checkpoint(tmp_path / "original.safetensors")
    (stage,) = told(problems(UNTIL_STAGES + "  original: {uses: tiny.train}\n"))
    (file,) = told(problems(FILES + "model: {from: [original.safetensors]}\nevaluate: [tiny.size]\n"))
    assert "is reserved" in stage
    assert "is reserved" in file


def test_the_original_of_a_file_is_the_first_of_the_others_in_its_lineage(tmp_path: Path):
    assert _originals(tmp_path, cut=[INIT, FIT, CUT], more=[INIT, FIT, MORE], fit=[INIT, FIT]) == {
        "cut": "fit", "more": "fit", "fit": "fit",
    }  # fmt: skip
    assert _originals(tmp_path, last=[INIT, FIT, MORE, CUT], more=[INIT, FIT, MORE]) == {
        "last": "more", "more": "more",
    }  # fmt: skip


def test_a_file_has_no_original_if_it_was_compressed_before_any_other_file_or_says_nothing(tmp_path: Path):
    assert _originals(tmp_path, silent=[], early=[INIT, CUT, FIT], cut=[INIT, FIT, CUT]) == dict.fromkeys(
        ("silent", "early", "cut")
    )
    assert _originals(tmp_path, cut=[INIT, FIT, CUT], tuned=[INIT, FIT, CUT, MORE])["tuned"] is None


def test_files_without_one_are_told(parse: Parse, problems: Problems, tmp_path: Path):
    write_checkpoint(tmp_path / "fit.safetensors", lineage=[INIT, FIT])
    write_checkpoint(tmp_path / "cut.safetensors", lineage=[INIT, FIT, CUT])
    both = FILES + "model: {from: [fit.safetensors, cut.safetensors]}\n" + GAP
    parse(both)
    (line,) = told(problems(both.replace("fit.safetensors, ", "")))
    assert line.startswith("r.yaml:5:43: evaluate.0.with.other names the trained")
    parse(both.replace("original}}", "original}, stages: [fit]}"))


def test_a_mistake_of_the_model_hides_no_more_than_itself(problems: Problems):
    (line,) = told(problems(FILES + "model: {from: [no.safetensors]}\n" + GAP))
    assert "there is no file" in line
