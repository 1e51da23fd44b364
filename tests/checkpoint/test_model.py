from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch_pruning
from safetensors.torch import load_file
from tiny import PLUGINS
from torch import nn

from compressit.checkpoint import model as checkpoint
from compressit.checkpoint.header import read_header
from compressit.checkpoint.model import Architecture, architecture_of, contract_of, fresh, load, save
from compressit.checkpoint.probe import probe_input
from compressit.checkpoint.tensors import TYPES, same_bits
from compressit.datasets.specs import TensorSpec
from compressit.datasets.splits import InputSpec
from compressit.errors import CompressitError
from compressit.host.plugins import Host

from . import forge
from .elsewhere import fingerprint, holds_no_code, loaded_elsewhere
from .samples import CONV, HEADS, MLP, TIED, TINY, TOKENS, equal

Make = Callable[..., nn.Module]
Again = Callable[[nn.Module, Architecture], nn.Module]


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
    """Some are saved as an edit of a wider one than they are, or of one with other layers."""
    low_rank = host.module_types()[-1].cls()
    replaced, frozen = make(MLP), make(TOKENS)
    replaced[1], replaced[4] = low_rank(16, 3, 12), low_rank(12, 2, 8)
    frozen.norm.requires_grad_(False)
    cases = {
        "plain": (MLP, make(MLP)),
        "depthwise, batch norm": (CONV, make(replace(CONV, config={"channels": [6, 4]}))),
        "pruned": (CONV, pruned(make(CONV), CONV.inputs.shape)),
        "tied": (TIED, make(TIED)),
        "unsaved buffer": (HEADS, make(HEADS)),
        "attention, layer norm, grouped": (TOKENS, make(replace(TOKENS, config={"width": 12, "heads": 3}))),
        "replaced": (MLP, replaced),
        "frozen": (TOKENS, frozen),
    }
    paths = {case: tmp_path / f"{number}.safetensors" for number, case in enumerate(cases)}
    for case, (architecture, model) in cases.items():
        save(model, paths[case], architecture, host=host)
        assert holds_no_code(paths[case])
    again = dict(zip(cases, loaded_elsewhere(list(paths.values()), [PLUGINS, TINY]), strict=True))
    assert again == {case: fingerprint(model, paths[case]) for case, (_, model) in cases.items()}


def test_attention_and_norms_are_told_their_new_widths(make: Make, host: Host, path: Path) -> None:
    save(make(replace(TOKENS, config={"width": 12, "heads": 3})), path, TOKENS, host=host)
    loaded = load(path, host=host)
    attention, patches = loaded.attention, loaded.patches
    assert (attention.embed_dim, attention.num_heads, attention.head_dim) == (12, 3, 4)
    assert (loaded.norm.normalized_shape, loaded.group_norm.num_channels) == ((12,), 12)
    assert (patches.out_channels, patches.groups, patches.weight.shape[0]) == (12, 2, 12)
    assert "positions" not in read_header(path).tensors
    assert loaded.positions.shape == (9, 1)


def test_a_pruned_model_has_its_shape_and_says_that_it_was_edited(
    make: Make, path: Path, again: Again
) -> None:
    model = pruned(make(CONV), CONV.inputs.shape)
    assert (model[0].out_channels, model[3].groups, model[4].out_channels) == (4, 4, 6)
    loaded = again(model, CONV)
    assert str(loaded) == str(model)
    assert equal(loaded, model)
    assert all(p.requires_grad for p in loaded.parameters())
    expected = Architecture(CONV.name, CONV.config, CONV.inputs.shape, CONV.outputs, edited=True)
    assert architecture_of(path) == expected


