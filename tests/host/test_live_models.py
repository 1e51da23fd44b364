"""Networks of one's own: compressed in process, saved, loaded into a net or built by a registered name."""

from __future__ import annotations

import copy
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch_pruning
from tiny import BASE, PLUGINS, Lab, same, tiny_host
from torch import Tensor, nn

import compressit
from compressit.checkpoint import model as checkpoint
from compressit.checkpoint.header import read_header
from compressit.datasets.specs import TensorSpec, to_json
from compressit.datasets.splits import InputSpec
from compressit.errors import CompressitError
from compressit.host.plugins import Host, Source, installed
from compressit.planning.plan import make_plan
from compressit.recipe.load import load_recipe

SHAPE = (2, 6, 6)
LAYERS = PLUGINS.parents[1] / "checkpoint" / "tiny_models.py"


@pytest.fixture(autouse=True)
def _own_host() -> Iterator[None]:
    """A host for each test: the names of one are not taken in the next."""
    installed.cache_clear()
    installed().load_file(PLUGINS)
    yield
    installed.cache_clear()


class Net(nn.Module):
    """Nobody registered it."""

    def __init__(self, width: int = 8, outputs: int = 3) -> None:
        super().__init__()
        self.width = width
        self.first = nn.Conv2d(2, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.first(x)).relu().mean((2, 3)))


def pruned(net: nn.Module) -> nn.Module:
    """Half the channels gone."""
    net = copy.deepcopy(net).eval()
    torch_pruning.pruner.BasePruner(
        net,
        (torch.ones(1, *SHAPE),),
        importance=torch_pruning.importance.GroupMagnitudeImportance(),
        pruning_ratio=0.5,
        ignored_layers=[net.head],
    ).step()
    return net


def outputs(net: nn.Module) -> Tensor:
    with torch.no_grad():
        return net.eval()(torch.linspace(-1, 1, 144).reshape(2, *SHAPE))


# Without a name


@pytest.mark.parametrize("width", [8, 4, 11], ids=lambda w: f"into {w} channels")
def test_a_pruned_net_fills_a_net_of_any_width(width: int, tmp_path: Path) -> None:
    smaller = pruned(Net(8))
    compressit.save(smaller, tmp_path / "net.safetensors")
    into = Net(width)
    loaded = compressit.load(tmp_path / "net.safetensors", into=into)
    assert loaded is into
    assert str(loaded) == str(smaller)
    assert (loaded.first.out_channels, loaded.norm.num_features, loaded.head.in_features) == (4, 4, 4)
    assert same(loaded.state_dict(), smaller.state_dict())
    assert torch.equal(outputs(loaded), outputs(smaller))
    with pytest.raises(CompressitError, match=r"compressit\.load\(path, into=net\)|registered builder"):
        compressit.load(tmp_path / "net.safetensors")


def test_a_net_of_other_layers_is_not_filled_and_one_that_computes_something_else_where_it_is_asked(
    tmp_path: Path,
) -> None:
    """The error says how; an activation is no part of a file."""
    contract = InputSpec((4,), "unit", None, None, ("a", "b"))
    path = tmp_path / "net.safetensors"
    compressit.save(nn.Sequential(nn.Linear(4, 2), nn.Tanh()), path, contract=contract)
    with pytest.raises(CompressitError, match="fit"):
        compressit.load(path, into=Net())
    other = nn.Sequential(nn.Linear(4, 2), nn.Sigmoid())
    with pytest.raises(CompressitError, match="outputs are off") as refused:
        compressit.load(path, into=other)
    assert "probe=False" in str(refused.value)
    assert compressit.load(path, into=other, probe=False) is other


def test_options_without_a_registered_model_are_a_mistake(tmp_path: Path) -> None:
    for options in ({"width": 8}, {"inputs": SHAPE}, {"outputs": 3}, {"width": None}):
        with pytest.raises(
            CompressitError, match=rf"{next(iter(options))}= is for registered models, and Net"
        ):
            compressit.save(Net(), tmp_path / "net.safetensors", **options)
    assert not list(tmp_path.iterdir())


# With a name


def registered(name: str = "my.net") -> type[Net]:
    """A registered subclass, as a user's module would define it."""

    @compressit.model(name)
    class Mine(Net):
        """A net of my own."""

    return Mine


