from __future__ import annotations

import copy
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_pruning
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compressit.checkpoint import model as checkpoint
from compressit.checkpoint.header import read_header
from compressit.checkpoint.model import Architecture, architecture_of, contract_of, fresh, load, save
from compressit.checkpoint.probe import probe_input
from compressit.checkpoint.tensors import TYPES, same_bits
from compressit.datasets.splits import InputSpec
from compressit.errors import CompressitError
from compressit.host.plugins import Host

from . import forge
from .samples import CONV, HEADS, MLP, TIED, TINY

Make = Callable[..., nn.Module]

IN_ANOTHER_PROCESS = """
import sys, torch
from pathlib import Path
from safetensors.torch import load_file, save_file
from compressit.host.plugins import Host
from compressit.checkpoint.model import load
torch.set_num_threads(int(sys.argv[2]))
host = Host(entry_points=False)
host.load_file(Path(sys.argv[1]))
for name in sys.argv[3:]:
    model = load(Path(name), host=host)
    exchange = Path(name).with_suffix(".exchange")
    with torch.no_grad():
        y = model(load_file(exchange)["x"].clone())  # a map's memory is not aligned as torch's own
    save_file({"y": y, **{n: v.clone() for n, v in model.state_dict().items()}}, exchange)
"""


def an_input(path: Path) -> Tensor:
    manifest = read_header(path).manifest
    assert manifest.probe is not None
    assert manifest.model is not None
    return probe_input(manifest.model.input_shape, getattr(torch, manifest.probe.dtype)).flip(0)


def equal(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(same_bits(a[name], b[name]) for name in a)


def pruned(model: nn.Module, shape: tuple[int, ...], ratio: float = 0.5) -> nn.Module:
    """Half the channels gone, by Torch-Pruning; the classifier keeps its outputs."""
    model.eval()
    torch_pruning.pruner.BasePruner(
        model,
        (torch.ones(1, *shape),),
        importance=torch_pruning.importance.GroupMagnitudeImportance(),
        pruning_ratio=ratio,
        ignored_layers=[model[-1]],
    ).step()
    return model


def test_models_come_back_bit_equal_in_another_process(make: Make, host: Host, tmp_path: Path) -> None:
    models = {a.name: (a, make(a)) for a in (MLP, CONV, TIED, HEADS)}
    models["pruned"] = (CONV, pruned(make(CONV), CONV.input_shape))
    paths = {name: tmp_path / f"{name}.safetensors" for name in models}
    inputs: dict[str, Tensor] = {}
    for name, (architecture, model) in models.items():
        save(model, paths[name], architecture, host=host)
        inputs[name] = an_input(paths[name])
        save_file({"x": inputs[name]}, paths[name].with_suffix(".exchange"))
    arguments = [str(TINY), str(torch.get_num_threads()), *map(str, paths.values())]
    subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS, *arguments], check=True)
    for name, (_, model) in models.items():
        found = load_file(paths[name].with_suffix(".exchange"))
        with torch.no_grad():
            assert same_bits(found.pop("y"), model.eval()(inputs[name])), name
        assert found.keys() == model.state_dict().keys()
        assert all(same_bits(value, found[key]) for key, value in model.state_dict().items()), name


def test_a_pruned_model_has_its_shape_and_says_that_it_was_edited(
    make: Make, host: Host, tmp_path: Path
) -> None:
    model, path = pruned(make(CONV), CONV.input_shape), tmp_path / "m.safetensors"
    assert (model[0].out_channels, model[3].groups, model[4].out_channels) == (4, 4, 6)
    save(model, path, CONV, host=host)
    loaded = load(path, host=host)
    assert str(loaded) == str(model)
    assert equal(loaded, model)
    assert all(p.requires_grad for p in loaded.parameters())
    expected = Architecture(CONV.name, CONV.config, CONV.input_shape, CONV.classes, edited=True)
    assert architecture_of(path) == expected


