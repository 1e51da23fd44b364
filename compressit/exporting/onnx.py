"""ONNX export: the file of a checkpoint, checked by running it in onnxruntime."""

from __future__ import annotations

from pathlib import Path

from compressit.checkpoint.model import contract_of, task_of
from compressit.exporting.onnxnet import OnnxNet
from compressit.exporting.subject import Subject
from compressit.files.writing import replace


def write(subject: Subject, target: Path) -> None:
    """Writes one `.onnx` file with weights, whose inputs take any batch size, and metadata (`onnxnet.described`).

    Raises CompressitError as `OnnxNet.of`, and for other outputs in onnxruntime.
    """
    replace(target, converted(subject).content)


def converted(subject: Subject) -> OnnxNet:
    """The checkpoint's net as ONNX, which gives the model's outputs. Raises CompressitError."""
    digest = {"tensors_sha256": subject.header.manifest.tensors_sha256}
    contract, task = contract_of(subject.path), task_of(subject.path)
    net = OnnxNet.of(subject.model, subject.inputs, contract, task, digest)
    subject.check(net, "the ONNX model")
    return net
