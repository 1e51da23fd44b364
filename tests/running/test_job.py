"""Jobs run in this process: what they publish, what they refuse, how they go on after a kill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file
from tiny import BASE, PLUGINS, TWINS, Lab, job_of, same, tensors, tiny_host
from torch import Tensor, nn

from compressit.checkpoint import model as checkpoint
from compressit.checkpoint.header import read_header
from compressit.contract.context import Judged
from compressit.datasets import splits
from compressit.datasets.pixels import ALIGNMENT
from compressit.errors import CompressitError
from compressit.running.apply import apply_plugin
from compressit.running.publish import thinned
from compressit.seeds import Streams
from compressit.store.objects import Artifact
from compressit.store.progress import StoredProgress

SHRINK = BASE + "  shrink: {uses: tiny.shrink, repeat: 2}\n"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


# What is made


def test_twins_start_from_the_same_init_and_get_their_own_labels(lab: Lab) -> None:
    plan = lab.plan(TWINS)
    found = lab.run(plan)
    start = load_file(found["real/seed0/init"].model_file)
    real, fake = (tensors(lab.store, plan, f"{variant}/seed0/train") for variant in ("real", "fake"))
    assert "fake/seed0/init" not in found
    assert not same(real, fake)
    assert not same(start, real)
    assert start.keys() == real.keys()


def test_every_model_is_a_checkpoint_that_loads_alone(lab: Lab) -> None:
    plan = lab.plan(TWINS)
    found = lab.run(plan)
    net = checkpoint.load(found["fake/seed0/shrink-02"].model_file, host=lab.host)
    assert net(torch.zeros(2, 1, 2, 3)).shape == (2, 3)
    contract = checkpoint.contract_of(found["fake/seed0/shrink-02"].model_file)
    assert contract is not None
    assert (contract.inputs.shape, contract.scale, contract.class_names) == (
        (1, 2, 3),
        "unit",
        ("0", "1", "2"),
    )
    assert contract.mean is None
    lineage = read_header(found["fake/seed0/shrink-02"].model_file).manifest.lineage
    assert [step["stage"] for step in lineage] == ["init", "train", "shrink-02"]


def test_a_repeated_stage_narrows_what_it_is_given_or_what_it_started_from(lab: Lab) -> None:
    widths = {}
    for feed in ("previous", "original"):
        found = lab.run(lab.plan(SHRINK.replace("repeat: 2", f"repeat: 3, feed: {feed}")))
        widths[feed] = [found[f"base/seed0/shrink-0{number}"].notes["width"] for number in (1, 2, 3)]
    assert widths == {"previous": [6, 3, 2], "original": [6, 3, 2]}


def test_curves_notes_arrays_and_time_are_kept(lab: Lab) -> None:
    found = lab.run(lab.plan(SHRINK))
    train, shrink = found["base/seed0/train"], found["base/seed0/shrink-01"]
    assert train.notes == {"width": 12, "images_seen": 160, "epochs": 4, "stage": "train"}
    assert [list(point) for point in train.curves["seen"]] == [[40, 40], [80, 80], [120, 120], [160, 160]]
    losses = load_arrays(train.folder / "arrays.safetensors")["loss"]
    assert losses.shape == (12,)  # 4 epochs of 3 minibatches
    assert np.allclose([value for _, value in train.curves["loss"]], losses)
    assert load_arrays(shrink.folder / "arrays.safetensors")["taught"].shape == (40, 3)
    assert train.seconds > 0
    assert train.manifest["host"]["torch"] == torch.__version__
    assert train.manifest["job"]["config"]["epochs"] == 4


def test_a_stage_is_told_whether_something_may_have_pruned_its_model(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, bool] = {}

    def spied(plugin: Any, model: Any, ctx: Any) -> Any:
        told[ctx.streams.stage] = ctx.fresh
        return apply_plugin(plugin, model, ctx)

    monkeypatch.setattr("compressit.running.job.apply_plugin", spied)
    text = BASE + "  more: {uses: tiny.train}\n  prune: {uses: tiny.prune}\n  tune: {uses: tiny.train}\n"
    found = lab.run(lab.plan(text))
    assert told == {"train": True, "more": True, "prune": True, "tune": False}
    assert found["base/seed0/tune"].notes["zeros_lost"] > 0
    (lab.root / "net.safetensors").write_bytes(found["base/seed0/prune"].model_file.read_bytes())
    lab.run(lab.plan(BASE.replace("{uses: tiny.mlp}", "{from: net.safetensors}")))
    assert told["train"] is False, "nobody knows what a file went through"


ONE_MODEL_TWO_DATA = (
    BASE.replace("{uses: tiny.mlp}", "{from: ../net.safetensors}")
    + "variants: {a: {}, b: {data: {with: {tone: 0.1}}}}\nevaluate: [tiny.accuracy, tiny.fidelity]\n"
)


@pytest.mark.parametrize("text", [TWINS, ONE_MODEL_TWO_DATA])
def test_what_jobs_share_in_memory_mixes_nothing_up(tmp_path: Path, text: str) -> None:
    """All jobs in one worker, and each in a worker of its own, find the same; none is made again."""
    made = Lab(tmp_path / "made")
    done = made.run(made.plan(BASE, "stages.train.with.epochs=2"))["base/seed0/train"]
    (tmp_path / "net.safetensors").write_bytes(done.model_file.read_bytes())
    together, apart = Lab(tmp_path / "together"), Lab(tmp_path / "apart")
    plan = together.plan(text)
    shared = together.run(plan)
    for job in plan.jobs.values():
        alone = apart.new_runner().run(job, apart.events.append)
        found = shared[job.label]
        assert (found.metrics, found.notes, found.curves) == (alone.metrics, alone.notes, alone.curves)
        if job.kind != "evaluate":
            assert found.model_file.read_bytes() == alone.model_file.read_bytes()
    apart.events.clear()
    assert apart.new_runner().run(job, apart.events.append) == alone
    assert apart.events == []


def test_variants_load_the_same_data_once(lab: Lab) -> None:
    lab.run(lab.plan(TWINS))
    assert lab.events.count({"announce": "loading dots"}) == 1
    lab.run(lab.plan(TWINS, "data.with.tone=0.1"))
    assert lab.events.count({"announce": "loading dots"}) == 2, "its own options are other data"


def test_in_fp64_every_model_is_float64_from_the_start_to_the_file(lab: Lab) -> None:
    text = TWINS.replace("name: tiny\n", "name: tiny\ncompute: {precision: fp64}\n")
    plan, plain = lab.plan(text), lab.plan(TWINS)
    assert not plan.jobs.keys() & plain.jobs.keys()
    found, single = lab.run(plan), lab.run(plain)
    for label in ("real/seed0/init", "real/seed0/train", "real/seed0/prune", "fake/seed0/shrink-02"):
        path = found[label].model_file
        assert {value.dtype for value in load_file(path).values()} == {torch.float64}
        assert next(checkpoint.load(path, host=lab.host).parameters()).dtype == torch.float64
    start = load_file(found["real/seed0/init"].model_file)
    for name, value in load_file(single["real/seed0/init"].model_file).items():
        assert torch.equal(start[name], value.double()), "both precisions start from the same numbers"
    assert found["real/seed0/train tiny.accuracy"].metrics


INIT = "{uses: tiny.mlp, init: {scheme: lecun, scale: 0.5, draw: DRAW}}"


def test_init_options_reach_the_first_model_and_its_students_and_nothing_else(lab: Lab) -> None:
    plain = lab.plan(SHRINK)
    drawn = {n: lab.plan(SHRINK.replace("{uses: tiny.mlp}", INIT.replace("DRAW", n))) for n in ("0", "1")}
    lab.run(plain)
    found: dict[str, dict[str, Artifact]] = {}
    for number, plan in drawn.items():
        assert not plan.jobs.keys() & plain.jobs.keys()
        found[number] = lab.run(plan)
    start = load_file(found["0"]["base/seed0/init"].model_file)
    torch.manual_seed(Streams(0).number("init"))
    net = [nn.Linear(6, 12), nn.Linear(12, 3)]  # as the plugin draws them first
    for layer, name in zip(net, ("1", "4"), strict=True):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        assert torch.equal(start[f"{name}.weight"], layer.weight * 0.5)
        assert not start[f"{name}.bias"].any()
    for path in ("base/seed0/init", "base/seed0/shrink-01"):
        assert not same(*(load_file(found[number][path].model_file) for number in ("0", "1")))
    first = next(job for job in drawn["1"].jobs.values() if job.kind == "init")
    assert first.lineage[0]["init"] == {"scheme": "lecun", "scale": 0.5, "draw": 1}


def test_another_draw_changes_the_weights_but_not_the_data_they_see(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[Tensor]] = {}

    def spied(count: int, streams: Streams, epoch: int, device: Any = "cpu") -> Tensor:
        found = splits.order(count, streams, epoch, device)
        seen[now].append(found)
        return found

    monkeypatch.setattr("compressit.contract.fit.order", spied)
    for now in ("0", "1"):
        seen[now] = []
        lab.run(lab.plan(BASE.replace("{uses: tiny.mlp}", f"{{uses: tiny.mlp, init: {{draw: {now}}}}}")))
    assert len(seen["0"]) == len(seen["1"]) == 4
    assert all(torch.equal(one, other) for one, other in zip(seen["0"], seen["1"], strict=True))


# Where it starts


def test_weights_replace_fresh_ones(lab: Lab) -> None:
    trained = lab.run(lab.plan(BASE))["base/seed0/train"].model_file
    values = load_file(trained)
    save_arrays({name: value.numpy() for name, value in values.items()}, lab.root / "w.safetensors")
    plan = lab.plan(BASE.replace("{uses: tiny.mlp}", "{uses: tiny.mlp, weights: w.safetensors}"))
    assert same(load_file(lab.run(plan)["base/seed0/init"].model_file), values)


def test_a_recipe_goes_on_from_a_checkpoint(lab: Lab) -> None:
    done = lab.run(lab.plan(SHRINK))["base/seed0/shrink-01"]
    (lab.root / "net.safetensors").write_bytes(done.model_file.read_bytes())
    text = BASE.replace("{uses: tiny.mlp}", "{from: net.safetensors}") + "  more: {uses: tiny.shrink}\n"
    found = lab.run(lab.plan(text + "evaluate: [tiny.fidelity, tiny.size]\n"))
    assert same(load_file(found["base/seed0/init"].model_file), load_file(done.model_file))
    assert found["base/seed0/more"].notes["width"] == 3
    assert found["base/seed0/init tiny.size"].metrics["parameters"] == 63
    assert 0 < found["base/seed0/train tiny.fidelity"].metrics["agreement"] <= 1


# What is refused


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("undeclared", "the model 'init', which its options do not name\n.*declare it as a ModelRef"),
        ("logits", "asked for the model 'model'"),  # those of whatever was asked for first
    ],
)
def test_a_stage_may_only_ask_for_what_it_declares(lab: Lab, fault: str, words: str) -> None:
    with pytest.raises(CompressitError, match=words):
        lab.run(lab.plan(BASE.replace("tiny.train}", f"tiny.train, with: {{fault: {fault}}}}}")))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("log", "logged the curve 'seen', which it does not declare"),
        ("save", "saved the array 'seen', which it does not declare"),
        ("draw", "gave the picture 'seen', which it does not declare"),
        ("note", "noted 'seen', which would be lost"),
        ("other", "saved the array 'line', which it declares as Curve"),
        ("axes", r"saved 'grid' with shape \(3,\), but declares the axes row, column"),
        ("place", "logged 'line' at nan"),
        ("text", "returned a str as 'fine', not a number"),
        ("list", "returned a list as 'fine', not a number"),
        ("undeclared", "returned the number 'surprise', which it does not declare"),
    ],
)
def test_an_evaluator_gives_what_it_declares_and_nothing_else(lab: Lab, fault: str, words: str) -> None:
    """Nobody would ever see it."""
    with pytest.raises(CompressitError, match=rf"tiny\.odd {words}"):
        lab.run(lab.plan(BASE + f"evaluate: [{{uses: tiny.odd, with: {{fault: {fault}}}}}]\n"))


def test_a_number_that_is_not_finite_is_a_missing_one(lab: Lab) -> None:
    found = lab.run(lab.plan(BASE + "evaluate: [tiny.odd]\n"))["base/seed0/train tiny.odd"]
    assert found.metrics == {"fine": 1.0}
    assert found.notes["not_finite"] == ["broken"]


def test_a_model_that_is_no_longer_there_is_named(lab: Lab) -> None:
    plan = lab.plan(BASE)
    with pytest.raises(
        CompressitError, match=r"the model 'previous' of base/seed0/train is no longer in the store"
    ):
        lab.runner.run(job_of(plan, "base/seed0/train"), lab.events.append)


def test_a_stage_that_fails_publishes_nothing_and_can_be_tried_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = lab.plan(BASE)
    monkeypatch.setenv("TINY_KILL", "1")
    with pytest.raises(KeyboardInterrupt):
        lab.run(plan)
    assert lab.store.find(job_of(plan, "base/seed0/train").key) is None
    monkeypatch.delenv("TINY_KILL")
    assert "base/seed0/train" in lab.run(plan)


@pytest.mark.parametrize("moment", ["init", "train", "train tiny.accuracy"])
@pytest.mark.parametrize("old", ["* 0.3 + y", "import time\n"])
def test_code_that_changed_since_the_plan_publishes_nothing(tmp_path: Path, old: str, moment: str) -> None:
    """Plugins import as they go: the new code's result must not lie under the old code's key."""
    file = tmp_path / "mine.py"
    file.write_text(PLUGINS.read_text())
    lab = Lab(tmp_path, tiny_host(file))
    plan = lab.plan(BASE + "evaluate: [tiny.accuracy]\n")
    jobs = list(plan.jobs.values())
    at = next(i for i, job in enumerate(jobs) if job.label == f"base/seed0/{moment}")
    for job in jobs[:at]:
        lab.runner.run(job, lab.events.append)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, "* 0.4 + y" if "0.3" in old else "import time  # a clock\n"))
    if "0.3" in old:
        with pytest.raises(CompressitError, match="changed since this run was planned") as caught:
            lab.runner.run(jobs[at], lab.events.append)
        assert caught.value.hint == "start the run again"
        assert lab.store.find(jobs[at].key) is None
        file.write_text(text)
    lab.runner.run(jobs[at], lab.events.append)
    assert lab.store.find(jobs[at].key) is not None


# Judging


def test_an_evaluator_reads_the_stage_it_judges(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[Judged] = []
    evaluator: Any = lab.host.find("tiny.fidelity").plugin
    monkeypatch.setattr(evaluator, "evaluate", lambda self, model, ctx: judged.append(ctx.judged) or {})
    lab.run(lab.plan(TWINS))
    found = next(j for j in judged if j.streams.round == 2)
    assert (found.stage, found.reference) == ("shrink", "train")
    assert sorted(found.notes) == ["epochs", "images_seen", "width"]


def test_an_evaluator_can_build_the_judged_net_anew(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Mapping[str, Tensor]] = []
    evaluator: Any = lab.host.find("tiny.accuracy").plugin
    monkeypatch.setattr(
        evaluator,
        "evaluate",
        lambda self, model, ctx: built.append(ctx.with_width(1, times=0).state_dict()) or {},
    )
    lab.run(lab.plan(BASE + "  more: {uses: tiny.train}\nevaluate: [tiny.accuracy]\n"))
    assert len(built) == 2
    assert same(*built), "the draw is the evaluator's own"


# Killed and going on


def _killed_then_finished(
    lab: Lab, text: str, kill: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Artifact]:
    plan = lab.plan(text)
    monkeypatch.setenv("TINY_KILL", kill)
    with pytest.raises(KeyboardInterrupt):
        lab.run(plan)
    monkeypatch.delenv("TINY_KILL")
    lab.runner = lab.new_runner()
    return lab.run(plan)


@pytest.mark.parametrize("optimizer", ["{name: sgd, lr: 0.1, momentum: 0.9}", "{name: adam, lr: 0.01}"])
@pytest.mark.parametrize("kill", ["1", "2", "4"])
def test_a_killed_stage_ends_with_the_same_bits_as_one_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill: str, optimizer: str
) -> None:
    text = BASE.replace("tiny.train}", f"tiny.train, with: {{optimizer: {optimizer}}}}}")
    quiet, killed = Lab(tmp_path / "quiet"), Lab(tmp_path / "killed", save_every=0)
    one = quiet.run(quiet.plan(text))["base/seed0/train"]
    other = _killed_then_finished(killed, text, kill, monkeypatch)["base/seed0/train"]
    resumed = [event["resumed"] for event in killed.events if "resumed" in event]
    assert resumed == ([] if kill == "1" else [int(kill) - 1]), "it went on, and did not start over"
    assert one.model_file.read_bytes() == other.model_file.read_bytes()
    assert (one.notes, one.curves) == (other.notes, other.curves)
    assert same(*(load_file(a.folder / "arrays.safetensors") for a in (one, other)))
    assert not killed.store.has_progress(job_of(killed.plan(text), "base/seed0/train").key)


def test_damaged_progress_starts_the_stage_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet, lab = Lab(tmp_path / "quiet"), Lab(tmp_path / "killed", save_every=0)
    plan = lab.plan(BASE)
    monkeypatch.setenv("TINY_KILL", "3")
    with pytest.raises(KeyboardInterrupt):
        lab.run(plan)
    monkeypatch.delenv("TINY_KILL")
    next((lab.root / "store" / "progress").rglob("state-*")).write_bytes(b"junk")
    found = lab.run(plan)["base/seed0/train"]
    assert "will not be used" in lab.warnings[0]
    assert found.model_file.read_bytes() == quiet.run(plan)["base/seed0/train"].model_file.read_bytes()


def test_the_time_of_all_sessions_counts_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("compressit.store.progress.time.perf_counter", lambda: now[0])

    def session() -> tuple[StoredProgress, Any]:
        progress = StoredProgress(lab.store, "ab" * 32, every=5, warn=print)
        return progress, progress.load()

    first, saved = session()
    assert saved is None
    assert not first.due()
    now[0] += 10
    assert first.due()
    first.save({"x": torch.ones(2)}, {"epoch": 1})
    assert not first.due()
    assert first.load() is not None, "a second training of the same stage asks too"
    assert first.seconds() == 10
    now[0] += 50  # lost with the kill
    second, saved = session()
    assert saved is not None
    assert torch.equal(saved[0]["x"], torch.ones(2))
    assert saved[1] == {"epoch": 1}
    now[0] += 3
    second.save({"x": torch.ones(2)}, {"epoch": 2})
    second.load()
    assert second.seconds() == 13


def test_saves_take_at_most_a_twentieth_of_the_time(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    now, cost = [100.0], [0.1]
    monkeypatch.setattr("compressit.store.progress.time.perf_counter", lambda: now[0])

    def slow(path: Path) -> None:
        now[0] += cost[0]

    progress = StoredProgress(lab.store, "ab" * 32, every=5, warn=print)
    monkeypatch.setattr(
        "compressit.store.progress.save_file", lambda tensors, path: (path.touch(), slow(path))
    )
    for seconds, wait in ((0.1, 5.0), (2.0, 38.0), (0.5, 9.5), (0.1, 5.0)):
        cost[0] = seconds
        progress.save({"x": torch.ones(2)}, {})
        now[0] += wait - 0.01
        assert not progress.due()
        now[0] += 0.02
        assert progress.due()
    always = StoredProgress(lab.store, "cd" * 32, every=0, warn=print)
    always.save({"x": torch.ones(2)}, {})
    assert always.due(), "0: at every opportunity"


def test_progress_is_read_into_memory_of_torchs_own(lab: Lab) -> None:
    """A map's alignment would change outputs' last bits, and what happens to its file the tensors."""
    progress = StoredProgress(lab.store, "ab" * 32, every=0, warn=print)
    whole = torch.ones(4, 5)  # tensors that share memory can be saved
    progress.save({"a": torch.ones(1), "b": whole.T, "c": whole[:3]}, {})
    loaded = progress.load()
    assert loaded is not None
    assert [x.data_ptr() % ALIGNMENT for x in loaded[0].values()] == [0, 0, 0]
    for file in lab.store.root.rglob("state-*"):
        file.write_bytes(b"\0" * file.stat().st_size)
    assert all(x.eq(1).all() for x in loaded[0].values())


# Small parts


def test_a_curve_is_thinned_to_means_of_its_bins() -> None:
    points = thinned(np.arange(1000.0))
    assert points[:10] == [(i + 1, i) for i in range(10)], "the start step by step"
    assert [step for step, _ in points[9:]] == list(range(10, 1001, 10))
    assert points[10] == (20, 14.5)  # steps 11 to 20, values 10 to 19
    assert points[-1] == (1000, 994.5)
    assert len(thinned(np.zeros(200))) == 200
    assert len(thinned(np.zeros(200_000))) <= 200
    assert thinned(np.array([3.0, 1.0])) == [(1.0, 3.0), (2.0, 1.0)]
    assert thinned(np.zeros(0)) == []
