"""What goes through an ONNX graph: the range, the distribution and the channels' means of each float tensor.

It is read in two passes, batch by batch, so the memory does not grow with the number of examples. onnxruntime's own
calibrators hold the histograms' inputs of all batches, or stretch the histogram as values grow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

BINS = 2048
_FLOAT = 1  # onnx.TensorProto.FLOAT, which cannot be imported without onnx

Batches = Callable[[], Iterable[Mapping[str, np.ndarray]]]
"""Makes the batches anew: arrays (N, ...) by the inputs' names."""


@dataclass
class Observed:
    """A tensor (N, C, ...) as it was on all examples; zero is always in its range."""

    low: float
    high: float
    mean: np.ndarray  # (C,) of each channel
    counts: np.ndarray  # (BINS,) of values, in equal steps from `low` to `high`

    def span(self, percentile: float) -> tuple[float, float]:
        """The range in which `percentile` per cent of the values lie, with as many above it as below, and zero."""
        shares = np.cumsum(self.counts) / max(self.counts.sum(), 1)
        cut, step = (100 - percentile) / 200, (self.high - self.low) / BINS
        low = self.low + step * np.searchsorted(shares, cut, side="right")
        high = self.low + step * (np.searchsorted(shares, 1 - cut) + 1)
        return (self.low, self.high) if cut == 0 else (min(low, 0.0), max(min(high, self.high), 0.0))


def observed(model: Any, session: Callable[[bytes], Any], batches: Batches) -> dict[str, Observed]:
    """Every float tensor of a graph (`onnx.ModelProto`) by name, its inputs included, over these batches."""
    import onnx

    names, all_of_it = _floats(model), onnx.ModelProto()
    all_of_it.CopyFrom(model)
    given, known = {value.name for value in model.graph.input}, {v.name for v in model.graph.output}
    all_of_it.graph.output.extend(names[name] for name in names if name not in given | known)
    runs = session(all_of_it.SerializeToString())
    outputs = [value.name for value in runs.get_outputs()]

    def seen() -> Iterable[tuple[str, np.ndarray]]:
        for arrays in batches():
            found = {**dict(zip(outputs, runs.run(None, dict(arrays)), strict=True)), **arrays}
            yield from ((name, value) for name, value in found.items() if name in names and value.size)

    tensors: dict[str, Observed] = {}
    counted: dict[str, int] = {}
    for name, value in seen():
        means = value.mean(axis=tuple(i for i in range(value.ndim) if i != 1), dtype=np.float64)
        one = tensors.setdefault(name, Observed(0.0, 0.0, np.zeros(means.shape), np.zeros(BINS)))
        one.low, one.high = min(one.low, float(value.min())), max(one.high, float(value.max()))
        if one.mean.shape == means.shape:  # a tensor of no fixed channels has no use for them
            counted[name] = counted.get(name, 0) + len(value)
            one.mean = one.mean + (means - one.mean) * len(value) / counted[name]
    for name, value in seen():
        one = tensors[name]
        places = (value.ravel() - one.low) * (BINS / max(one.high - one.low, 1e-30))
        one.counts += np.bincount(np.clip(places.astype(np.int64), 0, BINS - 1), minlength=BINS)
    return tensors


def _floats(model: Any) -> dict[str, Any]:
    """The float tensors with a dimension for the batch, by name: inputs, outputs and all between."""
    graph = model.graph
    made = {value.name: value for value in (*graph.value_info, *graph.output, *graph.input)}
    stored = {weights.name for weights in graph.initializer}
    return {
        name: value
        for name, value in made.items()
        if name not in stored
        and value.type.tensor_type.elem_type == _FLOAT
        and len(value.type.tensor_type.shape.dim)
    }
