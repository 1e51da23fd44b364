from __future__ import annotations

import os
import py_compile
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

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
OBSERVER = """
    from compressit.contract.hookspecs import hookimpl
    seen = []

    @hookimpl
    def compressit_stage_started(job):
        seen.append(job)

    @hookimpl
    def compressit_stage_finished(seconds):
        seen.append(seconds)
"""
LOUD = """
    from compressit.contract.hookspecs import hookimpl

    @hookimpl
    def compressit_stage_started(job):
        raise RuntimeError(f"no room\\nfor {job}")
"""
BROKEN = {
    "import": (
        "import no_such_module_anywhere",
        "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
    ),
    "syntax": ("def f(:", "SyntaxError"),
    "exit": ("import sys; sys.exit('bye')", "SystemExit: bye"),
    "generator-exit": ("raise GeneratorExit('bye')", "GeneratorExit: bye"),
    "group": ("raise BaseExceptionGroup('bye', [SystemExit()])", "BaseExceptionGroup: bye"),
    "no-text": (
        "class Mute(Exception):\n    def __str__(self): raise OSError\nraise Mute",
        "Mute: (its text cannot be had: OSError)",
    ),
    "half-a-letter": ("raise RuntimeError('\\ud800\\x00 bye')", r"RuntimeError: \ud800\x00 bye"),
    "misspelt": (
        GOOD.replace("def compressit_compressors", "def compressit_compresors"),
        "no hook is called 'compressit_compresors'",
    ),
    "signature": (
        GOOD.replace("def compressit_compressors()", "def compressit_compressors(host)"),
        "host",
    ),
    "unmarked": (GOOD.replace("@hookimpl", ""), "compressit_compressors lacks its @hookimpl"),
    "wrong-kind": (GOOD.replace("compressit_compressors", "compressit_trainers"), "is no Trainer class"),
    "instance": (
        GOOD.replace("[Prune]", "[Prune(Options())]"),
        "compressit_compressors returned an instance of Prune, which is no Compressor class",
    ),
    "no-list": (
        GOOD.replace("[Prune]", "Prune"),
        "compressit_compressors returned the class Prune, not a list of classes",
    ),
    "called": (
        GOOD.replace("[Prune]", "[Prune()]"),
        "compressit_compressors failed: TypeError: Plugin.__init__() missing 1 required",
    ),
    "method": (GOOD.replace("def compress(", "def compres("), "Prune has no 'compress'"),
    "arguments": (
        GOOD.replace("self, model, ctx", "self, model"),
        "Prune.compress cannot be called as it will be: too many positional arguments",
    ),
    "raises": (GOOD.replace("return [Prune]", "raise KeyError('inside')"), "KeyError: 'inside'"),
    "no-hook": (GOOD.split("@hookimpl")[0], "it has no hook: add `@hookimpl def compressit_"),
    "foreign-config": (
        GOOD.replace("class Options(Config)", "from pydantic import BaseModel\n    class Options(BaseModel)"),
        "Config must derive from compressit.config.Config",
    ),
    "no-name": (GOOD.replace('name = "{name}"', "pass"), ".name is None; it must be like 'kind.method'"),
    "bad-name": (GOOD.replace("{name}", "prune mine"), ".name is 'prune mine'"),
    "three-parts": (GOOD.replace("{name}", "prune.a.b"), ".name is 'prune.a.b'"),
    "twice": (
        GOOD.replace("[Prune]", "[Prune, type('P', (Prune,), {})]"),
        "'prune.x' is the name of two plugins",
    ),
    "data-config": (
        """
        from compressit.config import Config
        from compressit.contract.hookspecs import hookimpl
        from compressit.contract.kinds import Dataset

        class Data(Dataset):
            name = "data.x"
            Config = Config

        @hookimpl
        def compressit_datasets():
            return [Data]
        """,
        "Config must derive from compressit.datasets.options.DataConfig",
    ),
}
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


def test_without_entry_points_the_host_is_empty_and_says_how_to_install() -> None:
    host = Host(entry_points=False)
    assert host.registered() == []
    assert host.names() == []
    assert host.broken == []
    with pytest.raises(CompressitError, match=r"no trainer is called 'train\.supervised'") as caught:
        host.find("train.supervised", "trainer")
    assert "pip install" in str(caught.value.hint)


