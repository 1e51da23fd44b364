from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from compressit.contract.kinds import images_after
from compressit.datasets.options import DataConfig
from compressit.datasets.pixels import ALIGNMENT
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Sources
from compressit.datasets.splits import Data, InMemory, order
from compressit.errors import CompressitError
from compressit.seeds import Streams

NAMES = ("a", "b", "c", "d")


def _prepare(raw: Sources, **options: object) -> Data:
    return prepare(raw, DataConfig.model_validate(options), int(raw.train[1].max()) + 1, NAMES)


def _many(count: int, classes: int = 10, test: int = 7) -> Sources:
    """Images that carry their own index, so that it can be seen where each went."""
    index = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1) / count
    return Sources(
        (index, torch.arange(count) % classes), (torch.rand(test, 1, 1, 1), torch.arange(test) % classes)
    )


def test_unit_scale_divides_bytes_by_255_and_keeps_floats(raw: Sources) -> None:
    data = _prepare(raw)
    assert data.train.x.dtype == torch.float32
    assert torch.equal(data.train.x, raw.train[0].float() / 255)
    assert torch.equal(data.test.x, raw.test[0].float() / 255)
    assert data.contract.inputs.shape == (2, 3, 3)
    assert (data.contract.scale, data.contract.mean, data.contract.class_names) == ("unit", None, NAMES)
    halves = Sources((raw.train[0] / 510, raw.train[1]), (raw.test[0] / 510, raw.test[1]))
    assert torch.equal(_prepare(halves).train.x, halves.train[0])


def test_inputs_out_of_a_map_or_an_array_come_into_memory_that_is_aligned_like_torchs() -> None:
    odd = torch.rand(9 * 4 + 1, requires_grad=True)[1:].view(9, 4)
    assert odd.data_ptr() % ALIGNMENT
    data = _prepare(Sources((odd, torch.arange(9) % 4), (odd[2:], torch.arange(7) % 4)))
    for split, loaded in ((data.train, odd), (data.test, odd[2:])):
        assert split.x.data_ptr() % ALIGNMENT == 0
        assert torch.equal(split.x, loaded)
        assert not split.x.requires_grad
    assert torch.rand(5).data_ptr() % ALIGNMENT == 0


@pytest.mark.parametrize("limit", [3, 4, 10, 59, 60])
def test_limit_on_data_in_the_order_of_their_classes_takes_the_first_of_every_class(limit: int) -> None:
    y = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)
    x = torch.arange(60, dtype=torch.float32).view(-1, 1) / 60
    data = _prepare(Sources((x, y), (x, y)), limit=limit)
    kept = (data.train.x[:, 0] * 60).round().long()
    assert len(kept) == limit
    assert torch.equal(kept, kept.sort().values)
    assert torch.equal(data.train.y, y[kept])
    for label, (start, size) in enumerate([(0, 30), (30, 20), (50, 10)]):
        own = kept[y[kept] == label]
        assert torch.equal(own, torch.arange(start, start + len(own)))
        assert len(own) >= 1
        assert abs(len(own) - limit * size / 60) <= 1


@pytest.mark.parametrize("limit", [3, 4, 7, 20])
def test_limit_keeps_the_first_images_where_they_hold_every_class_or_cannot(limit: int) -> None:
    raw = _many(40, classes=4)
    data = _prepare(raw, limit=limit)
    assert torch.equal(data.train.x, raw.train[0][:limit])
    assert torch.equal(data.train.y, raw.train[1][:limit])
    assert len(data.test) == 7


