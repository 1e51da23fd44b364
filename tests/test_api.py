"""`import compressit`: runs, models, data and stages from Python."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tiny import BASE, PLUGINS, TWINS, Bench, Lab, same, tiny_host

import compressit
from compressit import paths
from compressit.api import Run, default_folder
from compressit.datasets.splits import Data
from compressit.errors import CompressitError, NoEffectError, StageFailed
from compressit.host.plugins import Host, installed
from compressit.public import EXPORTS
from compressit.recipe.load import load_recipe
from compressit.recipe.model import ComputeConfig, Recipe

pytestmark = pytest.mark.usefixtures("warm_workers")


@pytest.fixture(autouse=True)
def _tiny_is_installed() -> None:
    """As a user does in a script; the names are nobody else's."""
    installed().load_file(PLUGINS)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(TWINS)
    return file


def _load(recipe: Path, host: Host | None = None, *settings: str) -> Recipe:
    return load_recipe(recipe, settings=settings, trust=True, host=host)


def _run(recipe: Path, tmp_path: Path, *settings: str) -> Run:
    host = tiny_host()
    return compressit.run(
        _load(recipe, host, *settings), out=tmp_path / "run", store=tmp_path / "store", host=host
    )


# Names


def test_no_submodule_hides_an_exported_name() -> None:
    """Importing `compressit.data` would make the module of that name the package's attribute."""
    modules = {module.name for module in pkgutil.iter_modules(compressit.__path__)}
    assert modules & set(EXPORTS) == set()


def test_every_exported_name_is_there_and_documented() -> None:
    for name, module in EXPORTS.items():
        value = getattr(compressit, name)
        assert importlib.util.find_spec(module) is not None
        assert inspect.getdoc(value) or name in ("ModelRef", "hookimpl"), name
        assert name in dir(compressit)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = compressit.trian  # type: ignore[attr-defined]


# Runs


def test_a_run_gives_its_models_rows_and_numbers(recipe: Path, tmp_path: Path, bench: Bench) -> None:
    run = _run(recipe, tmp_path)
    names = ["train", "prune", "shrink-01", "shrink-02"]
    assert run.stages == [f"{variant}/seed0/{name}" for variant in ("real", "fake") for name in names]
    assert [row["parameters"] for row in run.metrics] == [123, 123, 63, 33] * 2
    assert run.metrics[0]["variant"] == "real"
    assert run.failures == []
    row = run.row("shrink-02", variant="fake")
    assert (row.variant, row.round, row.teacher) == ("fake", 2, "train")
    assert run.row("train").variant == "real", "the first"
    model = run.model("shrink-02", variant="fake")
    assert not model.training
    assert model(torch.zeros(4, 1, 2, 3)).shape == (4, 3)
    for arguments in (("shrink-03",), ("train", "nobody"), ("train", "real", 7)):
        with pytest.raises(CompressitError, match="the run has no model") as caught:
            run.row(*arguments)
        assert "real/seed0/shrink-02" in str(caught.value.hint)


def test_a_failed_stage_is_an_error_that_says_what_is_kept(
    recipe: Path, tmp_path: Path, bench: Bench
) -> None:
    with pytest.raises(StageFailed, match=r"tiny\.prune changed nothing") as caught:
        _run(recipe, tmp_path, "stages.prune.with.sparsity=0")
    assert caught.value.exit_code == 1
    assert str(tmp_path / "run") in caught.value.message
    assert (tmp_path / "run/checkpoints/real/seed0/shrink-02.safetensors").exists()


