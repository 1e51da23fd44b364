"""A local plugin runs as it was read, with the neighbours that were read with it and no others."""

from __future__ import annotations

import errno
import importlib
import importlib.machinery
import os
import py_compile
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compressit.errors import CompressitError
from compressit.files import reading
from compressit.host import localcode
from compressit.host.plugins import Host
from compressit.recipe.model import LocalPlugin

PLUGIN = """
from compressit import Compressor, hookimpl
{imports}
class A(Compressor):
    name = "{name}"
    def compress(self, model, ctx):
        {lazy}
@hookimpl
def compressit_compressors(): return [A]
"""
BESIDE = "from pathlib import Path; F = Path(__file__).parent; "
OWN_PATH = BESIDE + "import importlib, sys; sys.path.insert(0, str(F / {!r})); "
LAZY = "import importlib; return importlib.import_module('hlp').x"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a plugin that imports at its top, or when it is called, and files beside it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before, modules = list(sys.meta_path), set(sys.modules)

    def write(
        imports: str = "", lazy: str = "return 0", name: str = "tiny.a", folder: str = "one", **files: str
    ) -> Path:
        for file, text in files.items():
            path = tmp_path / folder / (file.replace("__", "/").replace("//init/", "/__init__") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / folder).mkdir(exist_ok=True)
        plugin = tmp_path / folder / f"plug{name[-1]}.py"
        plugin.write_text(PLUGIN.format(imports=imports, lazy=lazy, name=name))
        return plugin

    yield write
    sys.meta_path[:] = before
    for module in set(sys.modules) - modules:
        if module.startswith(("hlp", "compressit_local")):
            del sys.modules[module]


def _loaded(*plugins: Path) -> Host:
    host = Host(entry_points=False)
    for plugin in plugins:
        host.load_file(plugin)
    return host


def _call(host: Host, name: str = "tiny.a") -> object:
    plugin = host.find(name).plugin
    return plugin(plugin.Config()).compress(None, None)  # type: ignore[attr-defined]


def _names(plugin: Path) -> set[str]:
    return {name for name, _ in LocalPlugin.read(plugin).files}


# What counts


@pytest.mark.parametrize(
    "imports",
    [
        "import hlp", "from hlp import x", "try:\n    import hlp\nexcept ImportError: pass",
        "import importlib; hlp = importlib.import_module('hlp')", "import hlp_two", "from hlp_pack import deep",
        "from hlp_pack.deep import y", "import hlp_space.hlp", "from hlp_space import hlp",
        "import sys, os; sys.path.append(os.path.dirname(__file__) + '/hlp_space'); import hlp",
    ],
)  # fmt: skip
def test_the_digest_covers_whatever_the_plugin_can_import(write: Write, imports: str) -> None:
    files = {
        "hlp": "x = 1\n", "hlp_two": "import hlp\n", "hlp_pack____init__": "from hlp_pack import deep\n",
        "hlp_pack__deep": "y = 1\nimport hlp\n", "hlp_space__hlp": "import hlp\n",
    }  # fmt: skip
    plugin = write(imports, **files)
    before = LocalPlugin.read(plugin).digest
    assert LocalPlugin.read(plugin).digest == before
    changed = "hlp_space__hlp" if "sys.path" in imports else "hlp"
    write(imports, **{**files, changed: "import os\nx = 2\n"})
    assert LocalPlugin.read(plugin).digest != before
    with pytest.raises(CompressitError, match="has changed"):
        Host(entry_points=False).load_file(plugin, before)
    assert "hlp" not in sys.modules


