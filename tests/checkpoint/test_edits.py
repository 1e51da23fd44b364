from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compressit.checkpoint.edits import apply, diff, snapshot
from compressit.checkpoint.manifest import ReplaceEdit, SetEdit
from compressit.checkpoint.model import build
from compressit.contract.module_types import ModuleType
from compressit.errors import CompressitError
from compressit.host.plugins import Host

from .samples import CONV, HEADS, MLP, TINY


class Numbers(nn.Module):
    """Every kind of attribute, public and not."""

    constant = 4

    def __init__(self) -> None:
        super().__init__()
        self.count = 3
        self.slope = 0.5
        self.flag = False
        self.sizes = (1, 2, (3, 4))
        self.rounds = [1, 2]
        self.shape = torch.Size([2, 3])
        self.nothing = None
        self.text = "a"
        self._private = 1

    @property
    def double(self) -> int:
        return 2 * self.count


NEW: dict[str, Any] = {
    "count": 7,
    "slope": 0.25,
    "flag": True,
    "sizes": (5, 6, (7, None)),
    "rounds": [9],
    "shape": torch.Size([8]),
    "nothing": 2,
    "constant": 5,
}


def test_changed_numbers_come_back_with_their_types_through_json() -> None:
    model = Numbers()
    for name, value in NEW.items():
        setattr(model, name, value)
    (edit,) = diff(Numbers(), model, ())
    again = SetEdit.model_validate_json(edit.model_dump_json())
    fresh = Numbers()
    apply(fresh, [again], ())
    assert {name: getattr(fresh, name) for name in NEW} == NEW
    assert [type(getattr(fresh, name)) for name in NEW] == [type(value) for value in NEW.values()]
    assert type(fresh.sizes[2]) is tuple


def test_an_unchanged_model_has_no_edits(make: Callable[..., nn.Module]) -> None:
    assert diff(make(HEADS), make(HEADS), ()) == []


def test_mode_private_text_and_new_attributes_are_no_edits() -> None:
    model = Numbers().eval()
    model._private, model.text, model.extra = 5, "b", 3  # type: ignore[assignment]
    model.slope = float("nan")
    assert diff(Numbers(), model, ()) == []


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3).map(tuple),
        max_leaves=6,
    )
)
def test_any_number_or_tuple_takes_the_place_of_none(value: Any) -> None:
    model = Numbers()
    model.nothing = value
    fresh = Numbers()
    edits = [SetEdit.model_validate(json.loads(e.model_dump_json())) for e in diff(fresh, model, ())]
    apply(fresh, edits, ())
    assert repr(fresh.nothing) == repr(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("_private", 2), ("__class__", 2), ("_parameters", None), ("training", False), ("not an identifier", 1),
     ("count.real", 1), ("absent", 1), ("text", "b"), ("forward", None), ("double", 6), ("count", True), ("flag", 1),
     ("count", "7"), ("count", [7]), ("count", {"a": 1}), ("sizes", 3), ("sizes", ["a"]), ("sizes", [[[[[[1]]]]]])],
)  # fmt: skip
def test_edits_that_do_not_fit_are_refused(name: str, value: Any) -> None:
    model = nn.Sequential(Numbers())
    before = dict(vars(model[0]))
    with pytest.raises(CompressitError, match="an edit does not fit the model at 0"):
        apply(model, [SetEdit(at="0", attrs={name: value})], ())
    assert vars(model[0]) == before


@pytest.mark.parametrize("at", ["1", "0.0", "forward", "__class__", ".", "0."])
def test_a_path_that_is_no_layer_is_refused(at: str) -> None:
    with pytest.raises(CompressitError, match="no such layer"):
        apply(nn.Sequential(Numbers()), [SetEdit(at=at, attrs={"count": 1})], ())


def test_a_replaced_layer_is_described_and_built_again(host: Host, make: Callable[..., nn.Module]) -> None:
    low_rank = host.module_types()[-1].cls()
    model = make(MLP)
    model[1] = low_rank(16, 3, 12)
    model[1].up.in_features = 3
    edits = diff(make(MLP), model, host.module_types())
    assert edits == [
        ReplaceEdit(at="1", type="tiny.LowRank", args={"inputs": 16, "rank": 3, "outputs": 12}),
    ]
    fresh = make(MLP)
    apply(fresh, edits, host.module_types())
    assert type(fresh[1]) is low_rank
    assert [p.shape for p in fresh.parameters()] == [p.shape for p in model.parameters()]
    model[1].down.out_features = 2
    assert SetEdit(at="1.down", attrs={"out_features": 2}) in diff(make(MLP), model, host.module_types())


def test_layers_that_no_edit_can_make_are_named(make: Callable[..., nn.Module]) -> None:
    class MyLinear(nn.Linear):
        pass

    other, added, removed = make(MLP), make(MLP), make(MLP)
    other[4] = MyLinear(12, 8)
    added[1].extra = nn.ReLU()
    del removed[7]
    for model, message in {
        other: r"no ModuleType is registered for MyLinear at 4",
        added: r"the layer 1\.extra was added",
        removed: r"the layer 7 was removed",
        nn.DataParallel(make(MLP)): "its builder makes a Sequential",
    }.items():
        with pytest.raises(CompressitError, match=message):
            diff(make(MLP), model, ())


def test_a_type_that_is_not_installed_or_lies_is_refused(make: Callable[..., nn.Module]) -> None:
    edit = ReplaceEdit(at="1", type="os.system", args={})
    with pytest.raises(CompressitError, match=r"the module type 'os.system' is not installed"):
        apply(make(MLP), [edit], ())
    liar = ModuleType("os.system", lambda: nn.Bilinear, lambda layer: {}, lambda args: nn.ReLU())
    with pytest.raises(CompressitError, match="built a ReLU"):
        apply(make(MLP), [edit], [liar])
    broken = ModuleType("os.system", lambda: nn.Bilinear, lambda layer: {}, lambda args: nn.Bilinear(**args))
    with pytest.raises(CompressitError, match="cannot build 1: TypeError"):
        apply(make(MLP), [edit], [broken])
    with pytest.raises(CompressitError, match="registered 2 times"):
        apply(make(MLP), [edit], [liar, broken])
    with pytest.raises(CompressitError, match="the model itself cannot be replaced"):
        apply(make(MLP), [ReplaceEdit(at="", type="os.system", args={})], [liar])


def test_a_snapshot_brings_another_net_of_the_same_layers_up_to_date(make: Callable[..., nn.Module]) -> None:
    model = make(CONV)
    model[3].groups = 4
    model[1].eps = 0.125
    other = make(CONV, seed=2)
    apply(other, snapshot(model, ()), ())
    assert (other[3].groups, other[1].eps, other[3].kernel_size) == (4, 0.125, (3, 3))
    assert diff(other, model, ()) == []


def test_two_hosts_that_load_one_file_know_each_others_classes(host: Host) -> None:
    other = Host(entry_points=False)
    other.load_file(TINY)
    assert diff(build(HEADS, host), build(HEADS, other), ()) == []


def test_diff_leaves_both_models_as_they_are(host: Host, make: Callable[..., nn.Module]) -> None:
    fresh, model = make(CONV), make(CONV)
    model[3].groups = 1
    before = copy.deepcopy((fresh, model))
    diff(fresh, model, host.module_types())
    for one, other in zip((fresh, model), before, strict=True):
        assert str(one) == str(other)
        assert all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())
