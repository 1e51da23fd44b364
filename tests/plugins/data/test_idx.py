from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compressit_plugins.data.idx import parse_idx

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@given(hnp.arrays(np.uint8, SHAPES))
def test_reads_back_what_was_written(array: np.ndarray) -> None:
    assert np.array_equal(parse_idx(idx(array), array.ndim).numpy(), array)


@given(hnp.arrays(np.uint8, SHAPES), st.data())
def test_a_file_of_another_length_is_refused(array: np.ndarray, data: st.DataObject) -> None:
    content = idx(array)
    cut = data.draw(st.integers(0, len(content) - 1))
    for wrong in (content[:cut], content + b"\0"):
        with pytest.raises(ValueError, match="IDX"):
            parse_idx(wrong, array.ndim)


@pytest.mark.parametrize("magic", [b"\0\0\x0d\x01", b"\0\0\x08\x02", b"\x1f\x8b\x08\x01"])
def test_another_magic_number_is_refused(magic: bytes) -> None:
    with pytest.raises(ValueError, match=magic.hex()):
        parse_idx(magic + struct.pack(">I", 1) + b"\7", 1)
