from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compressit.contract.context import DataContext
from compressit.datasets.sources import Sources
from compressit.errors import CompressitError
from compressit_plugins.data.mnist1d import Mnist1d, Mnist1dConfig


def load(**options: Any) -> Sources:
    return Mnist1d(Mnist1dConfig(**options)).load(DataContext(Path(), print))


@pytest.mark.extra("mnist1d")
def test_the_examples_are_the_packages_and_global_generators_stay() -> None:
    from mnist1d.data import get_dataset_args, make_dataset

    before = random.getstate(), np.random.get_state()[1].tolist()
    ours = load()
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    theirs = make_dataset(get_dataset_args())
    for (x, y), name in ((ours.train, ""), (ours.test, "_test")):
        assert torch.equal(x[:, 0], torch.from_numpy(theirs[f"x{name}"]).float())
        assert y.tolist() == theirs[f"y{name}"].tolist()
    assert ours.train[0].shape == (4000, *Mnist1d(Mnist1dConfig()).inputs.shape)
    assert float(ours.train[0].min()) < 0, "no pixels: the dataset declares no range"


@pytest.mark.extra("mnist1d")
def test_as_many_examples_as_asked_for_and_another_draw() -> None:
    small = load(train=33, test=14)
    assert (len(small.train[0]), len(small.test[0])) == (33, 14)
    assert not torch.equal(load(train=33, test=14, draw=1).train[0], small.train[0])


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(CompressitError, match=r"mnist1d(.|\n)*pip install 'compressit\[mnist1d\]'"):
        Mnist1d(Mnist1dConfig()).fingerprint()