def test_a_registered_class_saves_and_loads_by_its_name(tmp_path: Path) -> None:
    net = registered()(width=6)
    smaller = pruned(net)
    compressit.save(smaller, tmp_path / "net.safetensors", inputs=SHAPE, width=6)
    loaded = compressit.load(tmp_path / "net.safetensors")
    assert str(loaded) == str(smaller)
    assert torch.equal(outputs(loaded), outputs(smaller))
    builder = read_header(tmp_path / "net.safetensors").manifest.model
    assert builder is not None
    assert builder.model_dump(mode="json") == {
        "name": "my.net", "config": {"width": 6}, "inputs": to_json(TensorSpec(SHAPE)), "outputs": 3,
        "owner": "test_live_models",
    }  # fmt: skip
    assert compressit.fresh(tmp_path / "net.safetensors", seed=1).first.out_channels == 3
    compressit.save(registered()(), tmp_path / "net.safetensors", inputs=SHAPE)
    assert read_header(tmp_path / "net.safetensors").manifest.model.config == {"width": 8}, "today's defaults"


def test_widths_need_not_be_said_but_layers_must(tmp_path: Path) -> None:
    @compressit.model("my.deep")
    class Deep(nn.Sequential):
        def __init__(self, depth: int = 2, width: int = 5) -> None:
            super().__init__(*(nn.Linear(4 if i == 0 else width, width) for i in range(depth)))

    compressit.save(Deep(width=3), tmp_path / "net.safetensors", inputs=(4,))
    assert compressit.load(tmp_path / "net.safetensors")[0].out_features == 3
    with pytest.raises(CompressitError, match="the layer 2 was added"):
        compressit.save(Deep(depth=3), tmp_path / "deep.safetensors", inputs=(4,))
    compressit.save(Deep(depth=3), tmp_path / "deep.safetensors", inputs=(4,), depth=3)
    assert len(compressit.load(tmp_path / "deep.safetensors")) == 3


def test_the_shape_of_the_inputs_is_asked_for(tmp_path: Path) -> None:
    for shape, words in ((None, "the shape of its inputs"), ((7, 6, 6), "does not run on inputs")):
        with pytest.raises(CompressitError, match=words):
            compressit.save(registered()(), tmp_path / "net.safetensors", inputs=shape)
    assert not (tmp_path / "net.safetensors").exists()


def test_a_function_is_called_with_what_it_asks_for(tmp_path: Path) -> None:
    @compressit.model("my.flat")
    def flat(inputs, outputs, hidden=(6, 5), *, bias: bool = True, activation=nn.ReLU):
        sizes = [torch.Size(inputs.shape).numel(), *hidden]
        layers = [
            m for a, b in zip(sizes, hidden, strict=False) for m in (nn.Linear(a, b, bias), activation())
        ]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], outputs))

    net = flat(TensorSpec(SHAPE), 4, hidden=(7,))
    assert isinstance(net[2], nn.ReLU)
    compressit.save(net, tmp_path / "net.safetensors", uses="my.flat", inputs=SHAPE, hidden=[7])
    builder = read_header(tmp_path / "net.safetensors").manifest.model
    assert (builder.config, builder.outputs) == ({"hidden": [7], "bias": True}, 4)
    assert torch.equal(outputs(compressit.load(tmp_path / "net.safetensors")), outputs(net))
    with pytest.raises(CompressitError, match=r"my\.flat\.bias must be true or false"):
        compressit.save(net, tmp_path / "x.safetensors", uses="my.flat", inputs=SHAPE, bias="yes")


def test_subclasses_of_a_registered_class_are_not_it(tmp_path: Path) -> None:
    class Other(registered()):
        pass

    compressit.save(Other(), tmp_path / "net.safetensors")
    assert read_header(tmp_path / "net.safetensors").manifest.model is None


def test_a_cell_run_again_replaces_its_model_but_nobody_elses_name_is_taken() -> None:
    first, second = registered(), registered()
    assert first is not second
    assert installed().find("my.net").plugin.summary() == "A net of my own."

    with pytest.raises(CompressitError, match=r"'my\.net' is the name of two plugins") as caught:

        @compressit.model("my.net")
        class Another(nn.Module):
            pass

    assert "registered.<locals>.Mine (test_live_models)" in str(caught.value)
    for name, words in (("tiny.mlp", r"tiny\.mlp' is the name of two plugins"), ("net", "must be like")):
        with pytest.raises(CompressitError, match=words):
            registered(name)


