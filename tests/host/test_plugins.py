"""What is installed or lies in files is registered, or refused with its place, and one plugin's fault is its own."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compressit.contract.kinds import Compressor, Trainer
from compressit.errors import CompressitError
from compressit.host.plugins import Host, installed
from compressit.recipe.model import LocalPlugin

GOOD = """
    from pydantic import Field
    from compressit.config import Config
    from compressit.contract.hookspecs import hookimpl
    from compressit.contract.kinds import Compressor

    class Options(Config):
        sparsity: float = Field(default=0.5, description="how much")

    class Prune(Compressor[Options]):
        '''Prune a little.'''
        name = "{name}"

        def compress(self, model, ctx):
            return model

    @hookimpl
    def compressit_compressors():
        return [Prune]
"""
TYPES = """
    from compressit.contract.hookspecs import hookimpl

    @hookimpl
    def compressit_module_types():
        return ["{name}"]
"""
DATASET = """
    from compressit.config import Config
    from compressit.contract.hookspecs import hookimpl
    from compressit.contract.kinds import Dataset

    class Data(Dataset):
        name = "data.x"
        Config = Config

    @hookimpl
    def compressit_datasets():
        return [Data]
"""
OBSERVER = """
    from compressit import Observer, hookimpl

    class Diary(Observer):
        name = "observe.x"

        def jobs_finished(self, end):
            pass

    @hookimpl
    def compressit_observers():
        return [Diary]