def test_an_installed_plugin_is_found_through_its_entry_point(install: Install) -> None:
    install("my-pruner", GOOD)
    found = Host().find("prune.x", "compressor")
    assert (found.kind, found.owner) == ("compressor", "my-pruner 1.2")
    assert found.plugin.summary() == "Prune a little."
    assert "prune.x" in Host().names("compressor", "trainer")
    assert "prune.x" not in [r.plugin.name for r in Host().registered("trainer")]
    plugin = Host().create(Compressor, "prune.x", {"sparsity": 0.25})
    assert isinstance(plugin, Compressor)
    assert plugin.config.sparsity == 0.25


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_listed_with_its_reason_and_the_rest_works(install: Install, kind: str) -> None:
    source, reason = BROKEN[kind]
    install("bad-one", source, entry="bad")
    install("good-one", GOOD, entry="good", plugin="prune.good")
    host = Host()
    (broken,) = [b for b in host.broken if b.owner == "bad-one 1.2"]
    assert broken.entry == "bad"
    assert reason in broken.reason
    assert "\n" not in broken.reason
    assert host.find("prune.good").owner == "good-one 1.2"
    assert host.tell("compressit_stage_started", job="job") == []
    if kind != "twice":
        assert "prune.x" not in host.names()


def test_a_plugin_that_fails_to_import_keeps_its_traceback(install: Install) -> None:
    install("bad-one", BROKEN["import"][0])
    (broken,) = [b for b in Host().broken if b.owner == "bad-one 1.2"]
    assert "fake_bad_one.py" in broken.details


def test_a_broken_plugin_leaves_none_of_its_hooks_behind(install: Install, tmp_path: Path) -> None:
    install("bad-one", LOUD + BROKEN["bad-name"][0])
    assert Host().tell("compressit_stage_started", job="job") == []


def test_two_owners_of_one_name_are_both_named_and_the_first_kept(install: Install) -> None:
    install("a-first", GOOD, entry="a")
    install("b-second", GOOD, entry="b")
    host = Host()
    (broken,) = [b for b in host.broken if b.entry == "b"]
    for words in ("'prune.x'", "a-first 1.2", "b-second 1.2", "fake_a_first.Prune", "fake_b_second.Prune"):
        assert words in broken.reason
    assert host.find("prune.x").owner == "a-first 1.2"


def test_two_owners_may_use_one_entry_point_name(install: Install) -> None:
    install("a-first", GOOD + OBSERVER, plugin="prune.first")
    install("b-second", GOOD, plugin="prune.second")
    host = Host()
    assert {"prune.first", "prune.second"} <= set(host.names("compressor"))
    host.tell("compressit_stage_started", job="job")
    assert sys.modules["fake_a_first"].seen == ["job"]


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


def test_find_names_the_nearest_plugin_and_what_is_broken(tmp_path: Path, install: Install) -> None:
    install("bad-one", BROKEN["import"][0], entry="bad")
    host = Host()
    host.load_file(_file(tmp_path, GOOD, "prune.mine"))
    with pytest.raises(CompressitError) as caught:
        host.find("prune.mime", "compressor")
    assert caught.value.message == "no compressor is called 'prune.mime'"
    hint = str(caught.value.hint)
    assert "did you mean 'prune.mine'" in hint
    assert "bad (bad-one 1.2): ModuleNotFoundError" in hint


def test_find_tells_a_plugin_of_another_kind(tmp_path: Path) -> None:
    host = _local(tmp_path, GOOD)
    with pytest.raises(CompressitError, match=r"'prune\.x' is a compressor, not a trainer or model"):
        host.find("prune.x", "trainer", "model")
    with pytest.raises(CompressitError, match="not a trainer"):
        host.create(Trainer, "prune.x", {})
    assert host.find("prune.x", "trainer", "compressor").kind == "compressor"


def test_a_local_file_registers_its_plugins_once(tmp_path: Path) -> None:
    file = _file(tmp_path, GOOD)
    host = Host(entry_points=False)
    host.load_file(file, LocalPlugin.read(file).digest)
    host.load_file(file)
    (found,) = host.registered()
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


