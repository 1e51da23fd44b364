"""Everything a check of stages looks at is proven by a compressor or trainer that breaks that and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import Fault, cases, check_found, filled

COMPRESSOR = '''
def halve(model):
    for weight in model.parameters():
        weight.data.mul_(0.5)
    return model

class Forgetful(nn.Module):
    """A layer of the plugin's own that forgets a number."""

    def __init__(self):
        super().__init__()
        self._forgotten = 1.0

    def forward(self, x):
        return x.relu() * (self._forgotten if len(x) > 2 else 1.0)  # not seen in two images

class Broken(Compressor):
    """Halve the weights."""

    name = "broken.variant"

    def compress(self, model, ctx):
        CODE
        return halve(model)

@hookimpl
def compressit_compressors():
    return [Broken]

@hookimpl
def compressit_module_types():
    return [ModuleType("broken.Forgetful", lambda: Forgetful, lambda layer: {}, lambda args: Forgetful())]
'''
TEACHER = 'teacher = ctx.model("previous")\n'
NET = cases(
    COMPRESSOR,
    ("runs", "it returned nothing, not a model", "return None"),
    ("runs", "it returned a OrderedDict, not a model", "return halve(model).state_dict()"),
    ("runs", "gives outputs (48, 8)", "return nn.Sequential(*halve(model)[:-1])"),
    ("nothing_left", "a hook or parametrization on '4'", "nn.utils.parametrizations.weight_norm(model[4])"),
    ("nothing_left", "a hook on 4.weight", "model[4].weight.register_hook(lambda grad: grad)"),
    (
        "nothing_left", "a hook on 4.bias", "model[4].bias.register_post_accumulate_grad_hook(lambda p: None)"
    ),
    *(
        ("nothing_left", f"a hook on {at}", f"model[{at}].register_{kind}_hook(lambda *args: None)")
        for at, kind in enumerate(
            ("state_dict_pre", "state_dict_post", "load_state_dict_pre", "load_state_dict_post")
        )
    ),
    ("nothing_left", "the gradient of 4.weight", "model(ctx.data.train.x).sum().backward()"),
    ("saves_and_reloads", "no attribute 4.seen", "model[4].seen = torch.zeros(3)"),
    ("saves_and_reloads", "no attribute 4._seen", "model[4]._seen = 1"),
    ("saves_and_reloads", "no attribute 2.forward", "model[2].forward = torch.relu"),
    (
        "saves_and_reloads", "outputs differ by up to", "model[2] = Forgetful()\nmodel[2]._forgotten += 1e-6"
    ),
    *(
        ("honest_sizes", f"it noted {size} = 3", f"ctx.note({size}=3)")
        for size in ("parameters", "nonzero", "bytes", "macs")
    ),
)  # fmt: skip
OTHERS = cases(
    COMPRESSOR,
    ("leaves_models", "it asked for: a hook on 4", TEACHER + "teacher[4].register_forward_hook(print)"),
    ("leaves_models", "it asked for: the attribute 4.mask", TEACHER + "teacher[4].mask = 1"),
    ("leaves_models", "it asked for: the gradient", TEACHER + "teacher[4].bias.grad = torch.zeros(8)"),
    ("leaves_models", "another mode, at 4", TEACHER + "teacher[4].train()"),
    ("leaves_models", "requires_grad: 4.weight", TEACHER + "teacher[4].weight.requires_grad_(True)"),
    ("leaves_data", "train labels", "ctx.data.train.y[0] += 1"),
    ("leaves_data", "validation inputs", "ctx.data.validation.x[0] += 1"),
    ("leaves_data", "test inputs", "ctx.data.test.x[0] += 1"),
)
PROCESS = cases(
    COMPRESSOR,
    *(
        ("restores_modes", says, code)
        for says, code in {
            "gradients (now False)": "torch.set_grad_enabled(False)",
            "default dtype": "torch.set_default_dtype(torch.float64)",
            "threads (now 3)": "torch.set_num_threads(3)",
            "deterministic algorithms": "torch.use_deterministic_algorithms(True)",
            "anomaly detection": "torch.autograd.set_detect_anomaly(True)",
            "fast attention": "torch.backends.mha.set_fastpath_enabled(False)",
            "matmul precision (now medium)": 'torch.set_float32_matmul_precision("medium")',
            "cudnn.benchmark": "torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark",
            "default device (now meta)": 'torch.set_default_device("meta")',
            "working folder": 'os.chdir("/")',
            "environment variables changed: BROKEN": 'os.environ["BROKEN"] = "1"',
            "half in train mode: 4": "model[4].eval()",
            "no longer what it was: 0.weight": "model.requires_grad_(True)",
        }.items()
    ),
)
PROGRESS = """\
saved, first = ctx.progress.load(), 0
if saved is not None:
    model.load_state_dict(saved[0])
    first = saved[1]["epoch"]
for epoch in range(first, 3):
    FORGETS
    if epoch < 2:
        ctx.progress.save(model.state_dict(), {"epoch": epoch + 1})"""
KILLED = cases(
    COMPRESSOR,
    ("resumes", "it notes epochs = 1", PROGRESS.replace("FORGETS", "ctx.note(epochs=3 - first)")),
    ("resumes", "it notes images_seen = 1", PROGRESS.replace("FORGETS", "ctx.note(images_seen=3 - first)")),
    ("resumes", "curves are others: loss", PROGRESS.replace("FORGETS", "ctx.log(epoch, loss=1)")),
)  # fmt: skip
ROUNDS = cases(
    COMPRESSOR,
    ("climbs", "round 1 with `feed: previous` it raises", "1 / (ctx.round != 1)"),
    ("climbs", "round 2 with `feed: previous` it raises", "1 / ((ctx.round, ctx.times()) != (2, 1))"),
    ("climbs", "round 2 with `feed: original` it raises", "1 / (ctx.times() != 2)"),
    ("climbs", "that cannot be saved", "if ctx.round == 2: model[2] = nn.Sequential()"),
)  # fmt: skip


@pytest.mark.parametrize("fault", [*NET, *OTHERS, *PROCESS, *KILLED, *ROUNDS])
def test_a_fault_of_a_compressor_is_found_and_nothing_else(fault: Fault, tmp_path: Path) -> None:
    check_found(fault, tmp_path)


def test_a_round_that_says_why_it_cannot_is_in_order(tmp_path: Path) -> None:
    _check_sound('if ctx.round == 2: raise CompressitError("once is enough")', tmp_path)


def test_what_an_import_sets_once_is_no_fault_of_the_plugin(tmp_path: Path) -> None:
    """Scikit-learn does so; torch's settings are another matter."""
    (tmp_path / "sets_once.py").write_text('import os\nos.environ["SETS_ONCE"] = "1"\n')
    _check_sound(
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport sets_once\nsys.path.pop(0)", tmp_path
    )


def _check_sound(code: str, folder: Path) -> None:
    """Fails unless the kit finds no more in a compressor with this code than that it has no summary."""
    text = filled(COMPRESSOR, CODE=code).replace('"""Halve the weights."""', "")
    check_found(Fault("summary", "no docstring", text), folder)
