"""Evaluators that compare the measured model with others: of another seed, variant or round, or of a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import BASE, Lab, plan_of, point, tensors

from compressit.checkpoint import model as checkpoint
from compressit.contract.context import DataContext
from compressit.planning.points import Plan
from compressit.results.collect import collect

SEEDS = BASE + "  blog: {uses: tiny.train, repeat: 2, with: {epochs: 1}}\nseeds: [0, 1]\n"


def _apart(lab: Lab, plan: Plan, one: str, other: str) -> float:
    """The distance of two models' weights."""
    a, b = (tensors(lab.store, plan, path) for path in (one, other))
    return sum(float((a[name] - b[name]).abs().sum()) for name in a)


def _results(lab: Lab, text: str):
    plan = lab.plan(text)
    lab.run(plan)
    artifacts = {key: found for key in plan.jobs if (found := lab.store.find(key)) is not None}
    return plan, collect(plan, artifacts, [], "test")


def test_two_seeds_two_rounds_and_the_same_evaluator_twice_have_columns_of_their_own(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    plan, results = _results(
        lab,
        SEEDS + "evaluate:\n"
        "  - tiny.accuracy\n"
        "  - {uses: tiny.gap, with: {other: train@seed=1}, stages: [train], as: seeds}\n"
        "  - {uses: tiny.gap, with: {other: blog-01}, stages: [blog-02], as: rounds}\n",
    )
    cells = {(row["seed"], row["stage"], row["round"]): row for row in results.table()}
    assert cells[0, "train", None]["seeds_weights"] == pytest.approx(
        _apart(lab, plan, "base/seed0/train", "base/seed1/train"), rel=1e-6
    )
    assert cells[1, "train", None]["seeds_weights"] == 0, "a model may be compared with itself"
    assert cells[1, "blog", 2]["rounds_weights"] == pytest.approx(
        _apart(lab, plan, "base/seed1/blog-02", "base/seed1/blog-01"), rel=1e-6
    )
    empty = {column for row in cells.values() for column, value in row.items() if value is None}
    assert {"seeds_weights", "rounds_logits"} <= empty
    assert cells[0, "train", None]["rounds_weights"] is None
    assert cells[0, "blog", 1]["rounds_weights"] is None
    assert list(results.metrics) == [
        "train_accuracy", "test_accuracy", "seeds_weights", "seeds_logits", "rounds_weights", "rounds_logits",
    ]  # fmt: skip


def test_a_model_of_other_data_gets_its_inputs_as_it_learned_them(tmp_path: Path) -> None:
    """Both variants scale to mean 0 and deviation 1, each by its own training images."""
    lab = Lab(tmp_path)
    plan, _ = _results(
        lab,
        BASE.replace("{uses: tiny.data}", "{uses: tiny.data, with: {scale: standard}}")
        + "variants: {a: {}, b: {data: {with: {limit: 7}}}}\n"
        "evaluate: [tiny.accuracy, {uses: tiny.gap, with: {other: train@variant=a}}]\n",
    )
    dataset = lab.host.find("tiny.data").plugin
    x, _ = dataset(dataset.Config()).load(DataContext(tmp_path, lambda text: None)).test
    logits = {}
    for variant in "ab":
        file = lab.store.find(point(plan, f"{variant}/seed0/train").model).model_file
        scaling = checkpoint.contract_of(file)
        net = checkpoint.load(file, host=lab.host).eval()
        logits[variant] = net((x - scaling.mean[0]) / scaling.std[0]).detach()
    measured = {
        name: lab.store.find(key).metrics
        for key in point(plan, "b/seed0/train").metrics
        for name in [plan.jobs[key].uses]
    }
    expected = float((logits["b"] - logits["a"]).abs().sum())
    assert measured["tiny.gap"]["logits"] == pytest.approx(expected, rel=1e-4)


def test_an_evaluator_compares_with_a_file(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    plan = lab.plan(BASE)
    lab.run(plan)
    (tmp_path / "old.safetensors").write_bytes(lab.store.find(plan.points[0].model).model_file.read_bytes())
    text = (
        BASE
        + "  more: {uses: tiny.train}\n"
        + "evaluate: [{uses: tiny.gap, with: {other: old.safetensors}}]\n"
    )
    plan, results = _results(lab, text)
    first, second = results.table()
    assert first["weights"] == 0
    assert second["weights"] == pytest.approx(
        _apart(lab, plan, "base/seed0/more", "base/seed0/train"), rel=1e-6
    )


def test_fresh_weights_are_measured_where_asked_and_are_no_ones_dense_parent(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    text = BASE + "  cut: {uses: tiny.cut, with: {units: 4}}\n"
    _, plain = _results(lab, text + "evaluate: [tiny.size]\n")
    _, asked = _results(lab, text + "evaluate: [tiny.size, {uses: tiny.accuracy, stages: [init, train]}]\n")
    init, *others = asked.table()
    assert (init["stage"], init["parameters"], init["compression_ratio"]) == ("init", None, None)
    assert init["test_accuracy"] is not None
    ratio = "compression_ratio"
    assert [row[ratio] for row in others] == [row[ratio] for row in plain.table()] != [1.0, 1.0]


def test_a_stage_learns_from_another_seed_and_another_variant(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    text = (
        BASE + "  back: {uses: tiny.prune, with: {sparsity: 0.0, rewind: train@seed=1@variant=b}}\n"
        "seeds: [0, 1]\nvariants: {a: {}, b: {data: {with: {labels: random}}, stages: {back: null}}}\n"
    )
    plan = plan_of(text, host=lab.host)
    lab.run(plan)
    assert _apart(lab, plan, "a/seed0/back", "b/seed1/train") == 0
    assert _apart(lab, plan, "a/seed0/train", "b/seed1/train") > 0
    assert torch.equal(*(tensors(lab.store, plan, f"a/seed{seed}/back")["1.weight"] for seed in (0, 1)))


def test_a_recipe_measures_files_each_with_the_inputs_it_knows(tmp_path: Path) -> None:
    """Three files of two runs on differently scaled data: what each measures is what its own run measured."""
    lab = Lab(tmp_path)
    scaled = BASE.replace("{uses: tiny.data}", "{uses: tiny.data, with: {scale: standard, limit: 7}}")
    first = scaled + "  cut: {uses: tiny.cut, with: {units: 4}}\nevaluate: [tiny.accuracy, tiny.size]\n"
    runs = [_results(lab, first), _results(lab, first.replace("limit: 7", "limit: 40"))]
    for name, (plan, _), path in (
        ("dense", runs[0], "train"), ("cut", runs[0], "cut"), ("other", runs[1], "train"),
    ):  # fmt: skip
        model = lab.store.find(point(plan, f"base/seed0/{path}").model).model_file
        (tmp_path / f"{name}.safetensors").write_bytes(model.read_bytes())
    text = scaled.split("model:")[0] + (
        "model: {from: {alone: cut.safetensors, dense: dense.safetensors, other: other.safetensors}}\n"
        "evaluate:\n"
        "  - tiny.accuracy\n"
        "  - tiny.size\n"
        "  - {uses: tiny.gap, with: {other: other}, stages: [dense, other]}\n"
    )
    plan, results = _results(lab, text.replace(", limit: 7", ""))
    alone, dense, other = results.table()
    (train, cut), (again, _) = (found.table() for _, found in runs)
    for measured, known in ((alone, cut), (dense, train), (other, again)):
        assert measured["test_accuracy"] == known["test_accuracy"]
        assert measured["parameters"] == known["parameters"]
    assert [row["stage"] for row in (alone, dense, other)] == ["alone", "dense", "other"]
    assert alone["compression_ratio"] == cut["compression_ratio"] > 1, "its file's lineage names `dense`"
    assert dense["compression_ratio"] == 1
    assert dense["weights"] == pytest.approx(
        _apart(lab, plan, "base/seed0/dense", "base/seed0/other"), rel=1e-6
    )
    assert (other["weights"], other["logits"], alone["logits"]) == (0, 0, None)

    dataset = lab.host.find("tiny.data").plugin
    x, _ = dataset(dataset.Config()).load(DataContext(tmp_path, lambda text: None)).test
    logits = []
    for name in ("dense", "other"):
        scaling = checkpoint.contract_of(tmp_path / f"{name}.safetensors")
        net = checkpoint.load(tmp_path / f"{name}.safetensors", host=lab.host)
        logits.append(net((x - scaling.mean[0]) / scaling.std[0]).detach())
    assert dense["logits"] == pytest.approx(float((logits[0] - logits[1]).abs().sum()), rel=1e-4)


def test_a_file_without_a_lineage_has_no_compression_ratio(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    architecture = checkpoint.Architecture("tiny.mlp", {}, (1, 2, 3), 3)
    for name in ("a", "b"):
        net = checkpoint.build(architecture, lab.host)
        checkpoint.save(net, tmp_path / f"{name}.safetensors", architecture, host=lab.host)
    text = BASE.split("model:")[0] + "model: {from: [a.safetensors, b.safetensors]}\nevaluate: [tiny.size]\n"
    _, results = _results(lab, text)
    assert [row["compression_ratio"] for row in results.table()] == [None, None]
    assert [row["parameters"] for row in results.table()] == [123, 123]


def test_files_are_compared_with_their_original_each_fed_as_it_learned(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    scaled = BASE.replace("{uses: tiny.data}", "{uses: tiny.data, with: {scale: standard}}")
    item = "{uses: tiny.gap, with: {other: original}}"
    run, results = _results(lab, f"{scaled}  more: {{uses: tiny.train}}\nevaluate: [{item}]\n")
    for name in ("train", "more"):
        model = lab.store.find(point(run, f"base/seed0/{name}").model).model_file
        (tmp_path / f"{name}.safetensors").write_bytes(model.read_bytes())
    files = scaled.split("model:")[0] + "model: {from: [more.safetensors, train.safetensors]}\n"
    _, again = _results(lab, f"{files}evaluate: [{item}]\n")
    measured = {row["stage"]: (row["weights"], row["logits"]) for row in again.table()}
    assert measured == {row["stage"]: (row["weights"], row["logits"]) for row in results.table()}
    assert measured["train"] == (0, 0)
    assert measured["more"][1] > 0
    assert [row.dense for row in again.rows] == ["train", "train"]
