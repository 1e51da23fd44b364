"""From a recipe to jobs: which there are, what each needs, and which must run."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import BASE, PLUGINS, TWINS, job_of, plan_of, point, tiny_host

from compressit.checkpoint import model as checkpoint
from compressit.contract.job import Job
from compressit.datasets.splits import InputSpec
from compressit.errors import CompressitError
from compressit.host.plugins import Host
from compressit.planning.points import Plan

HERE = platform.node()
ROUNDS = BASE + "  rounds: {uses: tiny.shrink, repeat: 3, feed: previous}\n  after: {uses: tiny.prune}\n"
FANNED = (
    BASE + "  prune: {uses: tiny.prune, sweep: {with.sparsity: [0.5, 0.75]}}\n"
    "  tune: {uses: tiny.train}\n"
    "  again: {uses: tiny.prune, needs: tune, with: {rewind: prune}, sweep: {with.sparsity: [0.1, 0.2]}}\n"
)


@cache
def twins() -> Plan:
    return plan_of(TWINS + "seeds: [0, 1]\n")


def _model(plan: Plan, name: str) -> str:
    return point(plan, f"base/seed0/{name}").model


def _inputs(plan: Plan, name: str) -> dict[str, str]:
    """Reference -> name of the model it leads to."""
    made = {p.model: p.name for p in plan.points}
    job = job_of(plan, f"base/seed0/{name}")
    return {ref: made.get(key, plan.jobs[key].kind) for ref, key in job.inputs.items()}


# Edges


def test_a_repeated_stage_is_fed_by_the_round_before() -> None:
    plan = plan_of(ROUNDS)
    assert [p.name for p in plan.points] == ["train", "rounds-01", "rounds-02", "rounds-03", "after"]
    given = [_inputs(plan, f"rounds-0{n}")["previous"] for n in (1, 2, 3)]
    assert given == ["train", "rounds-01", "rounds-02"]
    assert _inputs(plan, "after") == {"previous": "rounds-03"}, "a repeated stage stands for its last round"


def test_a_repeated_stage_fed_by_the_original_has_independent_rounds() -> None:
    plan = plan_of(ROUNDS.replace("feed: previous", "feed: original"))
    assert [_inputs(plan, f"rounds-0{n}")["previous"] for n in (1, 2, 3)] == ["train"] * 3
    assert _inputs(plan, "after") == {"previous": "rounds-03"}


def test_a_reference_is_an_edge_to_the_last_rung() -> None:
    text = ROUNDS.replace(
        "  after: {uses: tiny.prune}", "  after: {uses: tiny.prune, with: {rewind: rounds}}"
    )
    assert _inputs(plan_of(text), "after") == {"previous": "rounds-03", "rounds": "rounds-03"}
    plan = plan_of(BASE + "  prune: {uses: tiny.prune, with: {rewind: init}}\n")
    assert _inputs(plan, "prune") == {"previous": "train", "init": "init"}


def test_only_the_references_of_a_member_itself_are_its_edges() -> None:
    plan = plan_of(
        BASE
        + "  other: {uses: tiny.train}\n  prune: {uses: tiny.prune, sweep: {with.rewind: [train, init]}}\n"
    )
    assert _inputs(plan, "prune@rewind=train") == {"previous": "other", "train": "train"}
    assert _inputs(plan, "prune@rewind=init") == {"previous": "other", "init": "init"}


def test_members_of_a_fanned_out_stage_are_inherited() -> None:
    plan = plan_of(FANNED)
    names = [p.name for p in plan.points]
    assert names[:3] == ["train", "prune@sparsity=0.5", "prune@sparsity=0.75"]
    assert names[3:5] == ["tune@sparsity=0.5", "tune@sparsity=0.75"]
    assert _inputs(plan, "tune@sparsity=0.75") == {"previous": "prune@sparsity=0.75"}
    assert len(names) == 3 + 2 + 4
    assert plan.jobs[_model(plan, "again@sparsity=0.75,sparsity=0.1")].config["sparsity"] == 0.1


def test_a_reference_into_a_fan_goes_to_the_member_it_was_made_from() -> None:
    plan = plan_of(FANNED)
    for parent in ("0.5", "0.75"):
        for own in ("0.1", "0.2"):
            inputs = _inputs(plan, f"again@sparsity={parent},sparsity={own}")
            assert inputs == {"previous": f"tune@sparsity={parent}", "prune": f"prune@sparsity={parent}"}


def test_a_reference_that_could_mean_several_members_is_refused() -> None:
    text = FANNED.replace("needs: tune", "needs: train")
    with pytest.raises(
        CompressitError,
        match=r"recipe\.yaml:\d+:\d+: stages\.again\.with\.rewind names the model 'prune', which has 2 members",
    ):
        plan_of(text)


# What is shared, what multiplies


def test_variants_share_init_and_what_is_equal() -> None:
    plan = plan_of(TWINS)
    assert [t.kind for t in plan.jobs.values()].count("init") == 1
    assert job_of(plan, "real/seed0/train").inputs == job_of(plan, "fake/seed0/train").inputs
    assert point(plan, "real/seed0/train").model != point(plan, "fake/seed0/train").model
    equal = plan_of(TWINS.replace("{data: {with: {labels: random}}}", "{}"))
    assert len(equal.points) == 8
    assert len(equal.jobs) == len(plan_of(TWINS.replace(", fake: {data: {with: {labels: random}}}", "")).jobs)


def test_a_variant_with_another_last_stage_shares_the_stages_before() -> None:
    plan = plan_of(
        BASE
        + "  prune: {uses: tiny.prune}\nvariants: {a: {}, b: {stages: {prune: {with: {sparsity: 0.9}}}}}\n"
    )
    assert point(plan, "a/seed0/train").model == point(plan, "b/seed0/train").model
    assert point(plan, "a/seed0/prune").model != point(plan, "b/seed0/prune").model


def test_seeds_multiply_and_share_nothing() -> None:
    plan = twins()
    assert len(plan.points) == 2 * 2 * 4
    models = {(p.variant, p.seed, p.name): p.model for p in plan.points}
    assert len(set(models.values())) == len(models)
    assert sorted(t.label for t in plan.jobs.values() if t.kind == "init") == [
        "real/seed0/init",
        "real/seed1/init",
    ]


def test_variants_go_side_by_side_so_that_an_interrupted_run_compares_them() -> None:
    order = [t.label for t in plan_of(TWINS).jobs.values() if t.kind == "stage"]
    names = [label.split("/")[2] for label in order]
    assert names == [name for one in ("train", "prune", "shrink-01", "shrink-02") for name in (one, one)]
    assert [label.split("/")[0] for label in order] == ["real", "fake"] * 4


# Which jobs must run


@given(st.data())
def test_pending_is_what_is_wanted_and_missing_with_all_it_needs_and_no_more(data: st.DataObject) -> None:
    plan = twins()
    present = {key: data.draw(st.booleans()) for key in plan.jobs}
    pending = plan.pending(present)
    keys = [job.key for job in pending]
    wanted = {key for p in plan.points for key in (p.model, *p.metrics)}
    needed_by_others = {k for job in pending for k in job.inputs.values()}
    assert {key for key in wanted if not present[key]} <= set(keys)
    assert all(present[k] or k in keys for k in needed_by_others), "what runs finds its inputs"
    assert all(not present[k] and (k in wanted or k in needed_by_others) for k in keys), (
        "nothing runs in vain"
    )
    assert len(set(keys)) == len(keys)
    for index, job in enumerate(pending):
        assert not {k for k in job.inputs.values() if not present[k]} - set(keys[:index]), "inputs come first"


def test_pending_runs_nothing_when_all_is_there_and_no_init_that_nobody_needs() -> None:
    plan = twins()
    inits = {key for key, job in plan.jobs.items() if job.kind == "init"}
    assert plan.pending(dict.fromkeys(plan.jobs, True)) == []
    assert plan.pending(dict.fromkeys(set(plan.jobs) - inits, True)) == []
    assert len(plan.pending({})) == len(plan.jobs)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 20), st.sampled_from(["", "repeat: 2", "repeat: 3, feed: original"]), st.booleans()
        ),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
def test_inputs_always_come_before_what_needs_them(
    stages: list[tuple[int, str, bool]], with_variants: bool
) -> None:
    names = ["init"]
    text = BASE.split("stages:")[0] + "evaluate: [tiny.fidelity, tiny.size]\n"
    text += "variants: {a: {}, b: {data: {with: {labels: random}}}}\n" if with_variants else ""
    text += "stages:\n"
    for number, (needs, stage, refers) in enumerate(stages):
        uses = f"tiny.prune, with: {{rewind: {names[needs // 2 % len(names)]}}}" if refers else "tiny.train"
        options = f", {stage}" if stage else ""
        text += f"  s{number}: {{uses: {uses}, needs: {names[needs % len(names)]}{options}}}\n"
        names.append(f"s{number}")
    plan = plan_of(text, host=_host())
    seen: set[str] = set()
    for key, job in plan.jobs.items():
        assert set(job.inputs.values()) <= seen
        assert key == job.key
        seen.add(key)


@cache
def _host() -> Host:
    return tiny_host()


# Evaluations


def _metrics(evaluators: str, variant: str = "real", name: str = "train", *settings: str) -> dict[str, str]:
    text = TWINS.replace("[tiny.accuracy, tiny.size, tiny.fidelity]", evaluators)
    return _evaluations(plan_of(text, *settings), f"{variant}/seed0/{name}")


def _evaluations(plan: Plan, path: str) -> dict[str, str]:
    """The keys of what measures the model at this path, by evaluator and name."""
    keys = point(plan, path).metrics
    return {f"{plan.jobs[key].uses} {name}".strip(): key for key, name in keys.items()}


def test_a_new_evaluator_leaves_everything_else_where_it_was() -> None:
    before, after = plan_of(TWINS.replace("tiny.accuracy, ", "")), plan_of(TWINS)
    assert [p.model for p in before.points] == [p.model for p in after.points]
    assert {t.uses for key, t in after.jobs.items() if key not in before.jobs} == {"tiny.accuracy"}
    assert set(before.jobs) < set(after.jobs)


def test_an_evaluator_without_data_is_shared_where_one_model_meets_two_data_sets(tmp_path: Path) -> None:
    _save(tmp_path / "net.safetensors")
    text = (
        BASE.replace("{uses: tiny.mlp}", "{from: net.safetensors}")
        + "variants: {a: {}, b: {data: {with: {tone: 0.1}}}}\nevaluate: [tiny.size, tiny.accuracy]\n"
    )
    plan = plan_of(text, folder=tmp_path)
    paths = [f"{variant}/seed0/init" for variant in "ab"]
    assert len({point(plan, path).model for path in paths}) == 1
    a, b = (_evaluations(plan, path) for path in paths)
    assert a["tiny.size"] == b["tiny.size"]
    assert a["tiny.accuracy"] != b["tiny.accuracy"]


def test_an_exclusive_evaluator_makes_exclusive_jobs_keyed_by_host(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(TWINS.replace("tiny.size", "tiny.clock"))
    assert {t.uses for t in plan.jobs.values() if t.exclusive} == {"tiny.clock"}
    before = _metrics("[tiny.clock, tiny.accuracy]")
    for node, *setting in (("elsewhere",), (HERE, "compute.device=cpu"), (HERE, "compute.threads=2")):
        monkeypatch.setattr("platform.node", lambda node=node: node)
        after = _metrics("[tiny.clock, tiny.accuracy]", "real", "train", *setting)
        assert before["tiny.clock"] != after["tiny.clock"]
        assert before["tiny.accuracy"] == after["tiny.accuracy"]


def test_a_compressor_that_measures_times_is_alone_and_keyed_by_host_where_its_options_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def jobs(times: str, *settings: str) -> dict[str, Job]:
        text = (
            BASE
            + f"  cut: {{uses: tiny.cut, with: {{units: 6, times: {times}}}}}\n  after: {{uses: tiny.train}}\n"
        )
        return {job.label: job for job in plan_of(text, *settings).jobs.values()}

    def moved(times: str, before: dict[str, Job], *settings: str) -> set[str]:
        return {label for label, job in jobs(times, *settings).items() if job.key != before[label].key}

    size, time = jobs("false"), jobs("true")
    concerned = {f"base/seed0/{name}" for name in ("cut", "cut dry run", "after")}
    assert {label for label, job in time.items() if job.exclusive} == concerned - {"base/seed0/after"}
    assert not any(job.exclusive for job in size.values())
    for setting in ("compute.device=cpu", "compute.threads=2"):
        assert moved("true", time, setting) == concerned
        assert not moved("false", size, setting)
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    assert moved("true", time) == concerned
    assert not moved("false", size)


def test_an_evaluator_that_judges_the_stage_gets_its_models() -> None:
    plan = plan_of(TWINS)
    shrink = job_of(plan, "real/seed0/shrink-02")
    fidelity = plan.jobs[_evaluations(plan, "real/seed0/shrink-02")["tiny.fidelity"]]
    assert fidelity.inputs == {**shrink.inputs, "model": shrink.key}
    assert fidelity.judged == {
        "stage": "shrink", "round": 2, "uses": "tiny.shrink", "config": shrink.config, "reference": "train",
        "seed": 0,
    }  # fmt: skip
    accuracy = plan.jobs[_evaluations(plan, "real/seed0/shrink-02")["tiny.accuracy"]]
    assert (accuracy.inputs, accuracy.judged) == ({"model": shrink.key}, None)


def _references(text: str, folder: Path | None = None) -> dict[str, str | None]:
    return {p.name: p.reference for p in plan_of(text, folder=folder).points}


def test_a_model_is_compared_with_its_teacher_else_with_the_one_before_never_with_fresh_weights() -> None:
    assert _references(ROUNDS) == {
        "train": None, "rounds-01": "previous", "rounds-02": "previous", "rounds-03": "previous",
        "after": "previous",
    }  # fmt: skip
    assert _references(TWINS)["shrink-02"] == "train"
    assert _references(BASE + "  prune: {uses: tiny.prune, with: {rewind: init}}\n")["prune"] == "previous"
    from_init = "  direct: {uses: tiny.shrink, needs: init, repeat: 2, feed: FEED}\n"
    assert _references(BASE + from_init.replace("FEED", "original"))["direct-02"] is None
    assert _references(BASE + from_init.replace("FEED", "previous"))["direct-02"] == "previous"


# Starting from a file


def _save(
    path: Path,
    inputs: tuple[int, ...] = (1, 2, 3),
    classes: int = 3,
    contract: InputSpec | None = None,
) -> None:
    host = tiny_host()
    torch.manual_seed(0)
    architecture = checkpoint.Architecture("tiny.mlp", {"hidden": [4]}, inputs, classes)
    checkpoint.save(checkpoint.build(architecture, host), path, architecture, contract, host)


def test_a_model_that_was_trained_elsewhere_is_a_row_and_a_reference(tmp_path: Path) -> None:
    _save(tmp_path / "net.safetensors")
    text = BASE.replace("{uses: tiny.mlp}", "{from: net.safetensors}") + "evaluate: [tiny.fidelity]\n"
    assert _references(text, tmp_path) == {"init": None, "train": "previous"}
    assert _references(BASE) == {"train": None}, "fresh weights are no row"


STANDARD = InputSpec((1, 2, 3), "standard", (0.5,), (0.2,), ("0", "1", "2"))


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        (
            {"inputs": (1, 3, 2)},
            r"takes inputs \(1, 3, 2\) and has 3 outputs, but tiny\.data has",
        ),
        ({"classes": 4}, r"takes inputs .* and has 4 outputs, but tiny\.data has"),
        (
            {"contract": STANDARD},
            r"inputs of scale 'standard', but tiny\.data gives 'unit'\n.*scale: standard",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_the_data_is_refused(
    tmp_path: Path, saved: dict[str, Any], words: str
) -> None:
    _save(tmp_path / "net.safetensors", **saved)
    text = BASE.replace("{uses: tiny.mlp}", "{from: net.safetensors}")
    with pytest.raises(CompressitError) as caught:
        plan_of(text, folder=tmp_path)
    assert re.search(words, str(caught.value), re.DOTALL)
    if "contract" in saved:
        assert plan_of(text, "data.with.scale=standard", folder=tmp_path).points[0].name == "init"


# The rest


def test_a_broken_estimate_does_not_stop_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    host = tiny_host()
    monkeypatch.setattr(host.find("tiny.prune").plugin, "work", lambda self, images, times: images / 0)
    text = BASE + "  prune: {uses: tiny.prune}\n  narrow: {uses: tiny.shrink, repeat: 2}\n"
    plan = plan_of(text, host=host)
    assert job_of(plan, "base/seed0/prune").work is None
    narrow = job_of(plan, "base/seed0/narrow-02").work
    assert narrow == {"steps": 3, "batch_size": 128, "width": 0.25, "forwards": 40}


@pytest.mark.parametrize("name", ["fingerprint", "train_size"])
def test_a_data_set_that_cannot_say_what_it_has_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host = tiny_host()
    kind = host.find("tiny.data").plugin

    def broken(self: object) -> int:
        raise KeyError("no such file")

    monkeypatch.setattr(kind, name, broken if name == "fingerprint" else property(broken))
    with pytest.raises(CompressitError, match=rf"`{name}` of tiny\.data fails: KeyError"):
        plan_of(TWINS, host=host)


def test_jobs_survive_json() -> None:
    for job in twins().jobs.values():
        again = Job.from_json(json.loads(json.dumps(job.to_json())))
        assert again.to_json() == json.loads(json.dumps(job.to_json()))
        assert (again.key, again.inputs, again.round) == (job.key, job.inputs, job.round)


def test_the_lineage_tells_how_a_model_came_to_be() -> None:
    lineage = job_of(plan_of(TWINS), "fake/seed0/shrink-02").lineage
    assert [(step["stage"], step["uses"]) for step in lineage] == [
        ("init", "tiny.mlp"), ("train", "tiny.train"), ("shrink-02", "tiny.shrink"),
    ]  # fmt: skip
    assert lineage[-1]["data"]["config"]["labels"] == "random"


def test_planning_imports_no_torch() -> None:
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from compressit.host.plugins import Host
from compressit.recipe.load import parse_recipe
from compressit.planning.plan import make_plan
host = Host(entry_points=False)
host.load_file(Path({str(PLUGINS)!r}))
plan = make_plan(parse_recipe({TWINS!r}, "r", host, trust=lambda plugin: True), host)
print(len(plan.points), *[m for m in ("torch", "numpy", "matplotlib") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["8"]
