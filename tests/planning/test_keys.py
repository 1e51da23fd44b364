"""What moves a key and what does not: code digests on packages that are edited, facts on whole plans."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny import BASE, PLUGINS, TWINS, plan_of, point, tiny_host

from compressit.errors import CompressitError
from compressit.files.sealed import canonical
from compressit.planning import keys
from compressit.planning.keys import code_digest, code_now, key_of, torch_version

Package = Callable[..., Path]

FILES = {
    "__init__.py": '"""A package."""\n',
    "plugin.py": '''\
"""Words."""
from __future__ import annotations
from typing import TYPE_CHECKING
from keyed_pkg.impl import train
if TYPE_CHECKING:
    from keyed_pkg.report import draw

class Plugin:
    """More words."""
    WIDTH = 3

    def method(self):
        """Even more."""
        from . import lazy  # inside a method, as plugins do
        return train(lazy.number, self.WIDTH)
''',
    "impl.py": """\
from .deep.loop import step
from keyed_pkg import lazy

def train(n, width):
    return step(n) * width
""",
    "lazy.py": "import keyed_pkg.impl  # a circle\nnumber = 1\n",
    "report.py": "def draw():\n    return 'red'\n",
    "unrelated.py": "x = 1\n",
    "deep/__init__.py": "",
    "deep/loop.py": "from .. import lazy\n\ndef step(n):\n    # a comment\n    return n + lazy.number\n",
}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    _forget()
    yield
    _forget()


def _forget() -> None:
    for cached in (keys.code_digest, keys._module):
        cached.cache_clear()
    keys._digests.clear()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Writes the package `keyed_pkg` with some files changed, and forgets what was read before."""
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "keyed_pkg"

    def write(**changes: str) -> Path:
        for name, text in FILES.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(changes.get(path.stem, text))
        _forget()
        return folder

    return write


Edit = Callable[[str, str, str], None]


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edit:
    """Lets digests read another source for a module, as if its file had been edited."""
    real = keys._source_file
    edited: dict[str, Path] = {}
    monkeypatch.setattr(keys, "_source_file", lambda name: edited.get(name) or real(name))

    def edit(module: str, old: str, new: str) -> None:
        file = edited.get(module) or real(module)
        assert file is not None
        text = file.read_text()
        assert old in text, f"{old!r} is no longer in {module}: choose another line"
        edited[module] = tmp_path / "edited" / file.name
        edited[module].parent.mkdir(exist_ok=True)
        edited[module].write_text(text.replace(old, new))
        _forget()

    return edit


def _digest(package: Package, root: str = "keyed_pkg.plugin", **changes: str) -> str:
    package(**changes)
    return code_digest(root)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("plugin", "WIDTH = 3", "WIDTH = 4"),
        ("impl", "* width", "+ width"),
        ("loop", "n + lazy", "n - lazy"),  # two imports away, relative
        ("lazy", "number = 1", "number = 2"),  # imported inside a method
    ],
)
def test_code_counts_wherever_the_plugin_imports_it(
    package: Package, module: str, old: str, new: str
) -> None:
    text = FILES["deep/loop.py"] if module == "loop" else FILES[f"{module}.py"]
    assert old in text
    assert _digest(package, **{module: text.replace(old, new)}) != _digest(package)