def test_a_narrower_config_needs_no_edits(make: Make, host: Host, tmp_path: Path) -> None:
    narrow = Architecture(CONV.name, {"channels": [4, 6]}, CONV.inputs.shape, CONV.outputs)
    model = pruned(make(CONV), CONV.inputs.shape)
    save(model, tmp_path / "a.safetensors", narrow, host=host)
    save(model, tmp_path / "b.safetensors", CONV, host=host)
    assert read_header(tmp_path / "a.safetensors").manifest.edits == ()
    assert architecture_of(tmp_path / "a.safetensors") == narrow
    assert len(read_header(tmp_path / "b.safetensors").manifest.edits) == 6
    assert equal(load(tmp_path / "a.safetensors", host=host), load(tmp_path / "b.safetensors", host=host))


def test_a_loaded_model_can_be_pruned_trained_and_saved_again(make: Make, host: Host, path: Path) -> None:
    save(make(CONV), path, CONV, host=host)
    model = pruned(load(path, host=host).train(), CONV.inputs.shape, 0.25)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model(torch.rand(4, *CONV.inputs.shape)).sum().backward()
    optimizer.step()
    save(model, path, architecture_of(path), host=host)
    model = pruned(load(path, host=host), CONV.inputs.shape, 0.25)
    save(model, path, architecture_of(path), host=host)
    assert equal(load(path, host=host), model)


def test_tied_weights_are_stored_once_and_tied_again(make: Make, host: Host, path: Path) -> None:
    save(make(TIED), path, TIED, host=host)
    assert list(load_file(path)) == ["embed.weight"]
    loaded = load(path, host=host)
    assert loaded.head.weight is loaded.embed.weight


def test_weights_tied_after_building_and_untied_ones_stay_so(
    make: Make, host: Host, path: Path, again: Again
) -> None:
    untied = make(TIED)
    untied.head.weight = nn.Parameter(torch.rand(9, 6))
    loaded = again(untied, TIED)
    assert loaded.head.weight is not loaded.embed.weight
    assert equal(loaded, untied)
    square = Architecture(MLP.name, {"hidden": [16, 16]}, (16,), 5)
    tied = make(square)
    tied[4].weight = tied[1].weight
    save(tied, path, square, host=host)
    assert (loaded := load(path, host=host))[4].weight is loaded[1].weight
    assert load_file(path).keys() == {"1.weight", "1.bias", "4.bias", "7.weight", "7.bias"}


def test_attributes_buffers_and_gradients_are_restored(make: Make, again: Again) -> None:
    model = make(HEADS)
    model.num_heads, model.window, model.slope = 4, (3, 1), 0.0
    model.mix.requires_grad_(False)
    loaded = again(model, HEADS)
    assert (loaded.num_heads, loaded.window, loaded.slope, type(loaded.window)) == (4, (3, 1), 0.0, tuple)
    assert loaded.steps.item() == 3
    assert same_bits(loaded.positions, model.positions)
    assert {n for n, p in loaded.named_parameters() if not p.requires_grad} == {"scale"}  # as it is built
    assert not any(m.training for m in loaded.modules())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("architecture", [CONV, HEADS], ids=lambda a: a.name)
def test_other_floating_types(
    dtype: torch.dtype, architecture: Architecture, make: Make, again: Again
) -> None:
    model = make(architecture).to(dtype)
    loaded = again(model, architecture)
    assert equal(loaded, model)
    assert {p.dtype for p in loaded.parameters()} == {dtype}
    assert all(a.dtype == b.dtype for a, b in zip(loaded.buffers(), model.buffers(), strict=True))


def test_a_diverged_model_can_be_saved(make: Make, host: Host, path: Path) -> None:
    model = make(MLP)
    with torch.no_grad():
        model[1].weight[0, 0] = float("nan")
        model[7].bias[1] = float("inf")
    save(model, path, MLP, host=host)
    assert equal(load(path, host=host), model)


