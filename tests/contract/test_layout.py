from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressit.contract.compute import Compute
from compressit.contract.context import Progress, StageContext
from compressit.contract.fit import fit
from compressit.contract.fit_options import FitConfig, OptimizerConfig
from compressit.contract.layout import runs_channels_last
from compressit.contract.zeros import keeping_zeros
from compressit.datasets.splits import order
from compressit.seeds import Streams

Make = Callable[..., StageContext]

OPTIMIZERS = {
    "sgd": OptimizerConfig(lr=0.05, momentum=0.9),
    "adam": OptimizerConfig(name="adam", lr=0.01),
}


class Flattens(nn.Module):
    """As the net of torch's own first tutorial: `view` refuses to flatten images that lie channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.output = nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(F.relu(self.conv(x)).view(len(x), -1))


class Strided(nn.Module):
    """Reads memory as if it were laid out as usual, so gives other numbers channels last, and no error."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y.as_strided((len(x), 3), (y[0].numel(), 1))


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 16, 3))


def _images(device: str = "cpu") -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(20, 3, 8, 8, generator=generator).to(device), (torch.arange(20) % 3).to(device)


def _seen(net: nn.Module) -> list[bool]:
    """Fills with whether each batch that the net's second layer gets lies channels last, as conv gives it on."""
    found: list[bool] = []

    class Looks(nn.Identity):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            found.append(input.is_contiguous(memory_format=torch.channels_last))
            return input

    net.insert(1, Looks())  # type: ignore[operator]
    return found


def _fit(ctx: StageContext, net: nn.Module, optimizer: str = "sgd", epochs: int = 3) -> nn.Module:
    config = FitConfig(epochs=epochs, batch_size=5, optimizer=OPTIMIZERS[optimizer])
    return fit(net, ctx, config, lambda epoch: _images(ctx.compute.device), F.cross_entropy)


def _by_hand(net: nn.Module, device: str) -> nn.Module:
    net.to(device).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, fused=True)
    x, y = _images(device)
    for epoch in range(3):
        for index in order(20, Streams(0, "train"), epoch).to(device).split(5):
            optimizer.zero_grad()
            F.cross_entropy(net(x[index]), y[index]).backward()
            optimizer.step()
    return net.eval()


def test_a_net_of_convolutions_is_trained_channels_last_and_given_back_as_usual(
    make_context: Make, device: str
) -> None:
    net = _net()
    seen = _seen(net)
    trained = _fit(make_context(compute=Compute(device)), net)
    assert all(seen[-12:])
    assert all(value.is_contiguous() for value in trained.state_dict().values())
    assert trained[0].weight.stride() == (27, 9, 3, 1)  # type: ignore[index]
    plain = _by_hand(_net(), device).state_dict().values()
    ours = [value for name, value in trained.state_dict().items()]
    for value, wanted in zip(ours, plain, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [Flattens, Strided])
