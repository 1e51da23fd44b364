"""`check` and `plan` import every built-in and make its options: that must not cost an import of torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

BUILT_IN = {"data": ["mnist", "fashion_mnist", "cifar10", "cifar100", "synthetic"],
            "models": ["mlp", "convnet", "lenet300", "lenet5", "cifar_resnet", "vgg_cifar", "torchvision_nets",
                       "timm_nets"],
            "train": ["supervised", "distill"], "shrink": ["fresh", "noise"],
            "prune": ["magnitude", "structured", "depth"], "distill": ["soft_labels"],
            "evaluate": ["accuracy", "size", "latency", "fidelity", "forgotten", "calibration",
                         "robustness", "sensitivity"], "observe": ["tensorboard"]}  # fmt: skip
MODULES = [f"{folder}.{name}" for folder, names in BUILT_IN.items() for name in names]


@pytest.mark.parametrize("module", MODULES)
def test_checking_and_planning_import_no_torch(module: str) -> None:
    code = f"""
import sys
import compressit_plugins.{module} as module
from compressit.contract.kinds import Compressor, Dataset, Model, Plugin, Trainer
classes = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Plugin)]
plugins = [v for v in classes if hasattr(v, "name")]
assert len(plugins) == 1, plugins
plugin = plugins[0](plugins[0].Config(**plugins[0].example))
if isinstance(plugin, Dataset):
    plugin.fingerprint(), plugin.inputs, plugin.classes, plugin.class_names, plugin.train_size
elif isinstance(plugin, Model):
    plugin.with_width(0.5)
elif isinstance(plugin, Trainer):
    assert plugin.work(1000)
elif isinstance(plugin, Compressor):
    assert plugin.work(1000, 1)
bad = {{"torch", "numpy", "matplotlib", "torchvision"}} & set(sys.modules)
assert not bad, bad
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