def test_standard_scale_uses_the_training_statistics_per_channel_for_both_splits(raw: Sources) -> None:
    data = _prepare(raw, scale="standard")
    pixels, test = raw.train[0].double().numpy() / 255, raw.test[0].double().numpy() / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    x = data.train.x.double().numpy()
    np.testing.assert_allclose(x.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(x.std((0, 2, 3)), 1, atol=1e-6)
    expected = (test - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(data.test.x.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(data.contract.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(data.contract.std, std, rtol=1e-6)


def test_standard_scale_only_centres_a_channel_that_never_varies() -> None:
    train = torch.cat([torch.rand(30, 1, 2, 2), torch.full((30, 1, 2, 2), 0.3)], 1)
    test = torch.rand(5, 2, 2, 2)
    data = _prepare(Sources((train, torch.zeros(30).long()), (test, torch.zeros(5).long())), scale="standard")
    assert data.train.x[:, 1].abs().max() < 1e-6
    torch.testing.assert_close(data.test.x[:, 1], test[:, 1] - 0.3)


def test_random_labels_are_uniform_independent_and_fixed_by_the_seed() -> None:
    raw = _many(20_000)
    given_y = raw.train[1].clone()
    data = _prepare(raw, labels="random", seed=5)
    counts = torch.bincount(data.train.y, minlength=10).numpy()
    assert stats.chisquare(counts).pvalue > 1e-4
    # Independent of the given label: the same test on every pair of (given, drawn).
    pairs = torch.bincount(given_y * 10 + data.train.y, minlength=100).numpy()
    assert stats.chisquare(pairs).pvalue > 1e-4
    coincide = (data.train.y == given_y).float().mean().item()
    assert coincide == pytest.approx(0.1, abs=4 * (0.09 / 20_000) ** 0.5)
    assert torch.equal(data.train.y, _prepare(raw, labels="random", seed=5).train.y)
    assert not torch.equal(data.train.y, _prepare(raw, labels="random", seed=6).train.y)
    assert torch.equal(raw.train[1], given_y), "the raw labels are shared by the variants"


@pytest.mark.parametrize("labels", ["random", "shuffled"])
@pytest.mark.parametrize("fraction", [0.01, 0.25, 1.0])
def test_exactly_the_asked_fraction_of_labels_is_replaced(labels: str, fraction: float) -> None:
    # With 10,000 classes a redrawn label is rarely the given one: the changed ones can be counted.
    raw = _many(10_000, classes=10_000)
    data = _prepare(raw, labels=labels, label_fraction=fraction)
    changed = int((data.train.y != raw.train[1]).sum())
    assert round(fraction * 10_000) - 10 <= changed <= round(fraction * 10_000)
    assert torch.equal(data.test.y, raw.test[1])
    assert torch.equal(data.train.x, raw.train[0])


@pytest.mark.parametrize("labels", ["random", "shuffled"])
def test_the_data_know_which_training_labels_were_replaced_and_what_they_were(labels: str) -> None:
    raw = _many(200, classes=100)
    data = _prepare(raw, labels=labels, label_fraction=0.3, limit=150, validation=0.2)
    known, index = data.relabelled, (data.train.x.flatten() * 200).round().long()
    assert known is not None
    assert torch.equal(known.given, raw.train[1][index])
    assert torch.equal(data.train.y[~known.replaced], known.given[~known.replaced])
    held = int((data.validation.y != raw.train[1][(data.validation.x.flatten() * 200).round().long()]).sum())
    assert 40 <= int(known.replaced.sum()) + held <= 45, (
        "45 of 150, less those of the validation split drawn again"
    )
    assert int((data.train.y != known.given).sum()) >= int(known.replaced.sum()) - 5
    assert _prepare(raw).relabelled is None


@given(st.integers(1, 60), st.floats(0.01, 1.0), st.integers(0, 5))
def test_shuffled_labels_keep_their_histogram(limit: int, fraction: float, seed: int) -> None:
    raw = _many(60, classes=4)
    data = _prepare(raw, labels="shuffled", limit=limit, label_fraction=fraction, seed=seed)
    assert torch.equal(
        torch.bincount(data.train.y, minlength=4), torch.bincount(raw.train[1][:limit], minlength=4)
    )


def test_shuffled_pixels_are_one_permutation_for_every_image_of_both_splits(raw: Sources) -> None:
    plain, data = _prepare(raw), _prepare(raw, pixels="shuffled", seed=3)
    assert data.train.x.shape == plain.train.x.shape
    before, after = plain.train.x.flatten(1), data.train.x.flatten(1)
    equal = (after.T.unsqueeze(1) == before.T.unsqueeze(0)).all(-1)
    source = equal.int().argmax(1)  # where each pixel came from
    assert sorted(source.tolist()) == list(range(18))
    assert source.tolist() != list(range(18))
    assert torch.equal(data.test.x.flatten(1), plain.test.x.flatten(1)[:, source])
    assert not torch.equal(data.train.x, _prepare(raw, pixels="shuffled", seed=4).train.x)


@pytest.mark.parametrize("scale", ["unit", "standard"])
def test_gaussian_pixels_have_the_pixels_mean_and_deviation_only(scale: str) -> None:
    train = torch.rand(400, 1, 6, 6) ** 3
    raw = Sources((train, torch.arange(400) % 4), (train[:200], torch.arange(200) % 4))
    plain, data = _prepare(raw, scale=scale), _prepare(raw, scale=scale, pixels="gaussian")
    expected = stats.norm(plain.train.x.mean().item(), plain.train.x.std().item())
    for split in (data.train, data.test):
        assert stats.kstest(split.x.flatten().numpy(), expected.cdf).pvalue > 1e-4
        assert abs(np.corrcoef(split.x.flatten(), plain.train.x[: len(split)].flatten())[0, 1]) < 0.05
    assert not torch.equal(data.train.x[:200], data.test.x), "train and test are drawn apart"
    assert torch.equal(data.train.y, raw.train[1])


@given(st.integers(2, 80), st.one_of(st.floats(0.0, 0.99), st.integers(1, 90)), st.integers(0, 9))
def test_validation_is_cut_from_the_training_images_without_overlap(
    count: int, wanted: float, seed: int
) -> None:
    raw = _many(count)
    options = DataConfig(validation=wanted, seed=seed if wanted else 0)
    held = round(wanted * count) if wanted < 1 else int(wanted)
    if held >= count or (wanted and not held):
        with pytest.raises(CompressitError, match="leaves none" if held else "rounds to 0"):
            prepare(raw, options, 10, NAMES)
        return
    data = prepare(raw, options, 10, NAMES)
    kept = (data.train.x.flatten() * count).round().long()
    taken = (data.validation.x.flatten() * count).round().long() if data.validation else kept[:0]
    assert len(taken) == held
    assert len(kept) == images_after(options, count)
    assert sorted([*kept.tolist(), *taken.tolist()]) == list(range(count))
    assert torch.equal(data.train.y, raw.train[1][kept]), "every image keeps its label"
    assert data.validation is None or torch.equal(data.validation.y, raw.train[1][taken])
    assert torch.equal(data.test.x, raw.test[0])


@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=7), st.integers(1, 40), st.integers(0, 9), st.booleans()
)
def test_a_validation_split_and_what_it_leaves_have_every_class_that_both_can_have(
    sizes: list[int], wanted: int, seed: int, in_order: bool
) -> None:
    y = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    if wanted >= len(y):
        return
    y = y if in_order else y[torch.randperm(len(y))]
    x = torch.arange(len(y), dtype=torch.float32).view(-1, 1) / len(y)
    data = prepare(Sources((x, y), (x, y)), DataConfig(validation=wanted, seed=seed), len(sizes), ())
    assert data.validation is not None
    train, held = set(data.train.y.tolist()), set(data.validation.y.tolist())
    assert (len(data.train), len(data.validation)) == (len(y) - wanted, wanted)
    assert sorted(torch.cat([data.train.x, data.validation.x]).flatten().tolist()) == x.flatten().tolist()
    there = {label for label, size in enumerate(sizes) if size}
    several = {label for label, size in enumerate(sizes) if size > 1}
    if len(several) <= wanted <= len(y) - len(there):
        assert train == there
        assert held >= several


def test_a_split_of_balanced_classes_is_the_plain_draw() -> None:
    raw = _many(200, classes=4)
    data = _prepare(raw, validation=40, seed=3)
    drawn = torch.randperm(200, generator=Streams(3).generator("validation"))
    assert data.validation is not None
    assert torch.equal(data.validation.x, raw.train[0][drawn[:40].sort().values])
    assert torch.equal(data.train.x, raw.train[0][drawn[40:].sort().values])
    assert data.doubts == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limit": 3}, ["`limit: 3` keeps fewer", "no training example has 1 of the 4 classes: d"]),
        ({"limit": 41}, ["`limit: 41` is above the number of training examples, 40"]),
        ({"validation": 2}, ["`validation: 2` is 2 of 40", "no validation example has 2 of the 4"]),
        ({"limit": 40, "validation": 4}, []),
    ],
)
def test_what_a_split_lacks_is_told(options: dict[str, object], words: list[str]) -> None:
    doubts = _prepare(_many(40, classes=4), **options).doubts
    assert len(doubts) == len(words)
    assert all(part in doubt for part, doubt in zip(words, doubts, strict=True))