def test_a_local_file_is_run_as_it_reads_not_as_cached_bytecode_says(tmp_path: Path) -> None:
    file = _file(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')".ljust(600))
    py_compile.compile(str(file))
    times, size = (file.stat().st_atime_ns, file.stat().st_mtime_ns), file.stat().st_size
    file.write_text(_source(OBSERVER).ljust(size))
    os.utime(
        file, ns=times
    )  # same time and size: Python's own import would take the bytecode for this file's
    Host(entry_points=False).load_file(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_local_file_is_an_error_with_its_place(tmp_path: Path, kind: str) -> None:
    source, reason = BROKEN[kind]
    file = _file(tmp_path, source)
    host = Host(entry_points=False)
    with pytest.raises(CompressitError) as caught:
        host.load_file(file)
    assert str(file) in caught.value.message
    assert reason in caught.value.message
    assert host.registered() == []


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("x = 1\n\nimport json\njson.loads('{')\n", 4),
        ("x = 1\ndef f(:\n", 2),
        ("\nimport no_such_module_x", 2),
    ],
)
def test_an_error_in_a_local_file_names_the_line_of_that_file(tmp_path: Path, source: str, line: int) -> None:
    file = tmp_path / "mine.py"
    file.write_text(source)
    with pytest.raises(CompressitError) as caught:
        Host(entry_points=False).load_file(file)
    assert caught.value.message.startswith(f"{file}:{line}: ")


@pytest.mark.parametrize(
    ("kind", "written", "told", "helped"),
    [
        ("called", "return [Prune()]", "compressit_compressors failed: TypeError", "`return [Mine]`"),
        ("no-list", "def compressit_compressors", "compressit_compressors returned", "`return [Mine]`"),
        ("instance", "def compressit_compressors", "compressit_compressors returned", "not of instances"),
        ("misspelt", "def compressit_compresors", "no hook is", "did you mean 'compressit_compressors'"),
        ("bad-name", "class Prune", "Prune.name is 'prune mine'", 'name = "prune.mine"'),
        ("method", "class Prune", "Prune has no 'compress'", "it has 'compres': call that 'compress'"),
        ("arguments", "class Prune", "Prune.compress cannot be called", "`def compress(self, model, ctx)`"),
        ("raises", "raise KeyError", "KeyError: 'inside'", None),
    ],
)
def test_a_mistake_in_a_local_file_has_its_line_and_what_to_do(
    tmp_path: Path, kind: str, written: str, told: str, helped: str | None
) -> None:
    file = _file(tmp_path, BROKEN[kind][0])
    with pytest.raises(CompressitError) as caught:
        Host(entry_points=False).load_file(file)
    number = next(n for n, line in enumerate(file.read_text().splitlines(), 1) if written in line)
    assert caught.value.message.startswith(f"{file}:{number}: {told}")
    assert (helped or "") in (caught.value.hint or "")
    assert "compressit_local" not in str(caught.value)


NEEDS = {
    "Trainer": "train", "Compressor": "compress", "Evaluator": "evaluate", "Model": "build", "Dataset": "load",
}  # fmt: skip


@pytest.mark.parametrize(("kind", "method"), NEEDS.items())
def test_every_kind_must_have_what_will_be_called(tmp_path: Path, kind: str, method: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        f"from compressit import {kind}, hookimpl\n"
        f"class Mine({kind}):\n    name = 'own.mine'\n    input_shape, classes = (3,), 2\n"
        f"@hookimpl\ndef compressit_{kind.lower()}s():\n    return [Mine]\n"
    )
    with pytest.raises(CompressitError) as caught:
        Host(entry_points=False).load_file(file)
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
    assert _local(tmp_path, source).names() == ["prune.x"]


@pytest.mark.parametrize(
    ("method", "fits"), [("def work(self, images)", False), ("def work(self, images, times)", True)]
)
def test_a_method_that_need_not_be_there_is_looked_at_too(tmp_path: Path, method: str, fits: bool) -> None:
    source = GOOD.replace("def compress(", f"{method}:\n            return None\n\n        def compress(")
    if fits:
        assert _local(tmp_path, source).names() == ["prune.x"]
    else:
        with pytest.raises(CompressitError, match=r"Prune\.work cannot be called"):
            _local(tmp_path, source)