"""
HOOK = "def compressit_compressors"
# a source, what is said of it, the line with the fault, and what to do
BROKEN = {
    "import": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'", "import", ""),
    "syntax": ("x = 1\ndef f(:", "SyntaxError", "def f", ""),
    "exit": ("import sys; sys.exit('bye')", "SystemExit: bye", "exit", ""),
    "generator-exit": ("raise GeneratorExit('bye')", "GeneratorExit: bye", "raise", ""),
    "group": ("raise BaseExceptionGroup('bye', [SystemExit()])", "BaseExceptionGroup: bye", "raise", ""),
    "no-text": (
        "class Mute(Exception):\n    def __str__(self): raise OSError\nraise Mute",
        "Mute: (its __str__ raises OSError)", "raise Mute", "",
    ),
    "half-a-letter": ("raise RuntimeError('\\ud800\\x00 bye')", r"RuntimeError: \ud800\x00 bye", "raise", ""),
    "misspelt": (
        GOOD.replace(HOOK, "def compressit_compresors"), "no hook is called 'compressit_compresors'",
        "def compressit_compresors", "did you mean 'compressit_compressors'",
    ),
    "signature": (GOOD.replace(f"{HOOK}()", f"{HOOK}(host)"), "host", "", ""),
    "unmarked": (GOOD.replace("@hookimpl", ""), "compressit_compressors lacks its @hookimpl", HOOK, ""),
    "wrong-kind": (
        GOOD.replace(HOOK, "def compressit_trainers"), "is not a Trainer class", "def compressit_trainers", "",
    ),
    "instance": (
        GOOD.replace("[Prune]", "[Prune(Options())]"), "returned an instance of Prune, which is not a Compressor class",
        HOOK, "not instances",
    ),
    "no-list": (
        GOOD.replace("[Prune]", "Prune"), "returned the class Prune, not a list of classes", HOOK, "`return [Mine]`",
    ),
    "no-return": (GOOD.replace("return [Prune]", "[Prune]"), "returned None, not a list", HOOK, "`return [Mine]`"),
    "called": (
        GOOD.replace("[Prune]", "[Prune()]"), "compressit_compressors failed: TypeError", "return [Prune()]",
        "`return [Mine]`",
    ),
    "method": (
        GOOD.replace("def compress(", "def compres("), "Prune has no 'compress'", "class Prune",
        "rename 'compres' to 'compress'",
    ),
    "arguments": (
        GOOD.replace("self, model, ctx", "self, model"), "Prune.compress has the wrong parameters: too many",
        "class Prune", "`def compress(self, model, ctx)`",
    ),
    "more-arguments": (
        GOOD.replace("def compress(", "def work(self, images):\n            pass\n\n        def compress("),
        "Prune.work has the wrong parameters", "class Prune", "`def work(self, images, times)`",
    ),
    "raises": (GOOD.replace("return [Prune]", "raise KeyError('inside')"), "KeyError: 'inside'", "raise", ""),
    "no-hook": (GOOD.split("@hookimpl")[0], "it has no hook: add `@hookimpl def compressit_", "", ""),
    "foreign-config": (
        GOOD.replace("class Options(Config)", "from pydantic import BaseModel\n    class Options(BaseModel)"),
        "Config must derive from compressit.config.Config", "class Prune", "",
    ),
    "deaf": (OBSERVER, "Diary is told of nothing", "class Diary", "rename 'jobs_finished' to 'job_finished'"),
    "data-config": (DATASET, "must derive from compressit.datasets.options.DataConfig", "class Data", ""),
    "no-name": (GOOD.replace('name = "{name}"', "pass"), ".name is None; it must be like", "class Prune", ""),
    "bad-name": (GOOD.replace("{name}", "prune mine"), ".name is 'prune mine'", "class Prune", '"prune.mine"'),
    "three-parts": (GOOD.replace("{name}", "prune.a.b"), ".name is 'prune.a.b'", "class Prune", ""),
    "twice": (
        GOOD.replace("[Prune]", "[Prune, type('P', (Prune,), {})]"), "'prune.x' is the name of two plugins", "", "",
    ),
}  # fmt: skip
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution as a package manager would: a module, and METADATA with entry points."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    modules: list[str] = []

    def install(name: str, source: str, entry: str = "plugin", plugin: str = "prune.x") -> None:
        module = f"fake_{name.replace('-', '_')}"
        modules.append(module)
        (site / f"{module}.py").write_text(_source(source, plugin))
        info = site / f"{name.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[compressit]\n{entry} = {module}\n")

    yield install
    for module in modules:
        sys.modules.pop(module, None)


def _source(source: str, plugin: str = "prune.x") -> str:
    return textwrap.dedent(source.replace("{name}", plugin))


def _file(folder: Path, source: str, plugin: str = "prune.x") -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / f"{folder.name}.py"
    file.write_text(_source(source, plugin))
    return file


def _local(*files: Path) -> Host:
    host = Host(entry_points=False)
    for file in files:
        host.load_file(file)
    return host


def _module_types(host: Host) -> list[Any]:
    """Those of plugins: what the core brings comes first."""
    return host.module_types()[len(Host(entry_points=False).module_types()) :]


# Installed


def test_without_entry_points_the_host_has_the_usual_task_only_and_says_how_to_install() -> None:
    host = Host(entry_points=False)
    assert (host.names(), host.broken) == (["task.classification"], []), "the core brings this one itself"
    with pytest.raises(CompressitError, match=r"no trainer is called 'train\.supervised'") as caught:
        host.find("train.supervised", "trainer")
    assert "pip install" in str(caught.value.hint)


def test_an_installed_plugin_is_found_through_its_entry_point(install: Install) -> None:
    install("my-pruner", GOOD)
    host = Host()
    found = host.find("prune.x", "compressor")
    assert (found.kind, found.owner) == ("compressor", "my-pruner 1.2")
    assert found.plugin.summary() == "Prune a little."
    assert "prune.x" in host.names("compressor", "trainer")
    assert "prune.x" not in [r.plugin.name for r in host.registered("trainer")]
    plugin = host.create(Compressor, "prune.x", {"sparsity": 0.25})
    assert isinstance(plugin, Compressor)
    assert plugin.config.sparsity == 0.25


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_listed_with_its_reason_and_the_rest_works(install: Install, kind: str) -> None:
    source, reason, *_ = BROKEN[kind]
    install("bad-one", TYPES + source if kind == "bad-name" else source, entry="bad")
    install("good-one", GOOD, entry="good", plugin="prune.good")
    host = Host()
    (broken,) = [b for b in host.broken if b.owner == "bad-one 1.2"]
    assert broken.entry == "bad"
    assert reason in broken.reason
    assert "\n" not in broken.reason
    assert kind != "import" or "fake_bad_one.py" in broken.details, "its traceback"
    assert host.find("prune.good").owner == "good-one 1.2"
    assert _module_types(host) == [], "none of its hooks is left behind"
    assert kind == "twice" or "prune.x" not in host.names()


def test_two_owners_of_one_name_are_both_named_and_the_first_kept(install: Install, tmp_path: Path) -> None:
    install("a-first", GOOD, entry="a")
    install("b-second", GOOD, entry="b")
    host, file = Host(), _file(tmp_path, GOOD)
    (broken,) = [b for b in host.broken if b.entry == "b"]
    for words in ("'prune.x'", "a-first 1.2", "b-second 1.2", "fake_a_first.Prune", "fake_b_second.Prune"):
        assert words in broken.reason
    with pytest.raises(CompressitError) as caught:
        host.load_file(file)
    assert "a-first 1.2" in caught.value.message
    assert f"({file})" in caught.value.message
    assert host.find("prune.x").owner == "a-first 1.2"


def test_two_owners_may_use_one_entry_point_name(install: Install) -> None:
    install("a-first", GOOD + TYPES, plugin="prune.first")
    install("b-second", GOOD, plugin="prune.second")
    host = Host()
    assert {"prune.first", "prune.second"} <= set(host.names("compressor"))
    assert _module_types(host) == ["prune.first"]


@pytest.mark.parametrize("names", ["bad", " bad , other", "*"])
def test_disabled_plugins_are_not_even_imported(
    install: Install, monkeypatch: pytest.MonkeyPatch, names: str
) -> None:
    install("bad-one", "raise RuntimeError('imported')", entry="bad")
    install("good-one", GOOD, entry="good", plugin="prune.good")
    monkeypatch.setenv("COMPRESSIT_DISABLE_PLUGINS", names)
    installed.cache_clear()
    try:
        host = installed()
    finally:
        installed.cache_clear()
    assert not [b for b in host.broken if b.owner == "bad-one 1.2"]
    assert ("prune.good" in host.names()) == (names != "*")
    assert host.disabled == {name.strip() for name in names.split(",")}
    with pytest.raises(CompressitError) as caught:
        host.find("prune.missing")
    assert "COMPRESSIT_DISABLE_PLUGINS" in str(caught.value.hint)
    assert "pip install" not in str(caught.value.hint)


def test_find_names_the_nearest_plugin_what_is_broken_and_the_kind(tmp_path: Path, install: Install) -> None:
    install("bad-one", BROKEN["import"][0], entry="bad")
    host = Host()
    host.load_file(_file(tmp_path, GOOD, "prune.mine"))
    with pytest.raises(CompressitError, match=r"no compressor is called 'prune\.mime'") as caught:
        host.find("prune.mime", "compressor")
    hint = str(caught.value.hint)
    assert "did you mean 'prune.mine'" in hint
    assert "bad (bad-one 1.2): ModuleNotFoundError" in hint
    with pytest.raises(CompressitError, match=r"'prune\.mine' is a compressor, not a trainer or model"):
        host.find("prune.mine", "trainer", "model")
    with pytest.raises(CompressitError, match="not a trainer"):
        host.create(Trainer, "prune.mine", {})


# Files


def test_a_local_file_registers_its_plugins_once(tmp_path: Path) -> None:
    file = _file(tmp_path, GOOD)
    host = Host(entry_points=False)
    host.load_file(file, LocalPlugin.read(file).digest)
    host.load_file(file)
    (found,) = (r for r in host.registered() if r.source.is_local)
    assert found.owner == str(file)
    assert host.create(Compressor, "prune.x", {}).config.sparsity == 0.5
    assert Path(str(sys.modules[found.plugin.__module__].__file__)) == file


def test_a_local_file_changed_since_it_was_trusted_is_not_run(tmp_path: Path) -> None:
    file = _file(tmp_path, GOOD)
    digest = LocalPlugin.read(file).digest
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(CompressitError, match="has changed"):
        Host(entry_points=False).load_file(file, digest)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_local_file_is_an_error_with_its_line_and_what_to_do(tmp_path: Path, kind: str) -> None:
    source, reason, line, hint = BROKEN[kind]
    file = _file(tmp_path, source)
    host = Host(entry_points=False)
    with pytest.raises(CompressitError) as caught:
        host.load_file(file)
    numbers = [n for n, text in enumerate(file.read_text().splitlines(), 1) if line and line in text]
    assert caught.value.message.startswith(f"{file}:{numbers[0]}: " if numbers else str(file))
    assert reason in caught.value.message
    assert hint in (caught.value.hint or "")
    assert kind == "signature" or "compressit_local" not in str(caught.value)  # those words are pluggy's
    assert host.names() == ["task.classification"]


def test_an_error_inside_another_module_names_the_line_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(CompressitError, match=rf"{tmp_path.name}\.py:4: JSONDecodeError"):
        _local(_file(tmp_path, "x = 1\n\nimport json\njson.loads('{')\n"))


@pytest.mark.parametrize(
    ("kind", "method"),
    [("Trainer", "train"), ("Evaluator", "evaluate"), ("Model", "build"), ("Dataset", "load")],
)
def test_every_kind_must_have_what_will_be_called(tmp_path: Path, kind: str, method: str) -> None:
    file = _file(
        tmp_path,
        f"from compressit import {kind}, hookimpl\n"
        f"class Mine({kind}):\n    name = 'own.mine'\n    inputs, classes = (3,), 2\n"
        f"@hookimpl\ndef compressit_{kind.lower()}s():\n    return [Mine]\n",
    )
    with pytest.raises(CompressitError) as caught:
        _local(file)
    assert caught.value.message == f"{file}:2: Mine has no '{method}'"
    assert f"write `def {method}(self, " in str(caught.value.hint)


@pytest.mark.parametrize(
    "written",
    [
        "def compress(self, *args): return args[0]",
        "def compress(self, model, ctx, more=None): return model",
        "compress = staticmethod(lambda model, ctx: model)",
    ],
)
def test_a_method_may_take_more_than_it_is_given(tmp_path: Path, written: str) -> None:
    source = GOOD.replace("def compress(self, model, ctx):\n            return model", written)
    assert _local(_file(tmp_path, source)).names("compressor") == ["prune.x"]


@pytest.mark.parametrize(
    "metrics",
    [
        "['mine']", "property(lambda self: {})", "{'mine': 'higher'}", "{'mine': Metric('higher', 3)}",
        "{'=cmd|x': Metric('higher', 'count')}", "{'a\\nb': Metric('higher', 'count')}",
        "{'x' * 101: Metric('higher', 'count')}", "{7: Metric('higher', 'count')}",
        "{'seed': Metric('higher', 'count')}", "{'compression_ratio': Metric('higher', 'count')}",
    ],
)  # fmt: skip
def test_a_metric_that_cannot_be_a_column_is_refused_before_anything_is_measured(
    tmp_path: Path, metrics: str
) -> None:
    body = f"name = 'eval.mine'\n    metrics = {metrics}\n    def evaluate(self, model, ctx): return {{}}"
    head = "from compressit import Evaluator, Metric, hookimpl\n"
    hook = "@hookimpl\ndef compressit_evaluators(): return [Mine]\n"
    with pytest.raises(CompressitError, match=r"\.py:2.*metrics"):
        _local(_file(tmp_path, f"{head}class Mine(Evaluator):\n    {body}\n{hook}"))


def test_a_local_file_that_is_missing_or_no_python_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "binary.py").write_bytes(b"\x00\xff\xfe")
    for name, words in (("none.py", ": No such file"), ("no/none.py", ": No such file"), ("binary.py", "")):
        with pytest.raises(CompressitError) as caught:
            _local(tmp_path / name)
        assert caught.value.message.startswith(f"{tmp_path / name}{words}")


# Module types


def test_module_types_come_from_every_plugin_and_a_failing_one_is_listed(tmp_path: Path) -> None:
    hook = "from compressit import hookimpl\n@hookimpl\ndef compressit_module_types():\n    "
    bodies = ["return ['one']", "raise RuntimeError('no torch')", "yield 'two'"]
    host = _local(*(_file(tmp_path / str(number), hook + body) for number, body in enumerate(bodies)))
    assert _module_types(host) == _module_types(host) == ["one", "two"]
    assert [broken.reason for broken in host.broken] == ["RuntimeError: no torch"]
