from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compressit.contract.compute import INPUT_BYTES, Compute, host_facts, precision_of, set_threads
from compressit.datasets.pixels import Pixels
from compressit.datasets.splits import InMemory
from compressit.errors import CompressitError
from compressit.seeds import Streams


def _net(device: str = "cpu") -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)).to(
        device
    )


def test_without_cuda_auto_is_the_cpu_and_cuda_an_error_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Compute.select("cpu") == Compute.select("auto") == Compute("cpu", "fp32", False)
    with pytest.raises(CompressitError, match=r"compute\.device is 'cuda'.*no CUDA device") as caught:
        Compute.select("cuda")
    assert "auto" in str(caught.value.hint)


@pytest.mark.parametrize("options", [{"device": "cuda:1"}, {"device": "gpu"}, {"precision": "fp16"}])
def test_an_unknown_device_or_precision_is_not_quietly_another(options: dict[str, str]) -> None:
    with pytest.raises(CompressitError, match=next(iter(options.values()))):
        Compute.select(**options)


def test_forward_is_the_plain_model_in_eval_mode_whatever_the_batches(device: str) -> None:
    model, x = _net(device).train(), torch.randn(11, 6, device=device)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ours = [Compute(device).forward(model, x, batch_size) for batch_size in (1, 4, 11, 100)]
    with torch.no_grad():
        plain = model.eval()(x)
    for outputs in ours:
        assert outputs.shape == (11, 3)
        torch.testing.assert_close(outputs, plain)
    assert torch.equal(ours[-1], plain), "one batch: the very same numbers"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    nn.functional.mse_loss(model(x), ours[0]).backward()
    ours[0].add_(1)  # can be a loss's targets, and written to


def test_a_split_is_answered_as_its_tensors_are_wherever_they_are_kept(device: str) -> None:
    model, y = _net(device), torch.zeros(11, dtype=torch.int64, device=device)
    x = torch.randint(0, 256, (11, 6), dtype=torch.uint8, device=device)
    floats = InMemory(x.float() / 255, y, Streams(0))
    as_bytes = InMemory(x, y, Streams(0), Pixels())
    plain = Compute(device).forward(model, floats.x)
    for split in (floats, as_bytes):
        assert torch.equal(Compute(device).forward(model, split), plain)
        torch.testing.assert_close(Compute(device).forward(model, split, 4), plain)


@pytest.mark.parametrize(
    ("shape", "most"),
    [((1, 28, 28), 2048), ((3, 224, 224), INPUT_BYTES // (3 * 224 * 224 * 4)), ((2**25,), 1)],
)
def test_inputs_are_evaluated_in_batches_of_bounded_bytes(shape: tuple[int, ...], most: int) -> None:
    sizes: list[int] = []

    class Counting(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sizes.append(len(x))
            return x.flatten(1)[:, :1]

    count = most + max(1, most // 2) if most > 1 else 2
    x = torch.zeros(1, *shape).expand(count, *shape)
    assert Compute().forward(Counting(), x).shape == (count, 1)
    assert sizes == [most, count - most]


@given(st.lists(st.booleans(), min_size=6, max_size=6), st.booleans())
def test_forward_gives_every_module_back_its_own_mode(modes: list[bool], fails: bool) -> None:
    model = _net()
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    x = torch.randn(5, 7 if fails else 6)
    if fails:
        with pytest.raises(RuntimeError):
            Compute().forward(model, x)
    else:
        Compute().forward(model, x)
    assert [module.training for module in model.modules()] == modes


def test_bf16_computes_in_bf16_and_answers_in_float32(device: str) -> None:
    model, x = nn.Linear(64, 64).to(device), torch.randn(32, 64, device=device)
    seen: list[torch.dtype] = []
    model.register_forward_hook(lambda layer, inputs, outputs: seen.append(outputs.dtype))
    exact = Compute(device).forward(model, x)
    rounded = Compute(device, "bf16").forward(model, x)
    assert seen == [torch.float32, torch.bfloat16]
    assert rounded.dtype == model.weight.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, atol=0.05, rtol=0.05)


def test_threads_are_set_and_recorded() -> None:
    before = torch.get_num_threads()
    try:
        set_threads(1)
        assert host_facts()["threads"] == 1
    finally:
        set_threads(before)
    facts = host_facts()
    assert facts["torch"] == torch.__version__
    assert bool(facts["gpu"]) == torch.cuda.is_available()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")
def test_selecting_cuda_asks_torch_for_repeatable_kernels() -> None:
    compute = Compute.select("auto")
    assert compute.device == "cuda"
    assert torch.are_deterministic_algorithms_enabled()
    x = torch.randn(64, 6, device="cuda")
    assert torch.equal(compute.forward(_net("cuda"), x), compute.forward(_net("cuda"), x))


def test_in_fp64_a_net_and_its_inputs_are_float64_and_so_are_its_outputs() -> None:
    compute, x = Compute(precision="fp64"), torch.randn(11, 6)
    net = compute.placed(_net())
    wanted = _net().double().eval()(x.double()).detach()
    assert torch.equal(compute.forward(net, x, 11), wanted)
    assert torch.equal(
        compute.forward(net, InMemory(x, torch.zeros(11, dtype=torch.int64), Streams(0)), 11), wanted
    )
    assert torch.equal(compute.typed(torch.arange(3)), torch.arange(3))


@pytest.mark.parametrize(
    ("net", "precision"),
    [(_net(), "fp32"), (_net().double(), "fp64"), (_net().bfloat16(), "fp32"), (nn.Flatten(), "fp32")],
)
def test_only_a_net_of_float64_runs_in_fp64_by_itself(net: nn.Module, precision: str) -> None:
    assert precision_of(net) == precision