@pytest.mark.parametrize(
    "metrics",
    [
        "['mine']",
        "property(lambda self: {})",
        "{'mine': 'higher'}",
        "{'mine': Metric('higher', 3)}",
        "{'=cmd|x': Metric('higher', 'count')}",
        "{'a\\nb': Metric('higher', 'count')}",
        "{'x' * 101: Metric('higher', 'count')}",
        "{7: Metric('higher', 'count')}",
        "{'seed': Metric('higher', 'count')}",
        "{'compression_ratio': Metric('higher', 'count')}",
    ],
)
def test_a_metric_that_cannot_be_a_column_is_refused_before_anything_is_measured(
    tmp_path: Path, metrics: str
) -> None:
    file = tmp_path / "mine.py"
    body = f"name = 'eval.mine'\n    metrics = {metrics}\n    def evaluate(self, model, ctx): return {{}}"
    head = "from compressit import Evaluator, Metric, hookimpl\n"
    hook = "@hookimpl\ndef compressit_evaluators(): return [Mine]\n"
    file.write_text(f"{head}class Mine(Evaluator):\n    {body}\n{hook}")
    with pytest.raises(CompressitError, match=r"mine\.py:2.*metrics"):
        Host(entry_points=False).load_file(file)


def test_a_local_file_that_is_missing_or_no_python_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CompressitError, match=r"none\.py: No such file"):
        Host(entry_points=False).load_file(tmp_path / "none.py")
    (tmp_path / "binary.py").write_bytes(b"\x00\xff\xfe")
    with pytest.raises(CompressitError, match=r"binary\.py"):
        Host(entry_points=False).load_file(tmp_path / "binary.py")


def test_a_local_name_that_is_taken_names_both_owners(tmp_path: Path, install: Install) -> None:
    install("my-pruner", GOOD)
    host, file = Host(), _file(tmp_path, GOOD)
    with pytest.raises(CompressitError) as caught:
        host.load_file(file)
    assert "my-pruner 1.2" in caught.value.message
    assert f"({file})" in caught.value.message


def test_observers_are_told_with_the_arguments_they_ask_for(tmp_path: Path) -> None:
    host = _local(tmp_path, OBSERVER)
    assert host.tell("compressit_stage_started", job="a job") == []
    assert host.tell("compressit_stage_finished", job="a job", seconds=1.5) == []
    assert host.tell("compressit_stage_failed", job="a job", message="why") == []
    assert _seen(tmp_path) == ["a job", 1.5]


def test_an_observers_error_is_a_complaint_and_the_others_are_still_told(tmp_path: Path) -> None:
    host = Host(entry_points=False)
    (tmp_path / "loud").mkdir()
    host.load_file(_file(tmp_path / "loud", LOUD))
    host.load_file(_file(tmp_path, OBSERVER))
    (complaint,) = host.tell("compressit_stage_started", job="a job")
    assert complaint.endswith("compressit_stage_started: RuntimeError: no room for a job")
    assert _seen(tmp_path) == ["a job"]


def test_module_types_come_from_every_plugin_and_a_failing_one_is_listed(tmp_path: Path) -> None:
    types = """
        from compressit.contract.hookspecs import hookimpl
        @hookimpl
        def compressit_module_types():
            {body}
    """
    host = Host(entry_points=False)
    for number, body in enumerate(["return ['one']", "raise RuntimeError('no torch')", "yield 'two'"]):
        (tmp_path / str(number)).mkdir()
        host.load_file(_file(tmp_path / str(number), types.format(body=body)))
    assert host.module_types() == host.module_types() == ["one", "two"]
    assert [broken.reason for broken in host.broken] == ["RuntimeError: no torch"]


def _source(source: str, plugin: str = "prune.x") -> str:
    return textwrap.dedent(source.replace("{name}", plugin))


def _file(folder: Path, source: str, plugin: str = "prune.x") -> Path:
    file = folder / f"{folder.name}.py"
    file.write_text(_source(source, plugin))
    return file


def _local(folder: Path, source: str) -> Host:
    host = Host(entry_points=False)
    host.load_file(_file(folder, source))
    return host


def _seen(folder: Path) -> list[object]:
    (module,) = [m for name, m in sys.modules.items() if name.startswith(f"compressit_local_{folder.name}_")]
    return module.seen


def test_a_local_plugin_may_import_a_module_beside_it(tmp_path: Path) -> None:
    (tmp_path / "scale_of_mine.py").write_text("FACTOR = 3\n")
    (tmp_path / "mine.py").write_text(
        "from scale_of_mine import FACTOR\n"
        "from compressit import Compressor, hookimpl\n"
        "class Times(Compressor):\n"
        "    name = f'times.x{FACTOR}'\n"
        "    def compress(self, model, ctx): return model\n"
        "@hookimpl\n"
        "def compressit_compressors():\n"
        "    return [Times]\n"
    )
    host = Host(entry_points=False)
    host.load_file(tmp_path / "mine.py")
    assert host.names() == ["times.x3"]