def test_a_run_goes_where_it_is_told_else_to_runs(
    recipe: Path, tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPRESSIT_STORE", str(tmp_path / "elsewhere"))
    recipe.write_text(TWINS + "profiles: {quick: {stages: {train: {with: {epochs: 1}}}}}\n")
    host = tiny_host()
    folders = [
        compressit.run(load_recipe(recipe, profile, trust=True, host=host), host=host).folder
        for profile in (None, "quick")
    ]
    assert [str(folder) for folder in folders] == ["runs/tiny", "runs/tiny-quick"]
    assert (tmp_path / "elsewhere/objects").is_dir()


def test_no_worker_at_all_is_a_mistake(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(CompressitError, match="jobs=0"):
        compressit.run(recipe, out=tmp_path / "run", jobs=0)
    assert not (tmp_path / "run").exists()


WRONG_OPTIONS = [
    (lambda: compressit.data("tiny.data", images=-3), "tiny.data.images must be at least 1 (got -3)"),
    (lambda: compressit.data("tiny.data", imges=3), "'imges' in tiny.data\n      help: did you"),
    (lambda: compressit.data("tiny.data", images=object()), "not a plain value"),
    (lambda: compressit.data("tiny.data", images=Path("some/where")), "(got 'some/where')"),
    (lambda: compressit.stage("tiny.prune", sparsty=1), "'sparsity'?"),
    (lambda: compressit.stage("tiny.train", optimizer={"lrr": 1}), "'lrr' in tiny.train.optimizer"),
    (lambda: compressit.stage("tiny.train", momentum=0.9), "'optimizer.momentum'?"),
    (
        lambda: compressit.save(_net(), "x", uses="tiny.mlp", contract=_data().contract, hiden=[12]),
        "'hidden'",
    ),
]
WRONG_THINGS = [
    (lambda: compressit.stage("tiny.size"), "evaluator"),
    (lambda: compressit.stage("tiny.train")(_net()), "tiny.train needs data"),
    (lambda: compressit.stage("tiny.train", teacher="train"), "teacher= takes a net"),
    (lambda: compressit.stage("tiny.train")(_data(), _net()), "the net first"),
    (lambda: compressit.stage("tiny.train")("net", _data()), "a net, not 'net'"),
    (lambda: compressit.stage("tiny.train")(_net(), [1]), "not a list"),
    (lambda: compressit.stage("tiny.train")(torch.nn.Linear, _data()), "Linear is a class"),
    (lambda: compressit.stage("tiny.train")(torch.nn.Linear(7, 3), _data()), "does not run on the data"),
    (lambda: compressit.stage("tiny.train")(_linear(2), _data()), "labels go up to 2"),
    (lambda: compressit.save(torch.nn.Linear, "x.safetensors"), "save takes a net"),
    (lambda: compressit.load("x.safetensors", into=torch.nn.Linear), "into= takes a net"),
    (lambda: compressit.evaluate(torch.nn.Linear(7, 3), _data(), "tiny.accuracy"), "inputs (1, 2, 3)"),
    (lambda: compressit.data("tiny.dta"), "tiny.dta"),
    (lambda: compressit.evaluate(_net(), _data(), "tiny.fidelity"), "judges a stage"),
]


@pytest.mark.parametrize(("wrong", "told"), [*WRONG_OPTIONS, *WRONG_THINGS])
def test_what_is_wrong_is_told_without_a_recipe(wrong: Callable[[], object], told: str) -> None:
    with pytest.raises(CompressitError) as caught:
        wrong()
    assert told in str(caught.value)
    assert caught.value.hint or (wrong, told) in WRONG_OPTIONS
    assert "recipe" not in str(caught.value) or (wrong, told) in WRONG_THINGS


def test_every_wrong_option_is_told() -> None:
    with pytest.raises(CompressitError) as caught:
        compressit.stage("tiny.train", epochs=0, batch_size=0, epoch=1)
    assert [line.split(" (got")[0] for line in str(caught.value).splitlines() if "help" not in line] == [
        "tiny.train.epochs must be at least 1",
        "tiny.train.batch_size must be at least 1",
        "unknown key 'epoch' in tiny.train",
    ]


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPRESSIT_STORE", raising=False)
    monkeypatch.setenv("COMPRESSIT_CACHE", "/somewhere")
    assert paths.default_cache() == Path("/somewhere")
    assert paths.default_store() == Path("/somewhere/store")
    monkeypatch.delenv("COMPRESSIT_CACHE")
    assert "compressit" in str(paths.default_cache())


def test_a_recipes_file_runs_with_worker_processes_and_a_drawn_report(recipe: Path, tmp_path: Path) -> None:
    """Nothing replaced; the numbers are those of jobs run one by one."""
    loaded = _load(recipe, None, "compute.threads=1", "stages.train.with.fault=noisy")
    run = compressit.run(loaded, out=tmp_path / "run", store=tmp_path / "store", jobs=2)
    lab = Lab(tmp_path / "lab")
    plan = lab.plan(TWINS, "stages.train.with.fault=noisy")
    lab.run(plan)
    for path in run.stages:
        variant, _, name = path.split("/")
        assert same(run.model(name, variant).state_dict(), lab.model(plan, path))
    assert "There are 8 rows." in (tmp_path / "run/report.html").read_text()
    assert (tmp_path / "run/logs/worker-1.log").exists()


# Models


def test_a_model_saved_is_the_model_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = _net()
    compressit.save(
        net, tmp_path / "net.safetensors", uses="tiny.mlp", inputs=(1, 2, 3), outputs=3, hidden=[12]
    )
    loaded = compressit.load(tmp_path / "net.safetensors")
    assert same(loaded.state_dict(), net.state_dict())
    fresh = compressit.fresh(tmp_path / "net.safetensors", seed=1)
    assert same(fresh.state_dict(), compressit.fresh(tmp_path / "net.safetensors", seed=1).state_dict())
    assert not same(fresh.state_dict(), net.state_dict())
    with pytest.raises(CompressitError, match="needs the shape of its inputs"):
        compressit.save(net, tmp_path / "net.safetensors", uses="tiny.mlp")
    compressit.save(net, tmp_path / "live.safetensors")
    assert same(compressit.load(tmp_path / "live.safetensors", into=_net()).state_dict(), net.state_dict())


def _net() -> torch.nn.Module:
    from compressit.checkpoint.model import Architecture, build

    return build(Architecture("tiny.mlp", {"hidden": [12]}, (1, 2, 3), 3), installed())


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    compressit.save(_net(), tmp_path / "model.safetensors", uses="tiny.mlp", inputs=(1, 2, 3), hidden=[12])
    for use in (
        compressit.load,
        compressit.fresh,
        lambda path: compressit.evaluate(path, _data(), "tiny.size"),
    ):
        with pytest.raises(CompressitError, match="is a folder, not a checkpoint") as caught:
            use(tmp_path)
        assert caught.value.hint == f"did you mean {tmp_path / 'model.safetensors'}?"


# Measuring


def test_a_net_measures_as_its_file_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"  # where a file is measured too
    data, net = compressit.data("tiny.data", device=device, announce=lambda text: None), _net().to(device)
    before = copy.deepcopy(net.train().state_dict())
    measured = compressit.evaluate(net, data, "tiny.accuracy", "tiny.size")
    assert net.training, "it is left as it was"
    assert same(net.state_dict(), before)
    with torch.no_grad():
        right = (net.eval()(data.test.x).argmax(1) == data.test.y).float().mean()
    assert measured["test_accuracy"] == pytest.approx(float(right))
    assert measured["parameters"] == 123
    compressit.save(net, tmp_path / "net.safetensors", uses="tiny.mlp", contract=data.contract, hidden=[12])
    for model, on in ((tmp_path / "net.safetensors", data), (str(tmp_path / "net.safetensors"), "tiny.data")):
        assert compressit.evaluate(model, on, "tiny.accuracy", "tiny.size") == measured
    assert capsys.readouterr().out == "loading dots\n"


# Data


def test_data_come_with_the_options_of_a_recipe() -> None:
    said: list[str] = []
    data = compressit.data("tiny.data", announce=said.append, limit=10, validation=0.2, scale="standard")
    assert said == ["loading dots", *(f"warning: tiny.data: {doubt}" for doubt in data.doubts)]
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test), data.classes) == (8, 2, 20, 3)
    assert data.contract.scale == "standard"