@pytest.mark.parametrize(
    "changes",
    [
        {"plugin": FILES["plugin.py"].replace("Words.", "Other words.").replace("More words", "New words")},
        {"plugin": FILES["plugin.py"].replace('        """Even more."""\n', "")},
        {
            "plugin": FILES["plugin.py"].replace(
                "    WIDTH = 3\n", '    WIDTH = 3\n    """What WIDTH is."""\n'
            )
        },
        {"plugin": FILES["plugin.py"].replace("WIDTH = 3", "WIDTH=(3)   # three") + "\n\n\n# the end\n"},
        {"loop": FILES["deep/loop.py"].replace("# a comment", "# another")},
        {"report": "def draw():\n    return 'green'\n"},  # imported for type checking only
        {"plugin": FILES["plugin.py"].replace("import draw", "import draw as d")},
        {"unrelated": "x = 2\n"},
        {
            "plugin": FILES["plugin.py"]
            + "if __import__('typing').TYPE_CHECKING:\n    import keyed_pkg.report\n"
        },
    ],
)
def test_prose_layout_and_what_is_not_run_do_not_count(package: Package, changes: dict[str, str]) -> None:
    assert _digest(package, **changes) == _digest(package)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f(a, b)", "f(a)(b)"),
        ("x = [a, b], c", "x = [a], b, c"),
        ("x = 1", "x = True"),
        ("x = 1", "x = 1.0"),
        ("x = '1'", "x = 1"),
        ("x = None", "x = 'None'"),
        ("def f(*, a, b=1): ...", "def f(*, a=1, b): ..."),
        ("def f(a, /, b): ...", "def f(a, b): ..."),
        ("for x in y: a\nelse: b", "for x in y: a; b"),
        ("if a:\n b\nc", "if a:\n b\n c"),
        ("x = -a ** 2", "x = (-a) ** 2"),
        ("x = f'{a!r}'", "x = f'{a!s}'"),
        ("x = 0x1" + "0" * 5000, "x = 0x2" + "0" * 5000),  # too large to be written in decimal
    ],
)
def test_code_that_computes_something_else_has_another_digest(package: Package, one: str, other: str) -> None:
    assert _digest(package, plugin=one) != _digest(package, plugin=other)


def test_the_else_of_a_type_checking_block_is_code(package: Package) -> None:
    otherwise = "    from keyed_pkg.unrelated import x\n"
    block = "import typing\nif typing.TYPE_CHECKING:\n    import a\nelse:\n" + otherwise
    before = _digest(package, plugin=block)
    assert _digest(package, plugin=block.replace("import a", "import b")) == before
    assert _digest(package, plugin=block, unrelated="x = 2\n") != before


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        (
            "from compressit import Trainer, hookimpl",
            {"compressit.contract.kinds", "compressit.contract.hookspecs"},
        ),
        ("from compressit import config, ModelRef", {"compressit.config"}),
        ("import compressit\nclass A(compressit.Model): pass", {"compressit", "compressit.contract.kinds"}),
        ("import compressit as c\nc.contract.fit(1)", {"compressit", "compressit.contract"}),
        ("import compressit.contract.fit", {"compressit.contract.fit"}),
        (
            "from compressit.contract.fit import fit",
            {"compressit.contract.fit", "compressit.contract.fit.fit"},
        ),
    ],
)
def test_names_of_compressit_lead_to_their_modules(package: Package, code: str, modules: set[str]) -> None:
    package(plugin=code)
    module = keys._current("keyed_pkg.plugin", {})
    assert module is not None
    assert {name for name in module.imports if name.startswith("compressit") and name != "compressit"} >= (
        modules - {"compressit"}
    )


def test_every_module_an_import_of_compressit_leads_to_counts(package: Package, edit: Edit) -> None:
    """A fix in the training loop moves the key of whatever trains, and of nothing else."""
    trains, counts = "from compressit.contract.fit import fit\n", "from compressit.contract import measure\n"
    before = [_digest(package, plugin=text) for text in (trains, counts)]
    edit("compressit.contract.fit_steps", "value = value.detach()", "value = value.detach() * 2")
    assert _digest(package, plugin=trains) != before[0]
    assert _digest(package, plugin=counts) == before[1]
    edit("compressit.contract.measure", "// 2", "// 3")
    assert _digest(package, plugin=counts) != before[1]