def test_what_no_file_can_hold_needs_a_default() -> None:
    with pytest.raises(CompressitError, match="JSON cannot hold values of its parameter 'layer'"):

        @compressit.model("my.net")
        def build(layer: nn.Module) -> nn.Module:
            return layer

    @compressit.model("my.rest")
    def rest(
        *layers: nn.Module, size=1, layer: nn.Module | None = None, _x: int = 3, copy: str = "a", **more: int
    ):
        return nn.Linear(size, 1)

    assert list(installed().find("my.rest").plugin.Config.model_fields) == ["size", "copy"]


FILE = """
import compressit
from torch import nn

@compressit.model("file.net")
class Net(nn.Sequential):
    def __init__(self, width: int = 4) -> None:
        super().__init__(nn.Linear(3, width))
"""


def test_a_local_file_of_registered_models_is_a_plugin(tmp_path: Path) -> None:
    file = tmp_path / "my_net.py"
    file.write_text(FILE)
    host = Host(entry_points=False)
    host.load_file(file)
    assert host.names("model") == ["file.net"]
    assert host.find("file.net").source == Source(str(file))
    assert "file.net" not in installed().names(), "it belongs to the host that was told to load it"
    file.write_text(FILE.replace("3, width", "2, width") + "raise RuntimeError('half way')")
    other = Host(entry_points=False)
    with pytest.raises(CompressitError, match="half way"):
        other.load_file(file)
    assert other.names("model") == []
    file.write_text("")
    with pytest.raises(CompressitError, match="it has no hook"):
        other.load_file(file)


FLAT = """
import compressit
from torch import nn

@compressit.model("file.flat")
def flat(inputs: compressit.TensorSpec, outputs: int, width: int = 4) -> nn.Module:
    size = inputs.values
    return nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, outputs))
"""