# Stages


@pytest.fixture
def undisturbed() -> Iterator[None]:
    """The global random numbers are the caller's."""
    state = torch.random.get_rng_state()
    yield
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_stage_in_this_process_computes_what_a_recipe_computes(
    tmp_path: Path, undisturbed: None, device: str
) -> None:
    """Bit for bit: a recipe's stage of the plugin's own name draws the same random numbers."""
    text = (
        BASE.replace("  train:", "  tiny.train:")
        + "  tiny.prune: {uses: tiny.prune, with: {sparsity: 0.25}}\n"
    )
    lab = Lab(tmp_path)
    plan = lab.plan(text, f"compute.device={device}")
    start = compressit.load(lab.run(plan)["base/seed0/init"].model_file)
    before = copy.deepcopy(start.state_dict())
    train = compressit.stage("tiny.train")
    trained = train(start, compressit.data("tiny.data", device=device, announce=lambda text: None))
    assert same(trained.cpu().state_dict(), lab.model(plan, "base/seed0/tiny.train"))
    assert not trained.training
    assert train.notes["images_seen"] == 160
    assert len(train.curves["seen"]) == 4
    prune = compressit.stage("tiny.prune", sparsity=0.25)
    pruned = prune(trained)
    assert same(pruned.state_dict(), lab.model(plan, "base/seed0/tiny.prune"))
    assert prune.notes == {"requested": 0.25}
    assert same(start.state_dict(), before), "what it was given stays as it was"
    assert start.training is False