@pytest.mark.parametrize(
    ("lazy", "file"),
    [
        ("import runpy; runpy.run_path(str(F / 'hlp.inc'))", "hlp.inc"),
        ("exec(open(F / 'hlp').read())", "hlp"),
        ("eval(compile((F / 'steps' / 'hlp.txt').read_text(), 'x', 'exec'))", "steps/hlp.txt"),
        ("exec((F / 'my-steps' / 'hlp.py').read_text())", "my-steps/hlp.py"),
        ("exec((F / 'hlp.old.py').read_text())", "hlp.old.py"),
        ("exec((F / 'code.py').read_text())", "code.py"),
        ("exec(open(str(F).encode() + b'/hlp.py').read())", "hlp.py"),
        ("exec((F / ('h' + 'lp')).with_suffix('.py').read_text())", "hlp.py"),
        ("import subprocess as s; name = 'hlp'; s.run(['python', F / f'{name}_step.py'])", "hlp_step.py"),
        ("import subprocess as s; s.run(['python', F / ('%s_step.py' % 'hlp')])", "hlp_step.py"),
        ("[p] = F.glob('hlp_*.py')", "hlp_step.py"),
        ("import importlib.util as u; u.spec_from_file_location('hlp', next(F.iterdir()))", "hlp.py"),
        ("import subprocess as s; s.run(['sh', F / 'hlp.sh'])", "hlp.sh"),
        ("import subprocess as s; s.run([F / 'hlp'])", "hlp"),
        ("import hlp_pack", "hlp_pack/x.txt"),
        ("import sys; sys.path.insert(0, str(F / 'src')); import hlp_space.a", "src/hlp_space/b.py"),
        ("from builtins import exec as go; go((F / 'hlp.txt').read_text())", "hlp.txt"),
        ("__builtins__['exec']((F / 'hlp.txt').read_text())", "hlp.txt"),
        ("import torch.utils.cpp_extension as c; c.load('hlp', [F / 'csrc' / 'hlp.cu'])", "csrc/hlp.cu"),
        ("import ctypes; ctypes.CDLL(F / 'hlp.so.1')", "hlp.so.1"),
        ("import torch; torch.ops.load_library(F / 'hlp.so.1')", "hlp.so.1"),
        ("import subprocess as s, sys; s.run([sys.executable, F / 'hlp.inc'])", "hlp.inc"),
    ],
)
def test_the_digest_covers_code_that_runs_without_an_import(write: Write, lazy: str, file: str) -> None:
    files = {
        "hlp_pack____init__": "from pathlib import Path\nexec((Path(__file__).parent / 'x.txt').read_text())\n",
        "src__hlp_space__a": "import hlp_space.b\n",
    }
    plugin = write(lazy=BESIDE + lazy, **files)
    place = plugin.parent / file
    place.parent.mkdir(exist_ok=True)
    first = "#!/bin/sh\n" if "s.run([F /" in lazy else ""
    place.write_text(f"{first}x = 1\n")
    before = LocalPlugin.read(plugin).digest
    place.write_text(f"{first}x = 2\n")
    assert LocalPlugin.read(plugin).digest != before
    place.write_text(f"{first}x = 1\n")
    plugin.with_name("notes.txt").write_text("what nobody runs")
    assert LocalPlugin.read(plugin).digest == before
    place.unlink()
    assert LocalPlugin.read(plugin).digest != before


def test_what_is_named_and_is_no_code_does_not_count(write: Write) -> None:
    """Data and logs may change while it runs."""
    plugin = write(lazy=BESIDE + "F / 'log.txt', F / 'log', 'steps of log.py', 'step_*.py'; model.eval()")
    for name in ("log.txt", "log"):
        plugin.with_name(name).write_text("x")
    assert _names(plugin) == {"pluga.py"}


def test_what_nothing_names_counts_for_nothing_and_is_not_found(write: Write) -> None:
    plugin = write(lazy=LAZY.replace("'hlp'", "'hl' + 'p'"), hlp="x = 1\n", hlp_pack__utils="")
    write("import numpy.utils as hlp_pack", name="tiny.b", utils="", hlp__old="")
    plugin.with_name("hlp.old.py").write_text("x = 1\n")  # a name with more dots is no module
    assert _names(plugin) == {"pluga.py"}
    assert _names(plugin.with_name("plugb.py")) == {"plugb.py"}
    with pytest.raises(ModuleNotFoundError):
        _call(_loaded(plugin))


def test_this_package_and_the_standard_library_are_nobodys_neighbours(write: Write) -> None:
    plugin = write("import random, compressit.contract.fit_options, hlp", random="x = 1\n", hlp="x = 1\n")
    (plugin.parent / "compressit").symlink_to(Path(localcode.__file__).parents[1])
    assert _names(plugin) == {"hlp.py", "pluga.py"}
    before = sys.modules["compressit"]
    host = _loaded(plugin)
    write("import random, compressit.contract.fit_options, hlp", lazy="return 1")
    host.load_file(plugin)
    assert sys.modules["compressit"] is before