def test_a_narrower_config_needs_no_edits(make: Make, host: Host, tmp_path: Path) -> None:
    narrow = Architecture(CONV.name, {"channels": [4, 6]}, CONV.input_shape, CONV.classes)
    model = pruned(make(CONV), CONV.input_shape)
    save(model, tmp_path / "a.safetensors", narrow, host=host)
    save(model, tmp_path / "b.safetensors", CONV, host=host)
    assert read_header(tmp_path / "a.safetensors").manifest.edits == ()
    assert architecture_of(tmp_path / "a.safetensors") == narrow
    assert len(read_header(tmp_path / "b.safetensors").manifest.edits) == 6
    assert equal(load(tmp_path / "a.safetensors", host=host), load(tmp_path / "b.safetensors", host=host))


def test_a_loaded_model_can_be_pruned_trained_and_saved_again(make: Make, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(make(CONV), path, CONV, host=host)
    model = pruned(load(path, host=host).train(), CONV.input_shape, 0.25)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model(torch.rand(4, *CONV.input_shape)).sum().backward()
    optimizer.step()
    save(model, path, architecture_of(path), host=host)
    model = pruned(load(path, host=host), CONV.input_shape, 0.25)
    save(model, path, architecture_of(path), host=host)
    assert equal(load(path, host=host), model)


def test_tied_weights_are_stored_once_and_tied_again(make: Make, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(make(TIED), path, TIED, host=host)
    assert list(load_file(path)) == ["embed.weight"]
    loaded = load(path, host=host)
    assert loaded.head.weight is loaded.embed.weight


def test_weights_tied_after_building_and_untied_ones_stay_so(make: Make, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    untied = make(TIED)
    untied.head.weight = nn.Parameter(torch.rand(9, 6))
    save(untied, path, TIED, host=host)
    loaded = load(path, host=host)
    assert loaded.head.weight is not loaded.embed.weight
    assert equal(loaded, untied)
    square = Architecture(MLP.name, {"hidden": [16, 16]}, (16,), 5)
    tied = make(square)
    tied[3].weight = tied[1].weight
    save(tied, path, square, host=host)
    assert (loaded := load(path, host=host))[3].weight is loaded[1].weight
    assert load_file(path).keys() == {"1.weight", "1.bias", "3.bias", "5.weight", "5.bias"}


def test_attributes_buffers_and_gradients_are_restored(make: Make, host: Host, tmp_path: Path) -> None:
    model, path = make(HEADS), tmp_path / "m.safetensors"
    model.num_heads, model.window, model.slope = 4, (3, 1), 0.0
    model.mix.requires_grad_(False)
    save(model, path, HEADS, host=host)
    loaded = load(path, host=host)
    assert (loaded.num_heads, loaded.window, loaded.slope, type(loaded.window)) == (4, (3, 1), 0.0, tuple)
    assert loaded.steps.item() == 3
    assert same_bits(loaded.positions, model.positions)
    assert {n for n, p in loaded.named_parameters() if not p.requires_grad} == {"scale"}  # as it is built
    assert not any(m.training for m in loaded.modules())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("architecture", [CONV, HEADS], ids=lambda a: a.name)
def test_other_floating_types(
    dtype: torch.dtype, architecture: Architecture, make: Make, host: Host, tmp_path: Path
) -> None:
    model, path = make(architecture).to(dtype), tmp_path / "m.safetensors"
    save(model, path, architecture, host=host)
    loaded = load(path, host=host)
    assert equal(loaded, model)
    assert {p.dtype for p in loaded.parameters()} == {dtype}
    assert all(a.dtype == b.dtype for a, b in zip(loaded.buffers(), model.buffers(), strict=True))


def test_a_diverged_model_can_be_saved(make: Make, host: Host, tmp_path: Path) -> None:
    model, path = make(MLP), tmp_path / "m.safetensors"
    with torch.no_grad():
        model[1].weight[0, 0] = float("nan")
        model[5].bias[1] = float("inf")
    save(model, path, MLP, host=host)
    assert equal(load(path, host=host), model)


def test_views_and_channels_last_tensors(host: Host, tmp_path: Path) -> None:
    wide = Architecture(CONV.name, {"channels": [24, 48]}, (2, 12, 12), 3)  # wide enough for other last bits
    model, path = fresh(wide, 0, host).to(memory_format=torch.channels_last), tmp_path / "m.safetensors"
    block = torch.rand(5, 24)
    model[1].weight.data, model[1].bias.data = block[3], block.T[:, 0]
    model[1].running_mean, model[5].running_mean = block.view(-1)[:24], block.view(-1)[:48]
    save(model, path, wide, host=host)
    loaded = load(path, host=host)
    assert equal(loaded, model)
    assert loaded[1].weight.untyped_storage().nbytes() == 24 * 4
    assert all(p.is_contiguous() for p in loaded.parameters())


def test_tensors_of_every_type_and_none_at_all(host: Host, tmp_path: Path) -> None:
    def net(value: int) -> nn.Module:
        module = nn.Module()
        for number, dtype in enumerate(TYPES):
            bits = torch.full((3, dtype.itemsize), value, dtype=torch.uint8)
            module.register_buffer(f"b{number}", bits.view(dtype) if dtype != torch.bool else bits > 0)
        module.register_buffer("empty", torch.zeros(0, 4))
        module.register_buffer("nothing", torch.zeros(4, 0))
        module.register_buffer("one", torch.tensor(value))
        return module

    save(net(65), tmp_path / "m.safetensors", None, host=host)
    assert equal(load(tmp_path / "m.safetensors", into=net(0), host=host), net(65))


def test_saving_leaves_the_model_and_torchs_random_numbers_alone(
    make: Make, host: Host, tmp_path: Path
) -> None:
    model = make(CONV).train()
    model[1].eval()
    model[0].requires_grad_(False)
    model(torch.rand(2, *CONV.input_shape)).sum().backward()
    pointers = {n: (v.data_ptr(), v._version) for n, v in model.state_dict(keep_vars=True).items()}
    gradients = {n: p.grad for n, p in model.named_parameters()}
    before, random_state = copy.deepcopy(model), torch.get_rng_state()
    save(model, tmp_path / "m.safetensors", CONV, host=host)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert equal(model, before)
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert {n: (v.data_ptr(), v._version) for n, v in model.state_dict(keep_vars=True).items()} == pointers
    assert all(p.grad is gradients[n] for n, p in model.named_parameters())
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]


def test_loading_leaves_torchs_random_numbers_alone(saved: Path, host: Host) -> None:
    random_state = torch.get_rng_state()
    load(saved, host=host)
    fresh(saved, 3, host)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_model_that_would_not_come_back_is_not_published(make: Make, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"precious")
    for name, value in (("mode", "other"), ("_hidden", 5), ("positions", torch.ones(8))):
        model = make(HEADS)
        setattr(model, name, value)
        with pytest.raises(CompressitError, match="would not come back the same") as error:
            save(model, path, HEADS, host=host)
        assert name in str(error.value.hint)
    assert path.read_bytes() == b"precious"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_checkpoint_can_be_read_by_whom_the_umask_says(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    assert saved.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_cannot_be_stored_is_named(make: Make, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model = make(MLP)
    model[1].weight = nn.Parameter(torch.rand(12, 16).to_sparse())
    with pytest.raises(CompressitError, match=r"the tensor '1\.weight' cannot be stored"):
        save(model, path, MLP, host=host)
    with pytest.raises(CompressitError, match=r"'0\.weight' has no values yet"):
        save(nn.Sequential(nn.LazyLinear(3)), path, None, host=host)
    model = make(MLP)
    model[1].bias = None
    with pytest.raises(CompressitError, match=r"not in the file: '1\.bias'"):
        save(model, path, MLP, host=host)
    model = make(MLP)
    model[3] = nn.Linear(5, 8)
    with pytest.raises(CompressitError, match="does not run on an input of shape"):
        save(model, path, MLP, host=host)
    assert not path.exists()


def test_two_processes_write_identical_bytes(make: Make, host: Host, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from compressit.host.plugins import Host\n"
        "from compressit.checkpoint.model import load, save, architecture_of, contract_of\n"
        "host = Host(entry_points=False); host.load_file(Path(sys.argv[1])); path = Path(sys.argv[2])\n"
        "save(load(path, host=host), Path(sys.argv[3]), architecture_of(path), contract_of(path), host,\n"
        "     lineage=[{'b': 1, 'a': 2}], metrics={'y': 0.1, 'x': 1/3})"
    )
    path = tmp_path / "m.safetensors"
    contract = InputSpec((2, 6, 6), "unit", None, None, ("a", "b", "c"))
    save(
        pruned(make(CONV), (2, 6, 6)), path, CONV, contract, host, [{"a": 2, "b": 1}], {"x": 1 / 3, "y": 0.1}
    )
    again = tmp_path / "again.safetensors"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, TINY, path, again], check=True, env=environment)
    assert again.read_bytes() == path.read_bytes()


def test_a_model_without_a_builder_fills_a_given_net(make: Make, host: Host, tmp_path: Path) -> None:
    model, path = pruned(make(CONV), CONV.input_shape), tmp_path / "m.safetensors"
    contract = InputSpec(CONV.input_shape, "unit", None, None, ("a", "b", "c"))
    save(model, path, None, contract, host)
    assert architecture_of(path) is None
    assert contract_of(path) == contract
    with pytest.raises(CompressitError, match="without a registered builder") as error:
        load(path, host=host)
    assert "into=net" in str(error.value.hint)
    net = make(CONV, seed=5)  # of the original width
    assert load(path, into=net, host=host) is net
    assert equal(net, model)
    assert str(net) == str(model)
    with torch.no_grad():
        x = torch.rand(3, *CONV.input_shape)
        assert same_bits(net(x), model(x))


def test_a_given_net_of_other_layers_is_refused(make: Make, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(make(MLP), path, None, host=host)
    with pytest.raises(CompressitError, match=r"does not fit|do not fit"):
        load(path, into=make(CONV), host=host)


def test_a_model_without_builder_or_inputs_still_loads(make: Make, host: Host, tmp_path: Path) -> None:
    model, path = make(HEADS), tmp_path / "m.safetensors"
    model.num_heads = 4
    save(model, path, host=host)
    net = load(path, into=make(HEADS, seed=2), host=host)
    assert net.num_heads == 4
    assert equal(net, model)


def test_a_missing_plugin_is_named_with_its_file(saved: Path) -> None:
    with pytest.raises(CompressitError, match=r"comes from 'tiny_models\.py'") as error:
        load(saved, host=Host(entry_points=False))
    assert str(saved) in str(error.value)
    assert str(TINY.parent).encode() not in saved.read_bytes()
    other = forge.forged(saved, lambda entry: entry["model"].update(owner="nice-nets 1.2"))
    with pytest.raises(CompressitError, match=r"comes from 'nice-nets 1\.2'"):
        load(other, host=Host(entry_points=False))


def test_options_the_builder_refuses(saved: Path, host: Host) -> None:
    for config, message in (
        ({"hidden": "wide"}, r"'tiny\.mlp' refuses hidden"),
        ({"depth": 3}, r"'tiny\.mlp' refuses depth"),
        ({"hidden": [-3]}, "cannot build the model"),
        ({"hidden": [10**15]}, "its network would take"),
    ):
        path = forge.forged(saved, lambda entry, config=config: entry["model"].update(config=config))
        with pytest.raises(CompressitError, match=message):
            load(path, host=host)


def test_a_probe_that_differs_says_how_far(saved: Path, host: Host) -> None:
    values = read_header(saved).manifest.probe.values  # type: ignore[union-attr]
    largest = max(abs(v) for v in values if v is not None)

    def shifted(by: float) -> Path:
        changed = [v + by for v in values if v is not None]
        return forge.forged(saved, lambda entry: entry["probe"].update(values=changed))

    assert equal(load(shifted(1e-5 * largest), host=host), load(saved, host=host))
    with pytest.raises(CompressitError, match=r"off by up to \S+, where \S+ is allowed"):
        load(shifted(0.01 * largest), host=host)
    load(shifted(0.01 * largest), host=host, probe=False)
    absent = forge.forged(saved, lambda entry: entry["probe"].update(values=[None] * len(values)))
    with pytest.raises(CompressitError, match="off by up to inf"):
        load(absent, host=host)
    other = forge.forged(saved, lambda entry: entry["probe"].update(output_shape=[2, 6]))
    with pytest.raises(CompressitError, match="another shape than recorded"):
        load(other, host=host)
    for dtype in ("nn", "load", "float31", "__name__"):
        with pytest.raises(CompressitError, match="unknown type"):
            load(forge.forged(saved, lambda entry, d=dtype: entry["probe"].update(dtype=d)), host=host)


def test_a_builder_that_changed_is_noticed(saved: Path, host: Host, tmp_path: Path) -> None:
    changed = tmp_path / "changed.py"
    changed.write_text(TINY.read_text().replace("nn.ReLU()]", "nn.Tanh()]"))
    other = Host(entry_points=False)
    other.load_file(changed)
    with pytest.raises(CompressitError, match="off by up to"):
        load(saved, host=other)


@pytest.mark.parametrize(
    "edit",
    [
        {"do": "set", "at": "1", "attrs": {"_parameters": None}},
        {"do": "set", "at": "1", "attrs": {"__class__": 1}},
        {"do": "set", "at": "1", "attrs": {"in_features": "os.system"}},
        {"do": "set", "at": "1", "attrs": {"training": True}},
        {"do": "set", "at": "nowhere", "attrs": {"in_features": 1}},
        {"do": "replace", "at": "1", "type": "subprocess.Popen", "args": {"args": "true"}},
        {
            "do": "replace",
            "at": "1",
            "type": "tiny.LowRank",
            "args": {"inputs": 16, "rank": 10**15, "outputs": 2},
        },
        {"do": "replace", "at": "1", "type": "tiny.LowRank", "args": {"evil": 1}},
        {
            "do": "replace",
            "at": "1",
            "type": "tiny.LowRank",
            "args": {"inputs": 16, "rank": 2, "outputs": 12},
        },
    ],
)
def test_forged_edits_are_refused(saved: Path, host: Host, edit: dict[str, Any]) -> None:
    with pytest.raises(CompressitError):
        load(forge.forged(saved, lambda entry: entry.update(edits=[edit])), host=host)


@pytest.mark.parametrize(
    "tied", [["1.bias", "1.bias"], ["1.bias", "9.bias"], ["9.bias", "1.bias"], ["1.bias", "training"]]
)
def test_forged_ties_are_refused(saved: Path, host: Host, tied: list[str]) -> None:
    with pytest.raises(CompressitError, match="fit"):
        load(forge.forged(saved, lambda entry: entry.update(tied=[tied])), host=host)


def test_a_file_cut_anywhere_is_refused(saved: Path, host: Host) -> None:
    content = saved.read_bytes()
    for length in range(0, len(content), max(1, len(content) // 60)):
        saved.write_bytes(content[:length])
        with pytest.raises(CompressitError):
            load(saved, host=host)


def test_changed_bytes_give_an_error_or_the_same_model(saved: Path, host: Host) -> None:
    content, original = saved.read_bytes(), load(saved, host=host)
    draw = random.Random(0)
    refused = 0
    for _ in range(400):
        changed = bytearray(content)
        for _ in range(draw.choice((1, 1, 1, 3))):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        saved.write_bytes(changed)
        refused += not loads_equal(saved, original, host)
    assert refused > 390


def test_forged_descriptions_give_an_error_or_the_same_weights(saved: Path, host: Host) -> None:
    """As above, but whoever changed the description made its digest match."""
    table, entry, data = forge.parts(saved)
    original, draw = load(saved, host=host), random.Random(0)
    odd = [None, True, 0, -1, 2**70, 0.5, "", "a.b", [], [[]], {}, {"a": 1}, [1, 2], "tiny.conv"]
    for _ in range(300):
        forged = copy.deepcopy(entry)
        places = list(_places(forged))
        holder, key = draw.choice(places)
        holder[key] = copy.deepcopy(draw.choice(odd))
        loads_equal(forge.write(saved, table, forged, data), original, host)


def loads_equal(path: Path, original: nn.Module, host: Host) -> bool:
    """Whether a file loads (then as the same model), or is refused (then by its name)."""
    try:
        loaded, refusal = load(path, host=host), None
    except CompressitError as error:
        loaded, refusal = None, str(error)
    assert equal(loaded, original) if loaded is not None else str(path) in str(refusal)
    return loaded is not None


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def test_no_pickle_in_the_file_or_the_code(make: Make, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(make(CONV), path, CONV, host=host)
    header = read_header(path)
    begin = path.read_bytes()[: header.start]
    assert all(32 <= byte < 127 for byte in begin[8:])  # JSON text and nothing else before the tensors
    assert (
        header.start + sum(o[1] - o[0] for o in (t.offsets for t in header.tensors.values()))
        == header.file_bytes
    )


def test_fresh_weights_in_the_same_shape(make: Make, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model = pruned(make(CONV), CONV.input_shape)
    save(model, path, CONV, host=host)
    one, same, other = fresh(path, 1, host), fresh(path, 1, host), fresh(path, 2, host)
    assert equal(one, same)
    assert str(one) == str(model)
    assert {n: v.shape for n, v in one.state_dict().items()} == {
        n: v.shape for n, v in model.state_dict().items()
    }
    for name, value in one.named_parameters():
        assert not same_bits(value, model.get_parameter(name))
        if value.ndim > 1:
            assert not same_bits(value, other.get_parameter(name))
            bound = (value[0].numel()) ** -0.5  # torch's default: uniform within 1/sqrt(fan in)
            assert value.abs().max() <= bound
            if value.numel() > 200:  # wide enough to come close; the builder's wider layer would reach 0.7
                assert value.abs().max() > 0.85 * bound
    assert torch.equal(one[1].running_mean, torch.zeros(4))
    assert torch.equal(one[1].weight, torch.ones(4))
    assert one.training
    assert all(p.requires_grad for p in one.parameters())


def test_fresh_weights_of_parameters_without_a_reset(make: Make, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model = make(HEADS)
    model.scale = nn.Parameter(torch.rand(8), requires_grad=False)
    save(model, path, HEADS, host=host)
    again = fresh(path, 1, host)
    assert torch.equal(again.scale, torch.full((8,), 2.0))
    assert again.steps.item() == 0
    wide = Architecture(HEADS.name, {}, (12,), 4)
    model = make(wide)
    model.scale = nn.Parameter(torch.rand(16), requires_grad=False)  # wider than it is built
    save(model, path, wide, host=host)
    assert architecture_of(path).edited  # type: ignore[union-attr]
    with pytest.raises(CompressitError, match="'scale' cannot get new weights"):
        fresh(path, 1, host)


def test_fresh_weights_of_an_architecture_and_of_tied_ones(make: Make, host: Host, tmp_path: Path) -> None:
    assert equal(fresh(MLP, 4, host), fresh(MLP, 4, host))
    assert not equal(fresh(MLP, 4, host), fresh(MLP, 5, host))
    path = tmp_path / "m.safetensors"
    save(make(TIED), path, TIED, host=host)
    again = fresh(path, 0, host)
    assert again.head.weight is again.embed.weight
    save(make(TIED), path, None, host=host)
    with pytest.raises(CompressitError, match="without a registered builder"):
        fresh(path, 0, host)


def test_a_contract_comes_back(make: Make, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    contract = InputSpec((1, 4, 4), "standard", (0.1307,), (0.3081,), ("0", "1", "2", "3", "4"))
    save(make(MLP), path, MLP, contract, host)
    assert contract_of(path) == contract
    assert contract_of(path) is not contract
    save(make(MLP), path, MLP, None, host)
    assert contract_of(path) is None


def test_the_probe_input_never_changes() -> None:
    x = probe_input((1, 2, 3), torch.float32)
    assert x.shape == (2, 1, 2, 3)
    assert (x.flatten() * 128)[:5].tolist() == [56, -35, -112, -32, -100]
    assert torch.equal(probe_input((1, 2, 3), torch.bfloat16).float(), x)
    assert set(probe_input((50,), torch.int64).unique().tolist()) == {0, 1}


def test_a_builder_that_fails_or_builds_nonsense(host: Host, tmp_path: Path) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text(
        "from compressit.contract.hookspecs import hookimpl\n"
        "from compressit.contract.kinds import Model\n"
        "class Nonsense(Model):\n    name = 'bad.nonsense'\n    def build(self, s, c): return 3\n"
        "class Fails(Model):\n    name = 'bad.fails'\n    def build(self, s, c): return [][1]\n"
        "@hookimpl\ndef compressit_models(): return [Nonsense, Fails]\n"
    )
    broken = Host(entry_points=False)
    broken.load_file(plugin)
    with pytest.raises(CompressitError, match="built a int"):
        checkpoint.build(Architecture("bad.nonsense", {}, (1,), 1), broken)
    with pytest.raises(CompressitError, match="cannot build the model: IndexError"):
        checkpoint.build(Architecture("bad.fails", {}, (1,), 1), broken)
    with pytest.raises(CompressitError, match=r"no model is called 'bad\.absent'"):
        checkpoint.build(Architecture("bad.absent", {}, (1,), 1), broken)