def test_views_and_channels_last_tensors(host: Host, again: Again) -> None:
    wide = Architecture(CONV.name, {"channels": [24, 48]}, (2, 12, 12), 3)  # wide enough for other last bits
    model = fresh(wide, 0, host).to(memory_format=torch.channels_last)
    block = torch.rand(5, 24)
    model[1].weight.data, model[1].bias.data = block[3], block.T[:, 0]
    model[1].running_mean, model[5].running_mean = block.view(-1)[:24], block.view(-1)[:48]
    loaded = again(model, wide)
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


def test_saving_leaves_the_model_and_torchs_random_numbers_alone(make: Make, host: Host, path: Path) -> None:
    model = make(CONV).train()
    model[1].eval()
    model[0].requires_grad_(False)
    model(torch.rand(2, *CONV.inputs.shape)).sum().backward()
    pointers = {n: (v.data_ptr(), v._version) for n, v in model.state_dict(keep_vars=True).items()}
    gradients = {n: p.grad for n, p in model.named_parameters()}
    before, random_state = copy.deepcopy(model), torch.get_rng_state()
    save(model, path, CONV, host=host)
    load(path, host=host)
    fresh(path, 3, host)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert equal(model, before)
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert {n: (v.data_ptr(), v._version) for n, v in model.state_dict(keep_vars=True).items()} == pointers
    assert all(p.grad is gradients[n] for n, p in model.named_parameters())
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]


def test_a_model_that_would_not_come_back_is_not_published(
    make: Make, host: Host, tmp_path: Path, path: Path
) -> None:
    path.write_bytes(b"precious")
    for name, value in (("mode", "other"), ("_hidden", 5), ("positions", torch.ones(8))):
        model = make(HEADS)
        setattr(model, name, value)
        with pytest.raises(CompressitError, match="does not reload exactly") as error:
            save(model, path, HEADS, host=host)
        assert name in str(error.value.hint)
    assert path.read_bytes() == b"precious"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_checkpoint_can_be_read_by_whom_the_umask_says(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    assert saved.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_cannot_be_stored_is_named(make: Make, host: Host, path: Path) -> None:
    model = make(MLP)
    model[1].weight = nn.Parameter(torch.rand(12, 16).to_sparse())
    with pytest.raises(CompressitError, match=r"cannot store the tensor '1\.weight'"):
        save(model, path, MLP, host=host)
    with pytest.raises(CompressitError, match=r"'0\.weight' has no values yet"):
        save(nn.Sequential(nn.LazyLinear(3)), path, None, host=host)
    model = make(MLP)
    model[1].bias = None
    with pytest.raises(CompressitError, match=r"Missing key.* \"1\.bias\""):
        save(model, path, MLP, host=host)
    model = make(MLP)
    model[4] = nn.Linear(5, 8)
    with pytest.raises(CompressitError, match="does not run on inputs of shape"):
        save(model, path, MLP, host=host)
    assert not path.exists()


def test_two_processes_write_identical_bytes(make: Make, host: Host, tmp_path: Path, path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from compressit.host.plugins import Host\n"
        "from compressit.checkpoint.model import load, save, architecture_of, contract_of\n"
        "host = Host(entry_points=False); host.load_file(Path(sys.argv[1])); path = Path(sys.argv[2])\n"
        "save(load(path, host=host), Path(sys.argv[3]), architecture_of(path), contract_of(path), host,\n"
        "     lineage=[{'b': 1, 'a': 2}], metrics={'y': 0.1, 'x': 1/3})"
    )
    contract = InputSpec((2, 6, 6), "unit", None, None, ("a", "b", "c"))
    save(
        pruned(make(CONV), (2, 6, 6)), path, CONV, contract, host, [{"a": 2, "b": 1}], {"x": 1 / 3, "y": 0.1}
    )
    again = tmp_path / "again.safetensors"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, TINY, path, again], check=True, env=environment)
    assert again.read_bytes() == path.read_bytes()


