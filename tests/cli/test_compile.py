"""`compute: {compile: true}`: torch.compile while training, which changes a setting of the process by itself."""

from __future__ import annotations

import shutil

import pytest

from .recipes import TINY
from .sandbox import Sandbox, rows

SHORT = TINY[: TINY.index("variants:")] + "stages: {train: {uses: train.supervised, with: {epochs: 1}}}\n"


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler here")
def test_a_run_may_compile_its_models(sandbox: Sandbox) -> None:
    sandbox.write("recipe.yaml", SHORT.replace("threads: 1", "threads: 1, compile: true"))
    sandbox.fresh(
        "run", "recipe.yaml", "--out", "out", TORCHINDUCTOR_CACHE_DIR=str(sandbox.folder / "inductor")
    )
    assert [row["stage"] for row in rows(sandbox.folder / "out")] == ["train"]