@pytest.mark.parametrize("text", ["%" * 10**6, "%" * 10**6 + ".py", ".py " * 10**5])
def test_strings_made_to_be_slow_are_not(write: Write, text: str) -> None:
    plugin = write(lazy=f"return {text!r}")
    started = time.process_time()
    LocalPlugin.read(plugin)
    assert time.process_time() - started < 20


def test_a_plugin_among_too_many_files_is_told_to_move(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = write("import hlp_pack", hlp_pack____init__="", hlp_pack__a="", hlp_pack__b="")
    monkeypatch.setattr(localcode, "MOST_FILES", 3)
    with pytest.raises(CompressitError, match="more than 3 files") as caught:
        LocalPlugin.read(plugin)
    assert "its own folder" in str(caught.value.hint)


def test_huge_or_nested_source_is_refused_or_passed_before_it_can_fill_the_memory(write: Write) -> None:
    plugin = write("import hlp", hlp="(" * 500_000)
    assert _names(plugin) == {"pluga.py", "hlp.py"}
    with plugin.with_name("hlp.py").open("wb") as file:
        file.truncate(1 << 40)  # a file with a hole
    with pytest.raises(CompressitError, match=r"bytes \(hlp\.py\)"):
        LocalPlugin.read(plugin)


def test_links_in_a_circle_pipes_and_what_nobody_can_look_at_are_passed(write: Write) -> None:
    plugin = write(
        "import hlp_round, src.src.src.hlp_pipe, self, hlp_long", hlp_round____init__="", hlp_round__x=""
    )
    (plugin.parent / "hlp_round" / "again").symlink_to(plugin.parent / "hlp_round")
    (plugin.parent / "src").symlink_to(plugin.parent)
    plugin.with_name("self").symlink_to("self")
    plugin.with_name("hlp_long.py").symlink_to("x" * 300)
    os.mkfifo(plugin.parent / "hlp_pipe.py")
    assert _names(plugin) == {"pluga.py", "hlp_round/__init__.py", "hlp_round/x.py"}


def test_what_it_names_and_nobody_may_read_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = write("import hlp", hlp="x = 1\n")

    def content(path: Path) -> bytes:
        if path.name == "hlp.py":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return path.read_bytes()

    monkeypatch.setattr(reading, "content", content)
    with pytest.raises(CompressitError, match=r"hlp\.py: Permission"):
        LocalPlugin.read(plugin)


# What can be imported


@pytest.mark.parametrize("where", ["..", "../lib", "lib.zip", "."])
def test_a_search_path_of_its_own_brings_nothing_that_nobody_was_asked_about(
    write: Write, where: str
) -> None:
    name = "'hlp' + '_far'" if where == "." else "'hlp_far'"
    lazy = f"{OWN_PATH.format(where)}import json, xml.dom.minidom; return importlib.import_module({name}).x"
    plugin = write(lazy=lazy)
    place = plugin.parent / where
    if place.suffix == ".zip":
        with zipfile.ZipFile(place, "w") as archive:
            archive.writestr("hlp_far.py", "x = 1\n")
    else:
        place.mkdir(exist_ok=True)
        (place / "hlp_far.py").write_text("x = 1\n")
    _loaded(plugin)  # for another host: its modules have the same rights
    with pytest.raises(ImportError, match=r"hlp_far.*neither installed nor"):
        _call(_loaded(plugin))
    assert importlib.import_module("hlp_far").x == 1, "what others import is theirs"


def test_a_search_path_of_its_own_brings_what_was_read_as_it_was_read(write: Write) -> None:
    lazy = OWN_PATH.format("src") + "import hlp_space.a; return hlp_space.a.x"
    plugin = write(lazy=lazy, src__hlp_space__a="from hlp_space.b import x\n", src__hlp_space__b="x = 1\n")
    host = _loaded(plugin)
    write(lazy=lazy, src__hlp_space__b="x = 2\n")
    assert _call(host) == 1
    host.load_file(write(lazy=lazy, src__hlp_space__b="x = 3\n"))
    assert _call(host) == 3, "an edited one is imported again"


def test_what_was_read_through_a_linked_folder_is_imported_as_it_was_read_and_nothing_else_there(
    write: Write,
) -> None:
    lazy = OWN_PATH.format("src") + "import hlp, hlp_pack.deep; importlib.import_module('hlp_pack.' + 'late')"
    plugin = write(lazy=lazy)
    for file in ("hlp.py", "hlp_pack/__init__.py", "hlp_pack/deep.py"):
        place = plugin.parent.parent / "ext" / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("x = 1\n")
    (plugin.parent / "src").symlink_to("../ext")
    host = _loaded(plugin)
    place.write_text("x = 66\n")
    place.with_name("late.py").write_text("x = 66\n")
    with pytest.raises(ImportError, match=r"hlp_pack\.late.*neither installed nor"):
        _call(host)
    assert (sys.modules["hlp"].x, sys.modules["hlp_pack.deep"].x) == (1, 1)


def test_a_virtual_environment_beside_the_plugin_is_installed(write: Write) -> None:
    plugin = write(lazy="import hlp_far.deep; return hlp_far.deep.x")
    package = plugin.parent / ".venv" / "site-packages" / "hlp_far"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "deep.py").write_text("x = 1\n")
    sys.path.append(str(package.parent))
    assert _call(_loaded(plugin)) == 1


