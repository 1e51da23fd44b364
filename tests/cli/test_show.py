"""`compressit show`: what a run compares, in the terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from compared import compared

from compressit.files.sealed import read_sealed, write_sealed

from .conftest import Ran
from .sandbox import Sandbox

STRATEGIES = {"half": {"test_accuracy": [0.9, 0.91, 0.89], "macs": 500.0, "parameters": 5.0}}
ORIGINAL = {"test_accuracy": [0.95, 0.94, 0.95], "macs": 1000.0, "parameters": 50.0}


def _written(folder: Path) -> Path:
    folder.mkdir()
    compared(ORIGINAL, STRATEGIES).write_json(folder / "results.json")
    return folder


def test_a_finished_run_is_shown_without_torch(tiny: Ran) -> None:
    shown = Sandbox(tiny.sandbox.folder).light("show", "out").out
    assert shown.splitlines()[0].split()[0] == "strategy"
    assert "real/blog-01" in shown
    assert "There is one seed" in shown


def test_table_then_plot_then_notes_also_of_the_file_alone(sandbox: Sandbox) -> None:
    run = _written(sandbox.folder / "run")
    shown = sandbox.run("show", run).out
    places = [
        shown.index(part) for part in ("94.67 [93.23, 96.10]", "O original   A half", "verdict: against")
    ]
    assert places == sorted(places)
    assert max(map(len, shown.splitlines())) <= 100
    assert sandbox.run("show", run / "results.json").out == shown


def test_tests_over_seeds_need_scipy_and_not_torch(sandbox: Sandbox) -> None:
    run = _written(sandbox.folder / "run")
    code = "import sys\nfrom compressit.cli import main\nsys.argv[1:] = ['show', sys.argv[1]]\n"
    code += "try:\n    main()\nfinally:\n    print([n for n in ('torch', 'matplotlib') if n in sys.modules])"
    command = [sys.executable, "-c", code, str(run)]
    done = subprocess.run(command, env=sandbox.environment(), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_another_cost_is_plotted(sandbox: Sandbox) -> None:
    run = _written(sandbox.folder / "run")
    assert " parameters " in sandbox.run("show", run, "--cost", "parameters").out.split("[low, high]")[0]
    told = sandbox.run("show", run, "--cost", "paramters", code=2).err
    assert "no cost 'paramters'" in told
    assert "did you mean 'parameters'?" in told


def test_what_is_no_run_is_told(sandbox: Sandbox) -> None:
    assert "there is no such file" in sandbox.run("show", "nowhere", code=2).err
    bad = sandbox.write("results.json", "{}")
    assert "not the results of a run" in sandbox.run("show", bad, code=2).err
    run = _written(sandbox.folder / "run")
    file = run / "results.json"
    facts = read_sealed(file)
    facts["config"]["compare"]["strategies"] = ["forged"]
    write_sealed(file, facts)
    assert "not the results of a run" in sandbox.run("show", run, code=2).err
