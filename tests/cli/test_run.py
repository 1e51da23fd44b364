"""`compressit run`: what it leaves, what it says, and that it does nothing twice."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable

import pytest
import torch

from .conftest import Ran
from .recipes import TINY
from .sandbox import Sandbox, contents, rows

MODELS = ["train", "blog-01", "blog-02", "prune@sparsity=0.5", "prune@sparsity=0.9"]
COLUMNS = [  # a model's place, the metrics as its evaluators declare them, what is computed and noted
    "variant", "stage", "round", "member", "seed",
    "train_accuracy", "validation_accuracy", "test_accuracy", "train_loss", "validation_loss", "test_loss",
    "parameters", "nonzero", "sparsity", "macs", "bytes",
    "agreement", "train_agreement", "fit_agreement", "noise_agreement", "noise_entropy_bits", "noise_majority",
    "compression_ratio", "compression_ratio_nonzero",
    "achieved", "epochs", "images_seen", "requested", "selected", "width", "zeros",
]  # fmt: skip


def test_the_run_folder_has_a_checkpoint_of_every_model(tiny: Ran) -> None:
    found = {str(path.relative_to(tiny.out)) for path in tiny.out.glob("checkpoints/**/*.*")}
    assert found == {
        f"checkpoints/{variant}/seed0/{name}.safetensors" for variant in ("real", "fake") for name in MODELS
    }


def test_results_have_the_promised_columns_and_a_row_for_every_model(tiny: Ran) -> None:
    with (tiny.out / "results.csv").open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == COLUMNS
    table = [dict(zip(header, line, strict=True)) for line in lines]
    names = {(row["variant"], row["stage"], row["round"], row["member"], row["seed"]) for row in table}
    pruned = [("prune", "", "sparsity=0.5"), ("prune", "", "sparsity=0.9")]
    stages = [("train", "", ""), ("blog", "1", ""), ("blog", "2", ""), *pruned]
    assert names == {(variant, *stage, "0") for variant in ("real", "fake") for stage in stages}
    assert len(table) == 10
    for row in table:
        assert int(row["width"]) == {"1": 10, "2": 5}.get(row["round"], 20)
        assert 0 <= float(row["test_accuracy"]) <= 1, "a fraction"
        assert row["validation_accuracy"] == "", "no validation split was asked for"
        assert bool(row["fit_agreement"]) == (row["stage"] == "blog")
        asked = {"blog": 0.5 ** int(row["round"] or 0), "prune": float(row["member"].partition("=")[2] or 0)}
        if row["stage"] in asked:
            assert float(row["requested"]) == asked[row["stage"]]
            assert float(row["achieved"]) == pytest.approx(asked[row["stage"]], abs=0.001)
        parameters = {"1": 64 * 10 + 10 * 10 + 10 * 10 + 30, "2": 64 * 5 + 5 * 5 + 5 * 10 + 20}
        whole = 64 * 20 + 20 * 20 + 20 * 10 + 50
        ratio = whole / parameters.get(row["round"], whole)
        assert float(row["compression_ratio"]) == pytest.approx(ratio)
        assert float(row["compression_ratio_nonzero"]) > 0.99 * ratio, "pruned ones are sparse"
    trained = {row["variant"]: row for row in table if row["stage"] == "train"}
    assert float(trained["real"]["test_accuracy"]) > 0.9
    assert float(trained["fake"]["test_accuracy"]) < 0.4, "random labels teach nothing about the test set"
    assert int(trained["real"]["images_seen"]) == 10 * 512


def test_results_json_holds_curves_facts_and_the_command(tiny: Ran) -> None:
    results = json.loads((tiny.out / "results.json").read_text(encoding="utf-8"))
    assert results["missing"] == results["failures"] == []
    found = next(
        row for row in results["rows"] if row["checkpoint"].endswith("fake/seed0/blog-02.safetensors")
    )
    assert found["notes"]["noise"]["kind"] == "uniform"
    assert found["teacher"] == "train"
    assert [step for step, _ in found["curves"]["retention_train"]] == [256, 512]
    assert results["about"]["command"] == "compressit run recipe.yaml --out out"
    assert results["about"]["models"] == "10 of 10"


def test_the_report_stands_alone(tiny: Ran) -> None:
    report = (tiny.out / "report.html").read_text(encoding="utf-8")
    assert len(report) <= 5_000_000
    assert "blog-02" in report
    fetched = re.findall(
        r"<script[^>]* src|<(?:link|iframe)\b|<[^>]* (?:src|srcset)=(?![\"']?data:)|@import", report
    )
    assert not fetched, "it must need no other file"
    figures = {path.name for path in (tiny.out / "figures").iterdir()}
    assert {"training_loss_blog.png", "accuracy_against_width.svg"} <= figures
    assert {name.removesuffix(".png") for name in figures if name.endswith(".png")} == {
        name.removesuffix(".svg") for name in figures if name.endswith(".svg")
    }


def test_it_tells_first_how_long_it_will_take_and_last_where_the_result_is(tiny: Ran) -> None:
    first = tiny.said.err.splitlines()[0]
    assert re.fullmatch(r"tiny: 49 of 49 jobs to do, about .+ with 1 worker of 1 thread", first)
    assert "real/seed0/blog-02: epoch 2/2, loss " in tiny.said.err
    assert tiny.said.out.splitlines() == ["report: out/report.html", "numbers: out/results.csv"]


def test_a_second_run_does_nothing_and_imports_nothing_heavy(tiny: Ran) -> None:
    folder, store = contents(tiny.out), contents(tiny.sandbox.store)
    times = {path: path.stat().st_mtime_ns for path in tiny.out.rglob("*")}
    done = tiny.sandbox.light("run", "recipe.yaml", "--out", "out")
    assert "nothing to do" in done.err
    assert contents(tiny.out) == folder
    assert contents(tiny.sandbox.store) == store
    assert {path: path.stat().st_mtime_ns for path in tiny.out.rglob("*")} == times


def test_two_workers_make_what_one_makes(tiny: Ran, copy_of: Callable[[Ran], Sandbox]) -> None:
    sandbox = copy_of(tiny)
    done = sandbox.run("run", "recipe.yaml", "--out", "out", "--jobs", "2")
    assert "with 2 workers of 1 thread" in done.err
    assert (sandbox.folder / "out" / "logs" / "worker-2.log").exists()
    ours, theirs = contents(sandbox.folder / "out"), contents(tiny.out)
    same = [name for name in theirs if name.startswith("checkpoints/")]
    assert len(same) == 10
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
    assert ours["results.csv"] == theirs["results.csv"]
    assert rows(sandbox.folder / "out") == rows(tiny.out)


def test_profile_settings_and_store_are_obeyed(sandbox: Sandbox) -> None:
    sandbox.write("recipe.yaml", TINY)
    sandbox.run(
        "run", "recipe.yaml", "--profile", "quick", "--store", "elsewhere",
        "--set", "stages.train.with.epochs=3", "--set", "seeds=[3, 4]",
    )  # fmt: skip
    assert not sandbox.store.exists()
    assert list((sandbox.folder / "elsewhere" / "objects").iterdir())
    (out,) = (sandbox.folder / "runs").glob(
        "tiny-quick-train.with.epochs=3-seeds=*"
    )  # not the plain recipe's
    assert {str(p.relative_to(out)) for p in out.glob("checkpoints/**/*.*")} == {
        f"checkpoints/{variant}/seed{seed}/train.safetensors"
        for variant in ("real", "fake")
        for seed in (3, 4)
    }
    for row in rows(out):
        assert row["notes"]["images_seen"] == 3 * 128
        assert row["metrics"]["latency_1_median_seconds"] > 0
    assert "report.html" in contents(out), "also where the recipe names no report"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")
def test_the_same_recipe_runs_on_a_gpu(sandbox: Sandbox) -> None:
    sandbox.write("recipe.yaml", TINY)
    sandbox.run("run", "recipe.yaml", "--out", "out", "--set", "compute.device=cuda")
    results = rows(sandbox.folder / "out")
    assert len(results) == 10
    trained = {row["variant"]: row["metrics"] for row in results if row["stage"] == "train"}
    assert trained["real"]["test_accuracy"] > 0.9
    assert trained["fake"]["test_accuracy"] < 0.4
    assert all(0 <= row["metrics"]["fit_agreement"] <= 1 for row in results if row["stage"] == "blog")
    for row in results:  # on a machine without one they must load as well
        sandbox.run("inspect", f"out/{row['checkpoint']}", CUDA_VISIBLE_DEVICES="")


@pytest.mark.parametrize("command", ["check", "plan", "--help"])
def test_looking_imports_nothing_heavy_and_makes_nothing(command: str, sandbox: Sandbox) -> None:
    recipe = sandbox.write("recipe.yaml", TINY)
    done = sandbox.light(command, *([] if command == "--help" else ["recipe.yaml"]))
    expected = {
        "check": "recipe.yaml: tiny is fine: 2 variants, 6 stages, seeds [0]",
        "plan": "49 of 49 jobs to do",
        "--help": "inspect",
    }
    assert expected[command] in done.out
    assert list(sandbox.folder.iterdir()) == [recipe]


def test_a_folder_with_the_results_of_another_recipe_is_refused(tiny: Ran, sandbox: Sandbox) -> None:
    sandbox.write("recipe.yaml", TINY.replace("name: tiny", "name: other"))
    before = contents(tiny.out)
    done = sandbox.light("run", "recipe.yaml", "--out", tiny.out, code=2)
    assert f"error: {tiny.out} holds the results of another recipe, 'tiny'; this one is 'other'" in done.err
    assert "--out" in done.err
    assert contents(tiny.out) == before


def test_one_of_a_kind_is_counted_as_one(sandbox: Sandbox) -> None:
    sandbox.write("recipe.yaml", TINY)
    only = ["--profile", "quick", "--set", "variants.fake=null"]
    assert sandbox.light("check", "recipe.yaml", *only).out.strip().endswith("1 variant, 1 stage, seeds [0]")


def test_a_plan_says_what_is_there(tiny: Ran) -> None:
    done = tiny.sandbox.light("plan", "recipe.yaml", "--set", "stages.blog.repeat=3")
    assert done.out.splitlines()[-1] == "10 of 59 jobs to do"
    states = {line.split()[-1]: line.split()[1] for line in done.out.splitlines()[:-1] if "eval" not in line}
    assert states["real/seed0/blog-02"] == "here"
    assert states["real/seed0/blog-03"] == "to"
    jobs = tiny.sandbox.jobs("recipe.yaml")
    assert jobs["fake/seed0/blog-01"]["present"] is True
    assert jobs["fake/seed0/blog-01"]["inputs"]["train"] == jobs["fake/seed0/train"]["key"]


def test_a_new_report_or_evaluator_trains_nothing(tiny: Ran) -> None:
    done = tiny.sandbox.light("plan", "recipe.yaml", "--set", "evaluate=[eval.accuracy, eval.latency]")
    assert done.out.splitlines()[-1] == "10 of 39 jobs to do"
