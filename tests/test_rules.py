"""Rules that hold for every file of the project. Read from the syntax tree: prose may name what it likes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from compressit.public import EXPORTS

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "compressit").rglob("*.py"))
PRODUCT = [*CORE, *sorted((ROOT / "plugins").rglob("*.py"))]
TORCH_FREE = [
    "compressit",
    "compressit.errors",
    "compressit.config",
    "compressit.seeds",
    "compressit.contract.kinds",
    "compressit.datasets.options",
    "compressit.contract.fit_options",
    "compressit.contract.hookspecs",
    "compressit.host.plugins",
    "compressit.contract.results",
    "compressit.recipe.model",
]
HEAVY = ("torch", "matplotlib", "numpy", "torchvision")
FORBIDDEN = {
    "pickle", "dill", "cloudpickle", "marshal", "shelve", "eval", "exec", "torch.load", "torch.save",
    "yaml.load", "yaml.unsafe_load", "__import__", "numpy.save", "numpy.load", "np.load", "joblib",
}  # fmt: skip


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("module", TORCH_FREE)
def test_importing_it_in_a_fresh_interpreter_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("path", CORE, ids=_name)
def test_the_core_does_not_name_the_built_in_plugins(path: Path) -> None:
    assert "compressit_plugins" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PRODUCT, ids=_name)
def test_nothing_can_run_what_a_data_file_says(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {name for name in _used(tree) if name in FORBIDDEN or name.split(".")[0] in FORBIDDEN}
    if _name(path) == "compressit/importing/torchfile.py":
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "torch.load"]
        assert ["weights_only=True" in ast.unparse(call) for call in calls] == [True]
        found -= {"torch.load"}
    assert not found


def test_the_rule_sees_through_aliases_but_not_into_methods() -> None:
    bad = {
        "import pickle": "pickle",
        "import pickle as p": "pickle",
        "from torch import load": "torch.load",
        "import torch as t\nt.load(f)": "torch.load",
        "import torch\ntorch.save(x, f)": "torch.save",
        "eval('1')": "eval",
        "f = exec": "exec",
    }
    for source, name in bad.items():
        assert name in _used(ast.parse(source)), source
    good = "import torch\nmodel.eval()\nloader.exec_module(m)\nstore.load(key)\n'pickle'"
    assert not _used(ast.parse(good)) & FORBIDDEN


def _used(tree: ast.AST) -> set[str]:
    """Names of imported modules and objects, of built-ins, and of dotted names under an imported module."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                aliases[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            aliases |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    used = set(aliases.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            used.add(aliases.get(node.id, node.id))
        elif (
            isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases
        ):
            used.add(f"{aliases[node.value.id]}.{node.attr}")
    return used


# How the rooms may know each other

ROOMS = (
    "printable", "errors", "config", "formatting", "seeds", "paths", "public", "processes", "files", "datasets",
    "contract", "host", "checkpoint", "recipe", "planning", "store", "results", "running", "python", "exporting",
    "importing", "searching", "api", "scaffold", "testing", "cli", "__main__",
)  # fmt: skip
"""Each imports only from those before it; what a room's own modules import of each other is its own matter."""


def _modules() -> dict[str, ast.Module]:
    found: dict[str, ast.Module] = {}
    for package in (ROOT / "compressit", ROOT / "plugins" / "compressit_plugins"):
        for path in package.rglob("*.py"):
            parts = path.relative_to(package.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def _graph() -> dict[str, set[str]]:
    """The modules that each one imports, in functions and for type checking too; public names at their place."""
    modules = _modules()

    def leads(names: list[str]) -> str | None:
        *rest, last = names
        if rest == ["compressit"] and last in EXPORTS:
            return EXPORTS[last]
        return next(
            (n for n in (".".join(names), ".".join(rest)) if n in modules and n != "compressit"), None
        )

    graph: dict[str, set[str]] = {}
    for module, tree in modules.items():
        reached: set[str | None] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                reached |= {leads(alias.name.split(".")) for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                reached |= {leads([*node.module.split("."), alias.name]) for alias in node.names}
        graph[module] = {name for name in reached if name is not None and name != module}
    return graph


def test_no_import_leads_back_to_where_it_came_from() -> None:
    sorter = TopologicalSorter(_graph())
    sorter.prepare()  # raises CycleError, which names the modules


def test_rooms_import_only_from_those_before_them() -> None:
    wrong: list[str] = []
    for module, reached in _graph().items():
        if module.startswith("compressit."):
            order = ROOMS.index(module.split(".")[1])
            wrong += [f"{module} -> {name}" for name in reached if ROOMS.index(name.split(".")[1]) > order]
    assert wrong == []


def test_contexts_are_made_in_one_place() -> None:
    """So that a worker, Python and the conformance kit give a plugin the same."""
    makers = {
        _name(path)
        for path in PRODUCT
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("StageContext")
    }
    assert makers == {"compressit/running/inputs.py"}


def test_built_ins_and_examples_import_public_names_alone() -> None:
    """As a plugin author does: from `compressit` itself, and the kit for tests from `compressit.testing`."""
    deep = re.compile(r"^ *(?:from|import) compressit\.(?!testing\b)\w+.*$", re.MULTILINE)
    shown = [ROOT / "README.md", *(ROOT / "docs").glob("writing*.md"), *(ROOT / "docs").glob("tutorial.md")]
    code = [
        p
        for place in ("plugins", "examples", "compressit/scaffold/templates")
        for p in (ROOT / place).rglob("*.*")
    ]
    found = {
        str(path.relative_to(ROOT)): lines
        for path in [*shown, *code]
        if path.suffix in (".py", ".j2", ".md") and (lines := deep.findall(path.read_text(encoding="utf-8")))
    }
    assert found == {}