def test_modules_of_a_folder_may_import_each_other_by_dots(write: Write) -> None:
    files = {
        "hlp_space__a": "from . import b\nfrom .c import y\nfrom .deep.d import z\nx = b.x, y, z\n",
        "hlp_space__b": "x = 1\n", "hlp_space__c": "y = 2\n", "hlp_space__deep__d": "from ..e import z\n",
        "hlp_space__e": "z = 3\n",
    }  # fmt: skip
    assert _call(_loaded(write("import hlp_space.a", "return hlp_space.a.x", **files))) == (1, 2, 3)


def test_a_link_brings_the_neighbours_of_what_it_points_to(write: Write, tmp_path: Path) -> None:
    plugin = write("import hlp", BESIDE + "return hlp.x, (F / 'hlp.txt').read_text()", hlp="x = 1\n")
    plugin.with_name("hlp.txt").write_text("real")
    (tmp_path / "hlp.txt").write_text("beside the link")
    (tmp_path / "hlp.py").write_text("x = 66\n")
    (tmp_path / "link.py").symlink_to(plugin)
    host = Host(entry_points=False)
    host.load_file(tmp_path / "link.py", LocalPlugin.read(tmp_path / "link.py").digest)
    assert _call(host) == (1, "real")


def test_it_runs_as_it_was_read_not_as_it_is_nor_as_cached_bytecode_says(write: Write) -> None:
    plugin = write(lazy="return 66", hlp="x = 66\n")
    helper = plugin.with_name("hlp.py")
    right = {plugin: PLUGIN.format(imports="", lazy=LAZY, name="tiny.a"), helper: "x = 11\n"}
    plugin.write_text(plugin.read_text().ljust(len(right[plugin])))
    for file, text in right.items():
        py_compile.compile(str(file))
        times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
        file.write_text(text)
        # same time and size: Python's own import would take the bytecode for this file's
        os.utime(file, ns=times)
    host = _loaded(plugin)
    helper.write_text("x = 99\n")  # after it was read and trusted, before it is imported
    assert _call(host) == 11


