from __future__ import annotations

from itertools import product

import torch
from hypothesis import given
from hypothesis import strategies as st

from compressit.seeds import Streams

_TEXT = st.sampled_from(["", "a", "b", "a|b", "a|b|c", "|", "None", "1", '"', '", "', "\\"]) | st.text(
    max_size=8
)
_NUMBER = st.none() | st.integers(0, 20)
_FACTS = st.tuples(st.integers(-5, 20), _TEXT, _TEXT, _NUMBER, _NUMBER)


def _number(seed: int, purpose: str, stage: str, number: int | None, epoch: int | None) -> int:
    return Streams(seed, stage, number).number(purpose, epoch)


@given(_FACTS, _FACTS)
def test_streams_are_equal_only_for_the_same_facts(one: tuple, other: tuple) -> None:
    assert (_number(*one) == _number(*other)) == (one == other)


def test_names_cannot_borrow_from_their_neighbours() -> None:
    assert Streams(0, "b|c").number("a") != Streams(0, "c").number("a|b")
    assert Streams(0, "s", 1).number("p", 2) != Streams(0, "s", 2).number("p", 1)
    assert Streams(0, "s", None).number("p", 1) != Streams(0, "s", 1).number("p", None)
    assert Streams(0, "s").number("p", 0) != Streams(0, "s").number("p", None)


def test_numbers_stay_what_they_are() -> None:
    # Written down once: another number here means that every result in every store is another one.
    assert Streams(0).number("labels") == 7277407348348614537
    assert Streams(7, "blog", 4).number("order", 19) == 1438036160078113420


def test_numbers_are_63_bits_and_use_them() -> None:
    numbers = [_number(s, "order", "train", None, e) for s, e in product(range(8), range(64))]
    assert all(0 <= n < 2**63 for n in numbers)
    assert len({n % 2**32 for n in numbers}) == len(numbers), "a CPU generator keeps the low 32 bits only"
    assert max(numbers) > 2**62


def test_a_generator_repeats_its_stream_and_leaves_torchs_own_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (Streams(3, "s").generator("noise", e) for e in (5, 5, 6))
    draws = [torch.rand(4, generator=g) for g in (first, again, other)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.get_rng_state(), before)