def test_a_recipe_uses_it_and_its_code_is_in_the_keys(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(FLAT)
    text = BASE.replace("{uses: tiny.mlp}", "{uses: file.flat, with: {width: 7}}")
    text = text.replace("data:", "plugins: [./nets.py]\ndata:")
    lab = Lab(tmp_path)
    plan = lab.plan(text)
    file = lab.run(plan)["base/seed0/train"].model_file
    assert checkpoint.load(file, host=lab.host)[1].out_features == 7
    assert read_header(file).manifest.model.owner == "nets.py"
    (tmp_path / "nets.py").write_text(FLAT.replace("ReLU", "GELU"))
    assert not plan.jobs.keys() & Lab(tmp_path).plan(text).jobs.keys()


def test_a_model_of_this_process_is_refused_before_anything_runs_until_a_file_brings_it(
    tmp_path: Path,
) -> None:
    text = BASE.replace("{uses: tiny.mlp}", "{uses: file.flat, with: {width: 7}}")
    (tmp_path / "nets.py").write_text(FLAT)
    host = tiny_host()
    recipe, named = tmp_path / "live.yaml", tmp_path / "named.yaml"
    recipe.write_text(text)
    named.write_text(text.replace("data:", "plugins: [./nets.py]\ndata:"))

    @compressit.model("file.flat")
    def flat(width: int = 4) -> nn.Module:
        return nn.Linear(3, width)

    host.add_model(installed().find("file.flat").plugin, installed().find("file.flat").source)
    with pytest.raises(
        CompressitError, match=r"'file\.flat' was registered in this Python process"
    ) as caught:
        compressit.run(
            load_recipe(recipe, host=host),
            out=tmp_path / "out",
            store=tmp_path / "store",
            host=host,
            live=False,
        )
    assert "plugins:" in str(caught.value.hint)
    assert not (tmp_path / "out").exists()
    load_recipe(named, trust=True, host=host)
    assert host.find("file.flat").owner == str(tmp_path / "nets.py")


def test_a_model_of_this_process_runs_in_workers_forked_from_it_and_its_code_is_in_the_keys(
    tmp_path: Path,
) -> None:
    (tmp_path / "r.yaml").write_text(BASE.replace("{uses: tiny.mlp}", "{uses: here.flat}"))

    def trained(gain: int) -> tuple[str, list[str]]:
        host = tiny_host()

        class Flat(nn.Module):
            def __init__(self, inputs: compressit.TensorSpec, outputs: int) -> None:
                super().__init__()
                self.layer = nn.Linear(inputs.values, outputs)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.layer(x.flatten(1)) * gain

        compressit.model("here.flat")(Flat)
        host.add_model(installed().find("here.flat").plugin, installed().find("here.flat").source)
        recipe = load_recipe(tmp_path / "r.yaml", host=host)
        done = compressit.run(recipe, out=tmp_path / "out", store=tmp_path / "store", host=host)
        assert isinstance(done.model("train"), Flat)
        return done.plan.points[0].model, list(done.plan.live)

    keys = [trained(1), trained(1), trained(2)]
    assert keys[0] == keys[1] != keys[2]
    assert keys[0][1] == ["'here.flat'"]


def _saved(place: Path, host: Host, layer: bool) -> None:
    """A checkpoint of a net, or with a layer, that only this process has."""
    contract = InputSpec((1, 2, 3), "unit", None, None, ("0", "1", "2"))
    if not layer:

        @compressit.model("live.flat")
        def flat(width: int = 3) -> nn.Module:
            return nn.Sequential(nn.Flatten(), nn.Linear(6, width))

        host.add_model(installed().find("live.flat").plugin, installed().find("live.flat").source)
        shape = {"inputs": (1, 2, 3), "outputs": 3}
        compressit.save(flat(), place, uses="live.flat", contract=contract, **shape)
        return
    made = checkpoint.Architecture("tiny.mlp", {"hidden": [12]}, (1, 2, 3), 3)
    net = checkpoint.build(made, host)
    net.set_submodule("1", host.module_types()[-1].build({"inputs": 6, "rank": 2, "outputs": 12}))
    checkpoint.save(net, place, made, contract, host)


@pytest.mark.parametrize(
    ("layer", "place"), [(False, "teacher"), (True, "teacher"), (True, "from")], ids=lambda value: str(value)
)
def test_what_this_process_alone_has_is_refused_when_the_plan_is_made(
    tmp_path: Path, layer: bool, place: str
) -> None:
    host = tiny_host()
    host.load_file(LAYERS)
    _saved(tmp_path / "net.safetensors", host, layer)
    more = "  small: {uses: tiny.shrink, with: {teacher: net.safetensors}}\n"
    text = BASE.replace("{uses: tiny.mlp}", "{from: net.safetensors}") if place == "from" else BASE + more
    recipe = tmp_path / "r.yaml"
    recipe.write_text(text)
    name = r"tiny\.LowRank" if layer else r"live\.flat"
    with pytest.raises(CompressitError, match=f"'{name}' was registered in this Python process") as caught:
        make_plan(load_recipe(recipe, host=host), host)
    assert "plugins:" in str(caught.value.hint)
    with pytest.raises(CompressitError, match=name):
        make_plan(load_recipe(recipe, host=tiny_host()), tiny_host())
    recipe.write_text(text.replace("data:", f"plugins: [{LAYERS}]\ndata:"))
    if layer:
        assert make_plan(load_recipe(recipe, trust=True, host=host), host).jobs


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(source: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", textwrap.dedent(source)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def test_another_process_loads_it_once_it_has_imported_the_module(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text(FILE)
    made = run("import compressit, my_net; compressit.save(my_net.Net(2), 'a.safetensors', inputs=(3,))")
    assert made.returncode == 0, made.stderr
    assert str(tmp_path) not in (tmp_path / "a.safetensors").read_bytes().decode("latin1")
    loaded = run("import compressit, my_net; print(compressit.load('a.safetensors')[0].out_features)")
    assert loaded.stdout == "2\n", loaded.stderr
    missing = run(
        """
        import compressit
        try:
            compressit.load("a.safetensors")
        except compressit.CompressitError as error:
            print(error)
        """
    )
    assert "it comes from 'my_net'" in missing.stdout
    assert "in Python, import that module first" in missing.stdout