def test_a_change_of_the_training_loop_moves_training_keys_and_one_of_the_report_none(edit: Edit) -> None:
    def stages() -> dict[str, str]:
        _forget()
        return {p.name: p.model for p in plan_of(TWINS).points if p.variant == "real"}

    before = stages()
    edit("compressit.results.page", "def render(", "def render_(")
    edit("compressit.contract.results", "SCHEMA = 1", "SCHEMA = 2")
    edit("compressit.errors", "cutoff=0.5", "cutoff=0.6")
    assert stages() == before
    edit("compressit.contract.fit_steps", "value = value.detach()", "value = value.detach() * 2")
    after = stages()
    assert not set(after.values()) & set(before.values())  # these plugins share one file
    edit("compressit.datasets.splits", "randperm(count", "randperm(1 * count")
    assert not set(stages().values()) & set(after.values())


def test_the_streams_that_the_host_draws_from_count_for_first_models_and_stages(edit: Edit) -> None:
    def made() -> set[str]:
        _forget()
        plan = plan_of(TWINS)
        return {job.key for job in plan.jobs.values() if job.kind != "evaluate"}

    before = made()
    edit("compressit.running.job", "is no longer in the store", "went away")
    edit("compressit.running.apply", "changed nothing", "did nothing")
    assert made() == before, "what they say is not what they compute"
    edit("compressit.seeds", "[:8]", "[8:16]")
    after = made()
    assert not after & before
    edit("compressit.running.rng", 'number("student"', 'number("pupil"')
    again = made()
    assert not again & after
    edit("compressit.seeds", "random.seed(number)", "random.seed(number + 1)")
    assert not made() & again