def test_classes_that_a_dataset_skips_and_its_test_split_lacks_are_told() -> None:
    y = torch.tensor([0, 2, 3] * 5)
    x = torch.rand(15, 1)
    data = prepare(Sources((x, y), (x[:2], y[:2])), DataConfig(), 4, NAMES)
    assert [doubt.split(":")[-1] for doubt in data.doubts] == [" b", " b, d"]
    assert ["training" in data.doubts[0], "test" in data.doubts[1]] == [True, True]


@pytest.mark.parametrize(("count", "width"), [(2, 3), (500, 12), (9000, 4)])
def test_statistics_are_numpys_mean_and_covariance(count: int, width: int) -> None:
    x = torch.randn(count, 1, width, 1) * torch.arange(1, width + 1).view(1, 1, -1, 1) + 100
    split = InMemory(x, torch.zeros(count).long(), Streams(0))
    flat = x.flatten(1).double().numpy()
    moments, covariance = split.moments(), split.covariance()
    np.testing.assert_allclose(moments.mean, flat.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, flat.var(0, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(moments.overall(), (flat.mean(), flat.std()), rtol=1e-9)
    np.testing.assert_allclose(covariance.mean, flat.mean(0), rtol=1e-6)
    factor = covariance.factor.double()
    np.testing.assert_allclose(factor.T @ factor, np.cov(flat, rowvar=False), rtol=1e-4, atol=1e-4)
    assert covariance.factor.dtype == covariance.mean.dtype == torch.float32
    assert covariance.count == moments.count == count


@given(st.integers(1, 70), st.integers(1, 80), st.integers(0, 3))
def test_batches_show_every_example_once_with_its_label(count: int, size: int, epoch: int) -> None:
    x = torch.arange(count).float().view(-1, 1)
    batches = list(InMemory(x, torch.arange(count), Streams(1, "s")).batches(size, epoch))
    assert [len(y) for _, y in batches[:-1]] == [size] * (len(batches) - 1)
    assert len(batches[-1][1]) in range(1 if count == 1 or size == 1 else 2, size + 2)
    labels = torch.cat([y for _, y in batches])
    assert torch.equal(torch.cat([x for x, _ in batches]).flatten().long(), labels)
    assert torch.equal(labels.sort().values, torch.arange(count))


def test_the_order_follows_seed_stage_round_and_epoch_only() -> None:
    facts = [(0, "a", None, 0), (0, "a", None, 1), (1, "a", None, 0), (0, "b", None, 0), (0, "a", 1, 0)]
    orders = [order(200, Streams(*f[:3]), f[3]) for f in facts]
    again = [order(200, Streams(*f[:3]), f[3]) for f in facts]
    assert all(torch.equal(a, b) for a, b in zip(orders, again, strict=True))
    assert len({tuple(o.tolist()) for o in orders}) == len(facts)
    split = InMemory(torch.arange(200).float(), torch.arange(200), Streams(0, "a"))
    assert torch.equal(torch.cat([y for _, y in split.batches(7, 1)]), orders[1])


def test_another_stage_shuffles_the_same_tensors_its_own_way(raw: Sources) -> None:
    data = _prepare(raw, validation=10)
    other = data.with_streams(Streams(0, "other"))
    assert other.train.x is data.train.x
    assert other.validation is not None
    assert other.validation.streams == other.test.streams == Streams(0, "other")
    assert not torch.equal(next(other.train.batches(40, 0))[0], next(data.train.batches(40, 0))[0])
    assert _prepare(raw).with_streams(Streams(0, "other")).validation is None


def test_images_held_out_for_validation_take_no_part_in_the_scale(raw: Sources) -> None:
    options = DataConfig(scale="standard", validation=0.25)
    data = prepare(raw, options, 4, NAMES)
    train = data.train.x
    dims = [0, *range(2, train.ndim)]
    assert torch.allclose(train.mean(dims), torch.zeros(train.shape[1]), atol=1e-5)
    assert data.validation is not None
    assert not torch.allclose(data.validation.x.mean(dims), torch.zeros(train.shape[1]), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"train_x": np.zeros((5, 1))}, "the dataset's training inputs are a ndarray, not a tensor"),
        ({"test_y": torch.zeros(5, dtype=torch.complex64)}, "the dataset's test targets are torch.complex64"),
        ({"train_y": torch.tensor(3)}, r"training targets are torch.int64 of shape \(\)"),
        ({"train_y": torch.arange(4)}, "the dataset's training split has 5 inputs and 4 targets"),
        ({"test_x": torch.zeros(5, 1).to(torch.complex64)}, "the dataset's test inputs are torch.complex64"),
        ({"test_x": {"a": torch.rand(5, 1), "b": torch.rand(4, 1)}}, "test split has 4 inputs and 5 targets"),
        ({"test_x": (torch.rand(5, 1), [1])}, "the dataset's test inputs are a list, not a tensor"),
        ({"test_x": ()}, "the dataset's test inputs are a tuple, not a tensor"),
        ({"train_x": torch.rand(5)}, r"training inputs have shape \(5,\)"),
        ({"train_x": torch.rand(5, 1).to_sparse()}, "training inputs are torch.sparse_coo"),
        ({"train_x": torch.nested.nested_tensor([torch.rand(2)] * 5)}, "training inputs are nested"),
        ({"test_x": torch.rand(5, 1, device="meta")}, "test inputs are on the device meta"),
    ],
)
def test_what_a_dataset_loads_is_checked(change: dict[str, object], fault: str) -> None:
    good: dict[str, object] = {
        f"{s}_{n}": v for s in ("train", "test") for n, v in (("x", torch.rand(5, 1)), ("y", torch.arange(5)))
    }

    def sources(of: Mapping[str, Any]) -> Sources:
        return Sources((of["train_x"], of["train_y"]), (of["test_x"], of["test_y"]))

    sources(good)
    with pytest.raises(CompressitError, match=fault):
        sources({**good, **change})


def test_noise_after_one_single_value_is_a_number() -> None:
    y = torch.zeros(1).long()
    data = _prepare(Sources((torch.full((1, 1), 0.25), y), (torch.rand(1, 1), y)), pixels="gaussian")
    assert data.train.x.tolist() == [[0.25]]