def test_a_model_without_a_builder_fills_a_given_net(make: Make, host: Host, path: Path) -> None:
    model = pruned(make(CONV), CONV.inputs.shape)
    contract = InputSpec(CONV.inputs.shape, "unit", None, None, ("a", "b", "c"))
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
        x = torch.rand(3, *CONV.inputs.shape)
        assert same_bits(net(x), model(x))
    with pytest.raises(CompressitError, match=r"not fit|no tensor"):
        load(path, into=make(MLP), host=host)


def test_a_model_without_builder_or_inputs_still_loads(make: Make, host: Host, path: Path) -> None:
    model = make(HEADS)
    model.num_heads = 4
    save(model, path, host=host)
    net = load(path, into=make(HEADS, seed=2), host=host)
    assert net.num_heads == 4
    assert equal(net, model)


def test_options_the_builder_refuses(saved: Path, host: Host) -> None:
    for config, message in (
        ({"hidden": "wide"}, r"'tiny\.mlp' rejects hidden"),
        ({"depth": 3}, r"'tiny\.mlp' rejects depth"),
        ({"hidden": [-3]}, "cannot build the model"),
        ({"hidden": [10**15]}, "its network would need"),
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
    with pytest.raises(CompressitError, match="differ in shape"):
        load(other, host=host)


def test_a_builder_that_changed_is_noticed(saved: Path, host: Host, tmp_path: Path) -> None:
    changed = tmp_path / "changed.py"
    changed.write_text(PLUGINS.read_text().replace("nn.ReLU(),", "nn.Tanh(),"))
    other = Host(entry_points=False)
    other.load_file(changed)
    with pytest.raises(CompressitError, match="off by up to"):
        load(saved, host=other)


@pytest.mark.parametrize(
    "tied", [["1.bias", "1.bias"], ["1.bias", "9.bias"], ["9.bias", "1.bias"], ["1.bias", "training"]]
)
def test_forged_ties_are_refused(saved: Path, host: Host, tied: list[str]) -> None:
    with pytest.raises(CompressitError, match=r"cannot tie|no tensor"):
        load(forge.forged(saved, lambda entry: entry.update(tied=[tied])), host=host)


def test_fresh_weights_in_the_same_shape(make: Make, host: Host, path: Path) -> None:
    model = pruned(make(CONV), CONV.inputs.shape)
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


def test_fresh_weights_of_parameters_without_a_reset(make: Make, host: Host, path: Path) -> None:
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
    with pytest.raises(CompressitError, match=r"cannot make new weights .* for 'scale'"):
        fresh(path, 1, host)


def test_fresh_weights_of_an_architecture_and_of_tied_ones(make: Make, host: Host, path: Path) -> None:
    assert equal(fresh(MLP, 4, host), fresh(MLP, 4, host))
    assert not equal(fresh(MLP, 4, host), fresh(MLP, 5, host))
    save(make(TIED), path, TIED, host=host)
    again = fresh(path, 0, host)
    assert again.head.weight is again.embed.weight
    save(make(TIED), path, None, host=host)
    with pytest.raises(CompressitError, match="without a registered builder"):
        fresh(path, 0, host)


def test_a_contract_comes_back(make: Make, host: Host, path: Path) -> None:
    contract = InputSpec((1, 4, 4), "standard", (0.1307,), (0.3081,), ("0", "1", "2", "3", "4"))
    save(make(MLP), path, MLP, contract, host)
    assert contract_of(path) == contract
    assert contract_of(path) is not contract
    save(make(MLP), path, MLP, None, host)
    assert contract_of(path) is None


def test_the_probe_input_never_changes() -> None:
    x = probe_input(TensorSpec((1, 2, 3)))
    assert x.shape == (2, 1, 2, 3)
    assert (x.flatten() * 128)[:5].tolist() == [56, -35, -112, -32, -100]
    assert torch.equal(probe_input(TensorSpec((1, 2, 3)), torch.bfloat16).float(), x)
    assert set(probe_input(TensorSpec((50,), "int64", 0, 1)).unique().tolist()) == {0, 1}


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
