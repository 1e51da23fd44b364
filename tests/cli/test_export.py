"""`compressit export`: a run's checkpoint for other programs."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import signal
from pathlib import Path

import pytest

from .conftest import Ran
from .sandbox import Sandbox, contents

BLOG = "checkpoints/fake/seed0/blog-02.safetensors"

FILE = """
import compressit
from torch import nn

@compressit.model("file.net")
class Net(nn.Sequential):
    def __init__(self, width: int = 4) -> None:
        super().__init__(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))
"""

SAVE = """
import compressit
from compressit.host.plugins import installed
from pathlib import Path
installed().load_file(Path("my_net.py"))
from compressit.host.live_models import name_of
builder = installed().find("file.net").plugin
net = builder(builder.Config(width=3)).build(compressit.TensorSpec((3,)), 2)
assert name_of(net) == "file.net"
compressit.save(net, "net.safetensors", inputs=(3,), width=3)
"""


def test_a_folder_of_a_runs_checkpoint_has_its_metrics_lineage_and_recipe(
    tiny: Ran, sandbox: Sandbox
) -> None:
    before = contents(tiny.out)
    done = sandbox.run("export", tiny.out / BLOG, "--to", "folder", "--out", "blog", "--compact")
    assert done.out == "blog\n"
    assert done.err == ""
    assert contents(tiny.out) == before
    config = json.loads((sandbox.folder / "blog/config.json").read_text(encoding="utf-8"))
    known = json.loads((tiny.out / "results.json").read_text(encoding="utf-8"))
    metrics = next(row["metrics"] for row in known["rows"] if row["checkpoint"] == BLOG)
    assert config["metrics"] == metrics
    for name in ("parameters", "nonzero", "macs", "bytes"):
        assert config["sizes"][name] == metrics[name], name
    card = (sandbox.folder / "blog/README.md").read_text(encoding="utf-8")
    assert [step["stage"] for step in config["lineage"]] == ["init", "train", "blog-02"]
    assert "| `blog-02` | `shrink.noise` |" in card
    assert f"`{known['recipe']}`, variant `fake`, seed 0" in card
    assert str(tiny.out) not in card


@pytest.mark.extra("onnx")
def test_a_local_file_of_a_registered_model_goes_to_onnx(sandbox: Sandbox) -> None:
    runtime = importlib.import_module("onnxruntime")
    sandbox.write("my_net.py", FILE)
    sandbox.python(SAVE)
    missing = sandbox.run("export", "net.safetensors", "--to", "onnx", code=2)
    assert "it comes from 'my_net.py'" in missing.err
    sandbox.run("export", "net.safetensors", "--to", "onnx", "--plugin", "my_net.py", code=2)  # nobody to ask
    assert not (sandbox.folder / "net.onnx").exists()
    done = sandbox.run("export", "net.safetensors", "--to", "onnx", "--plugin", "my_net.py", "--trust")
    assert (done.out, done.err) == ("net.onnx\n", "")
    session = runtime.InferenceSession((sandbox.folder / "net.onnx").read_bytes())
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("input", ["batch", 3])]


@pytest.mark.extra("onnx")
def test_int8_tells_what_it_costs_and_more_than_max_drop_is_refused_with_exit_code_1(
    tiny: Ran, sandbox: Sandbox
) -> None:
    export = ("export", tiny.out / BLOG, "--to", "onnx", "--int8", "--calibrate", "data.synthetic")
    settings = ("--set", "shape=[1, 8, 8]", "--images", "20", "--out", "blog.onnx")
    refused = sandbox.run(*export, *settings, "--max-drop", "-1", code=1)
    assert re.search(r"test accuracy \d+\.\d\d % in int8, \d+\.\d\d % in float32", refused.out)
    assert "points of its test accuracy, more than the -100 points allowed" in refused.err
    assert not (sandbox.folder / "blog.onnx").exists()
    done = sandbox.run(*export, *settings, "--max-drop", "1")
    assert done.out.endswith("blog.onnx\n")
    session = importlib.import_module("onnxruntime").InferenceSession(sandbox.folder / "blog.onnx")
    assert "int8" in session.get_modelmeta().custom_metadata_map


def test_mistakes_are_told_before_anything_is_loaded(tiny: Ran, sandbox: Sandbox) -> None:
    shutil.copy(tiny.out / BLOG, sandbox.folder / "net.safetensors")
    (sandbox.folder / "mine").mkdir()
    (sandbox.folder / "mine/thesis.txt").write_text("five years")
    before = contents(sandbox.folder)
    for arguments, words in {
        ("--to", "onyx"): "did you mean 'onnx'?",
        ("--to", "onnx", "--out", "net.txt"): "a file name that ends in .onnx",
        ("--to", "torch-export", "--compact"): "--compact only works with --to folder",
        ("--to", "folder", "--out", "mine"): "mine exists, and no export wrote it",
        ("--to", "folder", "--int8", "--calibrate", "data.x"): "--int8 only works with --to onnx",
        ("--to", "onnx", "--int8"): "--int8 needs --calibrate DATA",
        ("--to", "onnx", "--calibrate", "data.x"): "--calibrate needs --int8",
        ("--to", "onnx", "--max-drop", "0.1"): "--max-drop is for --int8",
    }.items():
        assert words in sandbox.light("export", "net.safetensors", *arguments, code=2).err
    sandbox.write("net.safetensors", "no checkpoint")
    assert "net.safetensors" in sandbox.light("export", "net.safetensors", "--to", "folder", code=2).err
    sandbox.light("export", Path("nowhere"), "--to", "folder", code=2)
    assert contents(sandbox.folder).keys() == before.keys()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_export_that_somebody_ends_leaves_what_was_there(sandbox: Sandbox, number: signal.Signals) -> None:
    sandbox.write("my_net.py", FILE)
    sandbox.python(SAVE)
    export = ("export", "net.safetensors", "--to", "folder", "--plugin", "my_net.py", "--trust")
    sandbox.run(*export)
    before = contents(sandbox.folder)
    slow = FILE.replace("        super()", "        time.sleep(1)\n        super()").replace(
        "import c", "import time, c"
    )
    sandbox.write("my_net.py", slow)
    running = sandbox.start(*export)
    running.until(lambda: list(sandbox.folder.glob(".net.*.tmp/model.safetensors")))
    assert running.end(number).code == 128 + number
    running.log.unlink()
    sandbox.write("my_net.py", FILE)
    assert contents(sandbox.folder) == before