def test_a_stage_refuses_what_a_recipe_refuses() -> None:
    with pytest.raises(NoEffectError, match="weights and buffers are the same") as caught:
        compressit.stage("tiny.prune", sparsity=0)(_net())
    assert "sparsity" not in str(caught.value), "not every compressor has one"
    with pytest.raises(CompressitError, match="returned nothing"):
        compressit.stage("tiny.train", epochs=1, fault="nothing")(_net(), _data())


def test_an_error_of_a_plugin_stays_its_own() -> None:
    """Where the data fit the net, it is not for want of that."""
    with pytest.raises(RuntimeError, match="the plugin is broken"):
        compressit.stage("tiny.train", epochs=1, fault="raise")(_net(), _data())


def _linear(outputs: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, outputs))


def test_the_teacher_serves_every_reference() -> None:
    teacher, model = _net(), _net()
    rewound = compressit.stage("tiny.prune", rewind="anything", sparsity=0.01, teacher=teacher)(model)
    changed = sum(
        int((a != b).sum()) for a, b in zip(rewound.parameters(), teacher.parameters(), strict=True)
    )
    assert changed <= 2
    assert not same(rewound.state_dict(), model.state_dict())


def test_without_a_teacher_no_reference_but_the_net_itself_is_known() -> None:
    with pytest.raises(CompressitError, match=r"tiny\.prune names the model 'anything'.*\n.*teacher=net"):
        compressit.stage("tiny.prune", rewind="anything", sparsity=0.01)(_net())


def test_a_stage_computes_where_the_data_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a machine with a GPU: data on the CPU are not moved."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    trained = compressit.stage("tiny.train", epochs=1)(_net(), _data())
    assert {p.device.type for p in trained.parameters()} == {"cpu"}


def test_a_stage_computes_on_the_device_that_the_data_were_put_on(device: str) -> None:
    data = compressit.data("tiny.data", device=device, announce=lambda text: None)
    assert data.train.x.device.type == data.test.y.device.type == device
    prune = compressit.stage("tiny.prune", rewind="train", teacher=_net())
    for stage in (compressit.stage("tiny.train", epochs=1), prune):
        trained = stage(_net(), data)
        assert {p.device.type for p in trained.parameters()} == {device}
        assert all(bool(p.isfinite().all()) for p in trained.parameters())


def _data() -> Data:
    return compressit.data("tiny.data", announce=lambda text: None)


@pytest.mark.parametrize("xdg", [None, "relative/cache"])
def test_without_a_home_the_user_is_asked_for_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, xdg: str | None
) -> None:
    def nobody(uid: int) -> object:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    for name in ("HOME", "COMPRESSIT_CACHE", "COMPRESSIT_STORE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    if xdg is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    with pytest.raises(CompressitError, match="home folder") as caught:
        paths.default_store()
    assert "COMPRESSIT_CACHE" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "mine"))
    assert paths.default_store() == tmp_path / "mine" / "store"


def test_settings_have_a_folder_of_their_own_and_links_are_not_followed_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def folder(*settings: str, profile: str | None = None) -> Path:
        return default_folder(
            Recipe("first", None, profile, (0,), ComputeConfig(), (), (), settings=settings)
        )

    assert folder() == Path("runs/first")
    assert folder(profile="quick") == Path("runs/first-quick")
    assert folder("stages.train.with.epochs=5") == Path("runs/first-train.with.epochs=5")
    odd = [folder(f"seeds={value}") for value in ("[1, 2]", "[1; 2]", "../../x", "x" * 500)]
    assert len(set(odd)) == 4
    assert all(path.parent == Path("runs") and len(path.name) <= 120 for path in odd)
    (tmp_path / "elsewhere").mkdir()
    for link in ("runs", "runs/first"):
        (tmp_path / link).parent.mkdir(exist_ok=True)
        (tmp_path / link).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(CompressitError, match=f"{link} is a symbolic link") as caught:
            folder()
        assert "--out" in str(caught.value.hint)
        (tmp_path / link).unlink()