def test_code_as_it_is_now_is_read_again_when_anything_has_changed(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package()
    before = code_digest("keyed_pkg.plugin")
    assert code_now("keyed_pkg.plugin") == before
    (folder / "deep" / "loop.py").write_text(FILES["deep/loop.py"].replace("n + lazy", "n - lazy"))
    assert code_digest("keyed_pkg.plugin") == before, "a plan is of one moment"
    assert code_now("keyed_pkg.plugin") != before
    (folder / "deep" / "loop.py").unlink()
    assert code_now("keyed_pkg.plugin") != before
    (folder / "deep" / "loop.py").write_text(FILES["deep/loop.py"] + "# the end\n")
    assert code_now("keyed_pkg.plugin") == before
    with monkeypatch.context() as patch:
        patch.setattr(
            keys, "_module", lambda *given: pytest.fail(f"nothing has changed, but {given} is read")
        )
        assert code_now("keyed_pkg.plugin") == before


def test_a_name_that_becomes_a_module_counts_from_then_on(package: Package) -> None:
    folder = package(plugin="from .deep import late")
    before = code_now("keyed_pkg.plugin")
    (folder / "deep" / "late.py").write_text("NUMBER = 1\n")
    assert code_now("keyed_pkg.plugin") != before


def test_reading_a_digest_imports_nothing(package: Package) -> None:
    folder = package(
        impl="import torch\nfrom compressit.datasets.splits import InputSpec, Data\nraise SystemExit('ran')\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(folder.parent)!r})\n"
        "from compressit.planning.keys import code_digest\n"
        "code_digest('keyed_pkg.plugin', 'compressit.contract.context')\n"
        "print(*[m for m in ('torch', 'numpy', 'keyed_pkg', 'keyed_pkg.impl') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_module_that_is_no_python_is_named(package: Package) -> None:
    package(impl="def broken(:\n")
    with pytest.raises(CompressitError, match=r"impl\.py:1: this is not valid Python"):
        code_digest("keyed_pkg.plugin")


# A local plugin file


@pytest.fixture
def local(tmp_path: Path) -> Callable[..., str]:
    """The digest of a local plugin file after these edits, with a module `beside` in its folder."""

    def digest(edits: dict[str, str] | None = None, beside: str = "n = 1\n") -> str:
        text = PLUGINS.read_text().replace("import os\n", "import os\nimport beside\n", 1)
        for old, new in (edits or {}).items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "mine.py").write_text(text)
        (tmp_path / "beside.py").write_text(beside)
        host = tiny_host(tmp_path / "mine.py")
        _forget()
        return code_digest(host.find("tiny.train").plugin.__module__)

    return digest


def test_a_local_file_counts_by_its_code_not_by_its_bytes(
    local: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "beside", raising=False)
    before = local()
    assert local({'"""Random dots, 1x2x3 pixels': '"""Dots, 1x2x3 pixels'}) == before
    assert local({"import time\n": "import time  # for the clock\n"}) == before
    assert local({"* 0.3 + y": "* 0.4 + y"}) != before
    assert local(beside="n = 2\n") != before  # a module beside it is part of it
    monkeypatch.delitem(sys.modules, "beside", raising=False)


def test_a_module_beside_it_must_be_the_one_that_is_imported(
    local: Callable[..., str], tmp_path: Path
) -> None:
    """`signal` is Python's own, whatever lies in the recipe's folder."""
    sys.path.insert(0, str(tmp_path))
    try:
        before = local()
        (tmp_path / "signal.py").write_text("x = 1\n")
        assert local() == before
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("beside", None)


@pytest.mark.parametrize(
    "runs",
    ["import importlib; importlib.import_module('beside')", "exec(open(__file__[:-7] + 'beside.py').read())"],
)
def test_what_a_local_file_runs_without_an_import_counts(local: Callable[..., str], runs: str) -> None:
    edits = {"import beside\n": f"{runs}\n"}
    before = local(edits)
    assert local(edits, beside="n = 1  # a number\n") == before
    assert local(edits, beside="n = 2\n") != before
    assert local(edits, beside="n = 1\nfrom compressit.results import statistics\n") != before, (
        "and what that imports"
    )
    assert local(edits) == before


# Facts of a recipe

MORE = BASE + "  rounds: {uses: tiny.shrink, repeat: 3, feed: original}\nevaluate: [tiny.accuracy]\n"


def _models(text: str = MORE, *settings: str) -> dict[str, str]:
    return {p.name: p.model for p in plan_of(text, *settings).points}


@pytest.mark.parametrize(
    ("text", "settings", "moved"),
    [
        (MORE, ["stages.train.with.epochs=5"], "all"),
        (MORE, ["stages.train.with.optimizer.lr=0.02"], "all"),
        (MORE, ["seeds=[1]"], "all"),
        (MORE, ["data.with.labels=random"], "all"),
        (MORE, ["data.with.tone=0.1"], "all"),
        (MORE, ["model.with.hidden=[13]"], "all"),
        (MORE, ["compute.precision=bf16"], "all"),
        (MORE, ["compute.compile=true"], "all"),
        (MORE, ["stages.rounds.with.width=0.6"], "rounds"),
        (MORE.replace("  rounds:", "  steps:"), [], "rounds"),
        (MORE.replace("feed: original", "feed: previous"), [], "rounds"),
        (MORE, ["data.with.augment=[flip]"], "all"),
        (MORE, ["data.with.workers=2"], "none"),
        (MORE, ["compute.device=cpu"], "none"),
        (MORE, ["compute.threads=2"], "none"),
        (MORE, ["stages.rounds.repeat=2"], "none"),
        (MORE, ["stages.train.with.epochs=4"], "none"),  # its default, written out
        (MORE.replace("evaluate: [tiny.accuracy]", "evaluate: [tiny.size, tiny.odd]"), [], "none"),
        (MORE.replace("name: tiny\n", "name: other\ndescription: words\n"), [], "none"),
        (MORE + "variants: {real: {}}\n", [], "none"),
        (MORE + "report: [tiny.report]\n", [], "none"),
    ],
)
def test_what_moves_the_keys_of_models(text: str, settings: list[str], moved: str) -> None:
    before, after = _models(), _models(text, *settings)
    shared = set(before.values()) & set(after.values())
    trained = before["train"] in shared
    assert {"all": not shared, "rounds": shared == {before["train"]}, "none": shared == set(after.values())}[
        moved
    ]
    assert trained == (moved != "all")


def test_rounds_differ_from_each_other() -> None:
    models = _models()
    assert len(set(models.values())) == len(models) == 4


def test_files_count_by_content(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    text = BASE.replace("{uses: tiny.mlp}", "{uses: tiny.mlp, weights: w.safetensors}")
    keys_seen = []
    for value in (0.0, 1.0, 0.0):
        import numpy as np

        shapes = {"1.weight": (12, 6), "1.bias": (12,), "4.weight": (3, 12), "4.bias": (3,)}
        save_file({name: np.full(shape, value) for name, shape in shapes.items()}, tmp_path / "w.safetensors")
        keys_seen.append(point(plan_of(text, folder=tmp_path), "base/seed0/train").model)
    assert keys_seen[0] == keys_seen[2] != keys_seen[1]
    for fresh in ('["1.*", "4.*"]', '["4.*", "1.*"]', '["4.*"]'):
        changed = text.replace("w.safetensors", f"{{file: w.safetensors, fresh: {fresh}}}")
        changed = changed.replace('"1.*"', '"1.bias"')
        keys_seen.append(point(plan_of(changed, folder=tmp_path), "base/seed0/train").model)
    assert keys_seen[3] == keys_seen[4]
    assert len({keys_seen[2], keys_seen[4], keys_seen[5]}) == 3


def _checkpoint(path: Path, seed: int = 0) -> None:
    import torch

    from compressit.checkpoint import model as checkpoint

    host = tiny_host()
    torch.manual_seed(seed)
    architecture = checkpoint.Architecture("tiny.mlp", {"hidden": [4]}, (1, 2, 3), 3)
    checkpoint.save(checkpoint.build(architecture, host), path, architecture, host=host)


@pytest.mark.parametrize(
    "text",
    [
        BASE.replace("{uses: tiny.mlp}", "{from: net.safetensors}"),
        BASE.replace("{uses: tiny.mlp}", "{uses: tiny.mlp, with: {hidden: [4]}, weights: net.safetensors}"),
        BASE + "  shrink: {uses: tiny.shrink, with: {teacher: net.safetensors}}\n",
    ],
    ids=["from", "weights", "reference"],
)
def test_checkpoints_count_by_what_they_compute_not_by_what_is_told_of_them(
    tmp_path: Path, text: str
) -> None:
    from compressit.checkpoint.header import copy_with

    net = tmp_path / "net.safetensors"

    def keys_of_models() -> list[str]:
        return [p.model for p in plan_of(text, folder=tmp_path).points]

    _checkpoint(net)
    before, content = keys_of_models(), net.read_bytes()
    copy_with(net, net, metrics={"accuracy": 0.5}, lineage=[{"stage": "x"}])
    assert net.read_bytes() != content
    assert keys_of_models() == before
    net.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CompressitError, match="digest does not match"):
        keys_of_models()
    _checkpoint(net, seed=1)
    assert keys_of_models()[-1] != before[-1]


def test_the_code_of_a_checkpoints_builder_counts(tmp_path: Path, edit: Edit) -> None:
    _checkpoint(tmp_path / "net.safetensors")
    text = BASE.replace("{uses: tiny.mlp}", "{from: net.safetensors}")
    plan = plan_of(text, folder=tmp_path)
    module = tiny_host().find("tiny.mlp").plugin.__module__
    edit(module, "* 0.3 + y", "* 0.4 + y")
    assert not set(plan.jobs) & set(plan_of(text, folder=tmp_path).jobs)


def test_keys_are_sha256_of_canonical_json() -> None:
    assert canonical({"b": [1, (2,)], "a": "ü"}) == '{"a":"\\u00fc","b":[1,[2]]}'
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1, "b": 3})
    assert len(key_of({})) == 64
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))


def test_torchs_version_is_read_without_its_patch_level() -> None:
    import torch

    assert torch.__version__.startswith(torch_version() + ".")
    assert torch_version().count(".") == 1


def test_code_that_is_nested_too_deep_to_be_written_again_has_a_key_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    digests: set[str] = set()
    for number, first in enumerate("12"):
        name = f"deep_sum_{number}"
        (tmp_path / f"{name}.py").write_text(f"import json\nX = {first} + " + "+ ".join(["1"] * 900) + "\n")
        digests.add(keys.code_now(name))
    assert len(digests) == 2
