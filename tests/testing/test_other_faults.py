"""Everything a check looks at is proven by a plugin that breaks it: evaluators, models, data sets, reports, options."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import Fault, cases, check_found

EVALUATOR = '''
class Broken(Evaluator):
    """A number about a model."""

    name = "broken.variant"
    uses_stage = True
    metrics = {
        name: Metric("neither", "fraction", "one or another number")
        for name in ("share", "parameters", "nonzero", "bytes", "macs")
    }

    def evaluate(self, model, ctx):
        parent = ctx.model(ctx.judged.reference)
        CODE
        return {"share": 0.5}

@hookimpl
def compressit_evaluators():
    return [Broken]
'''
EVALUATORS = cases(
    EVALUATOR,
    ("runs", "it returned list", "return [0.5]"),
    ("runs", "share is 'half', not a number", 'return {"share": "half"}'),
    ("leaves_models", "it changed the model it measured: 0.weight", "model[0].weight[0] = 0"),
    ("leaves_models", "it left on the model it measured: a hook on 0", "model[0].register_forward_hook(print)"),
    ("leaves_models", "it left on the model it measured: the attribute 0.seen", "model[0].seen = 1"),
    ("leaves_models", "it changed a model it asked for: 0.weight", "parent[0].weight[0] = 0"),
    ("restores_modes", "settings of the process changed: threads", "torch.set_num_threads(3)"),
    ("restores_modes", "environment variables changed: BROKEN", 'os.environ["BROKEN"] = "1"'),
    ("restores_modes", "the model it measured is left in another mode, at 1", "model[1].train()"),
    ("restores_modes", "the model it measured is left with another requires_grad", "model.requires_grad_(True)"),
    ("restores_modes", "a model it asked for is left in another mode, at 1", "parent[1].train()"),
    *(
        ("honest_sizes", f"it measured {size} = 3", f'return {{"{size}": 3}}')
        for size in ("parameters", "nonzero", "bytes", "macs")
    ),
)  # fmt: skip

METRIC = '''
class Broken(Evaluator):
    """A number about a model."""

    name = "broken.variant"
    metrics = CODE

    def evaluate(self, model, ctx):
        return {}

@hookimpl
def compressit_evaluators():
    return [Broken]
'''
METRICS = cases(
    METRIC,
    ("metrics_described", "it declares no metric", "{}"),
    ("metrics_described", "cannot be a column", '{"share%": Metric("higher", "fraction", "a number")}'),
    ("metrics_described", "better is 'more'", '{"share": Metric("more", "fraction", "a number")}'),
    ("metrics_described", "share has no unit", '{"share": Metric("higher", " ", "a number")}'),
)  # fmt: skip

MODEL = '''
class NetConfig(Config):
    width: int = Field(8, ge=2, description="units of the hidden layer")

class Net(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.hidden, self.output = nn.Linear(64, width), nn.Linear(width, classes)
        self.slope = nn.Parameter(torch.zeros(()))
        self._secret = torch.rand(())

    def forward(self, x):
        h = self.hidden(x.flatten(1)).relu() * (1 + self.slope)
        FORWARD

class Broken(Model[NetConfig]):
    """A net with a hidden layer."""

    name = "broken.variant"

    def build(self, input_shape, classes):
        if input_shape != (1, 8, 8):
            raise ValueError("only small images")
        return Net(self.config.width, classes)

    def with_width(self, multiplier):
        return NARROWER

@hookimpl
def compressit_models():
    return [Broken]
'''
FORWARDS = cases(
    MODEL,
    ("builds", "(6, 8) in train mode", "return h if self.training else self.output(h)"),
    ("builds", "(6, 8) in eval mode", "return self.output(h) if self.training else h"),
    ("builds", "outputs that are not finite", "return self.output(h) / 0"),
    ("gradients_flow", "gradients are not finite: slope", "return self.output(h) + self.slope.abs().sqrt()"),
    ("saves_and_reloads", "outputs differ by up to",
         "return self.output(h) * (1 + 1e-6 * self._secret * (len(x) > 2))"),
    at="FORWARD", NARROWER="None",
)  # fmt: skip
NARROWER = cases(
    MODEL,
    ("with_width", "gives a dict, not a NetConfig", '{"width": 4}'),
    ("with_width", "greater than or equal to 2", 'self.config.model_copy(update={"width": 1})'),
    at="NARROWER", FORWARD="return self.output(h)",
)  # fmt: skip

DATASET = '''
class Broken(Dataset):
    """Stripes of two classes."""

    name = "broken.variant"
    input_shape = (1, 4, 4)
    classes = 2
    train_size = 40

    def load(self, ctx):
        y = torch.arange(60) % 2
        x = (y.view(60, 1, 1, 1) * torch.linspace(0, 1, 4)).expand(60, 1, 4, 4).clone()
        CODE
        return RawData(x[:40], y[:40], x[40:], y[40:])

    MORE

@hookimpl
def compressit_datasets():
    return [Broken]
'''
LOADED = cases(
    DATASET,
    ("as_declared", "training inputs are (1, 8, 2)", "x = x.reshape(60, 1, 8, 2)"),
    ("as_declared", "training labels go from 0 to 2", "y[7] = 2"),
    ("as_declared", "test labels go from -1 to 1", "y[-1] = -1"),
    ("loads", "test inputs go from -1", "x[-1] = -1"),
    ("loads", "go from nan", "x[7] = torch.nan"),
    MORE="",
)  # fmt: skip
DECLARED = cases(
    DATASET,
    ("as_declared", "it names 1 of 2 classes", 'class_names = ("stripes",)'),
    ("same_twice", "its fingerprint is", "def fingerprint(self): return os.urandom(4).hex()"),
    ("same_twice", "its fingerprint is None", "def fingerprint(self): return None"),
    at="MORE", CODE="",
)  # fmt: skip

REPORT = '''
class Broken(Report):
    """Words."""

    name = "broken.variant"

    CODE

@hookimpl
def compressit_reports():
    return [Broken]
'''
RC = "def figures(self, results):\n    import matplotlib\n    matplotlib.rcParams['lines.linewidth'] = 9\n    return {}"
REPORTS = cases(
    REPORT,
    ("runs", "figures are a list", "def figures(self, results): return []"),
    ("plain_text", "a paragraph is 3", "def paragraphs(self, results): return [3]"),
    ("plain_text", "a paragraph is ' '", "def paragraphs(self, results): return [' ']"),
    ("plain_text", "&nbsp; in it", "def paragraphs(self, results): return ['3&nbsp;s']"),
    ("leaves_pyplot", "settings changed: lines.linewidth", RC),
)  # fmt: skip

OPTIONS = '''
class Inner(Config, CODE):
    bias: bool = Field(True, description="whether there is a bias")

class Outer(Config):
    head: Inner = Field(Inner(), description="the last layer")

class Broken(Model[Outer]):
    """ABOUT"""

    name = "broken.variant"

    def build(self, input_shape, classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

@hookimpl
def compressit_models():
    return [Broken]
'''
STRICT = cases(
    OPTIONS,
    ("options_strict", "Inner can be changed", "frozen=False"),
    ("options_strict", "Inner lets misspelt options pass", 'extra="ignore"'),
    ABOUT="A linear layer.",
)  # fmt: skip
LONG = cases(OPTIONS, ("summary", "has 121 characters", "x" * 121), at="ABOUT", CODE="frozen=True")


@pytest.mark.parametrize(
    "fault", [*EVALUATORS, *METRICS, *FORWARDS, *NARROWER, *LOADED, *DECLARED, *STRICT, *LONG]
)
def test_a_fault_is_found_and_nothing_else(fault: Fault, tmp_path: Path) -> None:
    check_found(fault, tmp_path)


@pytest.mark.parametrize("fault", REPORTS)
def test_a_fault_of_a_report_is_found(fault: Fault, tmp_path: Path) -> None:
    check_found(fault, tmp_path, alone=False)  # drawing a page takes seconds