def test_a_neighbour_shadows_nothing_that_is_installed(write: Write) -> None:
    names = ["random", "statistics", "json", "jinja2", "pluggy", "numpy", "torch", "pytest"]
    shadows = dict.fromkeys(names, "raise RuntimeError('it ran')\n")
    lazy = f"return {', '.join(f'{name}.__file__' for name in names)}"
    plugin = write(f"import {', '.join(names)}", lazy, **shadows)
    code = (
        "import sys; from pathlib import Path; from compressit.host.plugins import Host\n"
        "host = Host(entry_points=False); host.load_file(Path(sys.argv[1]))\n"
        "plugin = host.find('tiny.a').plugin; print(plugin(plugin.Config()).compress(None, None))"
    )
    done = subprocess.run([sys.executable, "-c", code, plugin], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(plugin.parent) not in done.stdout
    assert str(plugin.parent) not in sys.path


def test_an_importer_in_the_plugins_folder_finds_the_trusted_file(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook has the current folder on its path."""
    host = Host(entry_points=False)
    for number in (1, 2):
        plugin = write("import hlp", "return hlp.x", hlp=f"x = {number}\n")
        monkeypatch.chdir(plugin.parent)
        sys.path.insert(0, "")
        importlib.invalidate_caches()
        host.load_file(plugin)
        assert _call(host) == number


def test_files_beside_a_package_are_read_from_the_disk(write: Write) -> None:
    lazy = "import hlp_pack, pkgutil; return pkgutil.get_data('hlp_pack', 'words.txt')"
    plugin = write(lazy=lazy, hlp_pack____init__="")
    (plugin.parent / "hlp_pack" / "words.txt").write_text("words")
    assert _call(_loaded(plugin)) == b"words"


def test_compiled_modules_count_too_and_are_not_loaded_once_they_changed(write: Write) -> None:
    plugin = write(lazy="import hlp")
    compiled = plugin.with_name(f"hlp{importlib.machinery.EXTENSION_SUFFIXES[0]}")
    compiled.write_bytes(b"as it was trusted")
    host = Host(entry_points=False)
    host.load_file(plugin, LocalPlugin.read(plugin).digest)
    compiled.write_bytes(b"as it is now")
    with pytest.raises(ImportError, match="has changed since it was read"):
        _call(host)


# Loaded again, and side by side


def test_an_edited_plugin_takes_its_own_place_with_its_neighbours(write: Write) -> None:
    host = Host(entry_points=False)
    seen: list[object] = []
    for number in (1, 2, 3, 1):
        files = {"hlp": "import hlp_more\nx = 5\n", "hlp_more": f"y = {number}\n"}
        host.load_file(write("import hlp", "return hlp.x, hlp.hlp_more.y", **files))
        seen.append(_call(host))
    assert seen == [(5, 1), (5, 2), (5, 3), (5, 1)]
    assert len([r for r in host.registered() if r.source.is_local]) == 1
    with pytest.raises(CompressitError, match=r"pluga\.py:3: "):
        host.load_file(write("import no_such_module_at_all", lazy="return 2"))
    assert _call(host) == (5, 1), "an edit that breaks it leaves the plugin that worked"
    host.load_file(write(lazy="return 3"))
    assert _call(host) == 3


def test_plugins_of_one_folder_share_their_neighbours_and_those_of_two_may_not_be_confused(
    write: Write,
) -> None:
    one = write("import hlp, hlp_space.a", "return hlp", hlp="x = 1\n", hlp_space__a="")
    two = write("import hlp, hlp_space.b", "return hlp", name="tiny.b", hlp_space__b="")
    host = _loaded(one, two)
    assert _call(host) is _call(host, "tiny.b")
    other = write("import hlp", "return hlp.x", name="tiny.c", folder="two", hlp="x = 2\n")
    with pytest.raises(CompressitError, match="different modules of the same name, 'hlp'") as caught:
        host.load_file(other)
    assert "rename" in str(caught.value.hint)
    assert _call(_loaded(other), "tiny.c") == 2


@pytest.mark.parametrize(
    ("one", "two", "file"),
    [
        ("import hlp; return hlp.x", LAZY, "hlp"),
        (LAZY, LAZY, "hlp____init__"),
        (OWN_PATH.format("src") + "import hlp",) * 2 + ("src__hlp",),
        ("import hlp.a", "import hlp.a", "hlp__a"),
    ],
)
def test_two_plugins_do_not_get_each_others_modules_however_they_import_them(
    write: Write, one: str, two: str, file: str
) -> None:
    host = _loaded(write(lazy=one, **{file: "x = 1\n"}))
    with pytest.raises(CompressitError, match="different modules of the same name, 'hlp'"):
        host.load_file(write(lazy=two, name="tiny.b", folder="two", **{file: "x = 2\n"}))


def test_two_plugins_may_have_files_of_one_name_that_neither_imports_by_it(write: Write) -> None:
    """Their own files, scripts, modules of packages of two names, and folders like `src`."""
    host = Host(entry_points=False)
    for number, folder in enumerate(("one", "two")):
        pack = f"hlp_{folder}"
        lazy = f"{BESIDE}F / 'src' / '{pack}', F / 'tool.sh', F / '__init__.py'; import time; "
        files = {f"{pack}____init__": "", f"{pack}__hlp": f"x = {number}\n", f"{pack}__time": ""}
        files |= {f"src__{pack}": "", "__init__": ""}
        plugin = write(
            lazy=f"{lazy}from {pack} import hlp; return hlp.x", name=f"tiny.{folder}", folder=folder, **files
        )
        plugin.with_name("tool.sh").write_text(f"echo {number}")
        host.load_file(plugin)
    assert (_call(host, "tiny.one"), _call(host, "tiny.two")) == (0, 1)
