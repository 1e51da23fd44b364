"""A net in whole numbers: static quantisation of an ONNX net to int8 by onnxruntime (QDQ, a scale per channel).

Three things make it lose less than onnxruntime's defaults do. Weights of the channels are scaled one by one. Ranges of
activations leave out a few of the largest values, as many as suit the net. And biases take up what rounding the weights
adds to the mean of a layer's outputs (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction", section 4.2, with the inputs' means measured on training examples).
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from compressit.contract.cpu import cpu_flags
from compressit.datasets.splits import Split
from compressit.errors import CompressitError
from compressit.exporting.observed import Observed, observed
from compressit.exporting.onnxnet import OnnxNet, session

if TYPE_CHECKING:
    from onnx import ModelProto

PERCENTILES = (100.0, 99.99, 99.9)
"""Of an activation's values that its range may hold."""
_AT_ONCE = 8  # examples: all tensors of a graph are in memory
_SUMS = ("Conv", "Gemm")  # layers with biases


def quantised(net: OnnxNet, train: Split, images: int) -> OnnxNet:
    """The net with weights and activations as int8, for the same inputs and outputs, which stay float32.

    `train`: ranges come from `images` of its examples, evenly spaced. They are chosen by the outputs' error on as many
    others. The metadata say in `int8` what was done. Raises CompressitError for a net that onnxruntime cannot quantise.
    """
    count = min(2 * images, len(train))
    spaced = torch.arange(count) * len(train) // count
    calibrating, choosing = (
        _arrays(net, train, spaced[::2]),
        _arrays(net, train, spaced[1::2] if count > 1 else spaced),
    )
    wanted = [net.run(arrays) for arrays in choosing]
    try:
        plain = _prepared(net.content)
        seen = observed(plain, session, lambda: calibrating)
        corrected = _with_biases(plain, _in_int8(plain, seen, PERCENTILES[0]), seen)
        made = {p: OnnxNet(_in_int8(corrected, seen, p).SerializeToString(), net.inputs) for p in PERCENTILES}
    except CompressitError:
        raise
    except Exception as error:
        raise CompressitError(
            f"onnxruntime cannot quantise the model: {type(error).__name__}: {error}",
            "export it without --int8",
        ) from error
    chosen = min(PERCENTILES, key=lambda p: _error(made[p], choosing, wanted))
    told = {"percentile": chosen, "images": len(spaced[::2]), **_kind()}
    return OnnxNet(_told(made[chosen].content, net.content, told), net.inputs)


def _kind() -> dict[str, Any]:
    """How many bits weights have, and the type of activations: what this CPU computes fast, without overflow.

    x86 adds two products of uint8 and int8 in 16 bits, unless it has VNNI: then weights have 7 bits. ARM multiplies
    int8 with int8. (onnxruntime.quantization.quantize_static, "Choosing parameters for CPU inference")
    """
    flags = cpu_flags()
    if "arm" in flags:
        return {"weight_bits": 8, "activations": "int8"}
    return {"weight_bits": 8 if any("vnni" in flag for flag in flags) else 7, "activations": "uint8"}


def _arrays(net: OnnxNet, split: Split, index: torch.Tensor) -> list[Mapping[str, np.ndarray]]:
    return [net.arrays(x) for x, _ in split.visit(index.to(split.y.device).split(_AT_ONCE))]


def _error(net: OnnxNet, batches: Iterable[Mapping[str, np.ndarray]], wanted: Iterable[list[Any]]) -> float:
    """The squared error of all outputs."""
    return sum(
        float(np.square(one.astype(np.float64) - other).sum())
        for arrays, outputs in zip(batches, wanted, strict=True)
        for one, other in zip(net.run(arrays), outputs, strict=True)
    )


def _prepared(content: bytes) -> ModelProto:
    """The graph with shapes, and with batch norms folded."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "given.onnx", Path(folder) / "made.onnx"
        given.write_bytes(content)
        quant_pre_process(given, made, skip_symbolic_shape=True)
        return onnx.load(made)


def _in_int8(model: ModelProto, seen: Mapping[str, Observed], percentile: float) -> ModelProto:
    """The graph with QuantizeLinear and DequantizeLinear around what onnxruntime computes in int8."""
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    kind, copy = _kind(), onnx.ModelProto()
    copy.CopyFrom(model)
    spans: dict[str, Any] = {name: tuple(map(np.float32, one.span(percentile))) for name, one in seen.items()}
    activations = QuantType.QInt8 if kind["activations"] == "int8" else QuantType.QUInt8
    quantizer = QDQQuantizer(
        copy, True, kind["weight_bits"] == 7, QuantType.QInt8, activations,
        TensorsData(CalibrationMethod.MinMax, spans), [], [], sorted({*QLinearOpsRegistry, *QDQRegistry}), {},
    )  # fmt: skip
    quantizer.quantize_model()
    return quantizer.model.model


def _with_biases(model: ModelProto, rounded: ModelProto, seen: Mapping[str, Observed]) -> ModelProto:
    """The graph with biases less the mean that the rounded weights add: sum over a kernel of (rounded - weight) times
    the mean of the input's channel. Edges of images, where a kernel sees fewer pixels, are not told apart."""
    import onnx
    from onnx import numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stored = {weights.name: weights for weights in copy.graph.initializer}
    used = Counter(name for node in copy.graph.node for name in node.input)
    after = _rounded_weights(rounded)
    for node in copy.graph.node:
        if node.op_type not in _SUMS or len(node.input) != 3:
            continue
        x, weight, bias = node.input
        if weight not in after or bias not in stored or used[bias] > 1 or x not in seen:
            continue
        options = {option.name: onnx.helper.get_attribute_value(option) for option in node.attribute}
        change, mean = after[weight] - numpy_helper.to_array(stored[weight]), seen[x].mean
        if node.op_type == "Conv":
            groups, (outputs, inputs) = options.get("group", 1), change.shape[:2]
            kernels = change.reshape(groups, outputs // groups, inputs, -1).sum(3)
            added = np.einsum("goc,gc->go", kernels, mean.reshape(groups, inputs)).reshape(-1)
        else:
            added = (change if options.get("transB", 0) else change.T) @ mean * options.get("alpha", 1.0)
        before = numpy_helper.to_array(stored[bias])
        if before.shape == added.shape:
            stored[bias].CopyFrom(numpy_helper.from_array((before - added).astype(before.dtype), bias))
    return copy


def _rounded_weights(model: ModelProto) -> dict[str, np.ndarray]:
    """The weights as int8 stands for them, by their names before: int8 values times their scales."""
    from onnx import helper, numpy_helper

    stored = {weights.name: numpy_helper.to_array(weights) for weights in model.graph.initializer}
    found: dict[str, np.ndarray] = {}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        values, scale = (stored.get(name) for name in node.input[:2])
        if values is None or scale is None or values.dtype != np.int8:
            continue
        axis = {option.name: helper.get_attribute_value(option) for option in node.attribute}.get("axis", 1)
        shape = [-1 if at == axis else 1 for at in range(values.ndim)] if scale.ndim else []
        found[node.input[0].removesuffix("_quantized")] = values * scale.reshape(shape)
    return found


def _told(content: bytes, before: bytes, told: Mapping[str, Any]) -> bytes:
    """The quantised file with the metadata of the file it was made of."""
    import onnx

    model, original = onnx.load_from_string(content), onnx.load_from_string(before)
    about = {entry.key: entry.value for entry in original.metadata_props}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**about, "int8": json.dumps(told)})
    return model.SerializeToString()