def test_a_net_that_does_not_compute_the_same_channels_last_is_trained_as_usual(
    make_context: Make, kind: type[nn.Module], device: str
) -> None:
    torch.manual_seed(0)
    net = kind()
    trained = _fit(make_context(compute=Compute(device)), net)
    torch.manual_seed(0)
    plain = _by_hand(kind(), device).state_dict()
    assert all(torch.equal(value, plain[name]) for name, value in trained.state_dict().items())
    x, _ = _images(device)
    with torch.no_grad():
        assert torch.equal(Compute(device).forward(trained, x), trained(x))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_training_ends_with_the_bits_of_one_never_stopped(
    make_context: Make, optimizer: str, device: str
) -> None:
    class Killed(Exception):
        pass

    class Dies(Progress):
        state: tuple[dict[str, Tensor], dict[str, Any]] | None = None

        def due(self) -> bool:
            return True

        def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
            return self.state

        def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
            # as a store: contiguous copies, whatever the layout was
            copies = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
            self.state = copies, dict(facts)
            raise Killed

    compute = Compute(device)
    whole = _fit(make_context(compute=compute), _net(), optimizer).state_dict()
    progress = Dies()
    with pytest.raises(Killed):
        _fit(make_context(compute=compute, progress=progress), _net(), optimizer)
    progress.due = lambda: False  # type: ignore[method-assign]
    resumed = _fit(make_context(compute=compute, progress=progress), _net(), optimizer)
    assert all(torch.equal(value, whole[name]) for name, value in resumed.state_dict().items())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pruned_weights_stay_zero(make_context: Make, optimizer: str, device: str) -> None:
    ctx, net = make_context(compute=Compute(device)), _net()
    with torch.no_grad():
        net[0].weight[:, 1] = 0
        net[3].weight[::2, :, 1:] = 0
    before = {name: value.detach() == 0 for name, value in net.named_parameters() if value.ndim == 4}
    with keeping_zeros(net, ctx) as zeros:
        _fit(ctx, net, optimizer)
    assert zeros == sum(int(mask.sum()) for mask in before.values()) > 0
    for name, mask in before.items():
        assert torch.equal(dict(net.named_parameters())[name].detach().cpu() == 0, mask)


def test_outputs_are_laid_out_as_usual_and_the_net_is_left_alone(device: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 2, 3)).to(device)
    seen, (x, _) = _seen(net), _images(device)
    before = {name: (value.clone(), value.stride()) for name, value in net.state_dict().items()}
    with torch.no_grad():
        wanted = net.eval()(x)
    seen.clear()
    got = Compute(device).forward(net, x, 7)
    assert all(seen[-3:])
    assert got.is_contiguous()
    torch.testing.assert_close(got, wanted)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name][0])
        assert value.stride() == before[name][1]


def test_hooks_see_only_the_batches_they_were_set_for() -> None:
    net, (x, _) = _net(), _images()
    sizes: list[int] = []
    net[0].register_forward_hook(lambda layer, given, output: sizes.append(len(output)))
    Compute().forward(net, x, 8)
    assert sizes == [8, 8, 4]


def test_nets_without_images_or_convolutions_are_not_tried() -> None:
    class Counts(nn.Linear):
        calls = 0

        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            Counts.calls += 1
            return super().forward(input)

    Compute().forward(nn.Sequential(nn.Flatten(), Counts(192, 3)), _images()[0], 10)
    assert Counts.calls == 2
    assert not runs_channels_last(nn.Sequential(nn.Conv1d(3, 4, 3)), torch.zeros(2, 3, 8))
    assert runs_channels_last(_net(), torch.zeros(2, 3, 8, 8))


def test_trying_draws_no_random_number() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.Flatten())
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    assert runs_channels_last(net, torch.zeros(2, 3, 8, 8))
    assert torch.equal(torch.random.get_rng_state(), before)


class _Mixed(nn.Module):
    """Takes images (N, 3, 8, 8) and ids (N, 4) of 20."""

    def __init__(self, flatten: nn.Module) -> None:
        super().__init__()
        self.conv, self.flatten = nn.Conv2d(3, 4, 3), flatten
        self.words, self.output = nn.Embedding(20, 4), nn.Linear(148, 2)

    def forward(self, image: Tensor, ids: Tensor) -> Tensor:
        return self.output(torch.cat([self.flatten(self.conv(image)), self.words(ids).mean(1)], 1))


class _View(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1)


def test_images_beside_other_inputs_go_channels_last_and_answer_the_same():
    net = _Mixed(nn.Flatten())
    x = {"ids": torch.randint(0, 20, (5, 4)), "image": torch.rand(5, 3, 8, 8)}
    assert runs_channels_last(net, x)
    assert not runs_channels_last(_Mixed(_View()), x)
    with torch.no_grad():
        torch.testing.assert_close(Compute().forward(net, x), net(**x))
    precise = Compute(precision="fp64")
    assert precise.forward(precise.placed(net), x).dtype == torch.float64
