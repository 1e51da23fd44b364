"""Python commands without the seconds that importing torch takes: forks of one process that has imported it.

Each has its own arguments, folder, environment and streams, and exits as Python does. The Python processes that it
starts, as workers, are forks as well; those of a test can be, too (fixture `warm_workers`). What is about the start of
a process (what it imports, its flags, its signals) needs a real one.
"""

from __future__ import annotations

import functools
import json
import os
import runpy
import select
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

_PATH = sys.path[1:] if __name__ == "__main__" else list(sys.path)  # without this folder
_Popen = subprocess.Popen


def python(
    *arguments: str, cwd: Path, env: Mapping[str, str], given: str = "", timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS`, `given` that on stdin: how it ended and what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
        streams[0].write_text(given, encoding="utf-8")
        told = {"arguments": arguments, "cwd": str(cwd), "env": dict(env), "streams": list(map(str, streams))}
        server = _server()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(told) + "\n")
        server.stdin.flush()
        if not select.select([server.stdout], [], [], timeout)[0]:
            server.kill()
            raise subprocess.TimeoutExpired(["python", *arguments], timeout)
        code = int(server.stdout.readline())
        out, err = (stream.read_text(encoding="utf-8") for stream in streams[1:])
        return subprocess.CompletedProcess(["python", *arguments], code, out, err)


@functools.cache
def _server() -> subprocess.Popen[str]:
    """One for this process, that ends with it."""
    return subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )


def _serve() -> None:
    """Answers each request with the exit code of a fork that did it."""
    for line in iter(sys.stdin.readline, ""):
        request: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.chdir(request["cwd"])
            for number, file in enumerate(request["streams"]):
                opened = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
                os.dup2(opened, number)
                os.close(opened)
            _become(request["arguments"], request["env"])
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"{ended}\n")
        sys.stdout.flush()


def _become(arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Makes this process, a fork, what `python ARGUMENTS` is, and ends with it."""
    code = 1
    try:
        os.environ.clear()
        os.environ.update(environment)
        sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = sys.__stderr__ = open(  # noqa: SIM115
            2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
        )
        subprocess.Popen = Forked  # type: ignore[misc]
        _run(list(arguments))
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
    except BaseException:  # noqa: BLE001 - as Python does at its end
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(arguments: list[str]) -> None:
    from compressit.host.plugins import installed

    installed.cache_clear()  # what the process before had loaded
    if safe := arguments[0] == "-P":
        del arguments[0]
    first, *rest = arguments
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    here = [] if safe and rest[0] != "compressit" else [os.getcwd()]  # which that one removes itself
    sys.path[:] = [*here, *(entry for entry in entries if entry), *_PATH]
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = [first, *rest]
        sys.path[0] = str(Path(first).resolve().parent)
        runpy.run_path(first, run_name="__main__")


class Forked(_Popen[Any]):
    """Starts Python without executing it: the fork goes on where it would."""

    def __init__(self, command: Any, **options: Any) -> None:
        if isinstance(command, list) and command[:1] == [sys.executable]:
            environment = options.get("env") or os.environ
            options["preexec_fn"] = functools.partial(_become_child, command[1:], dict(environment))
        super().__init__(command, **options)


def _become_child(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    os.closerange(3, 4096)  # also the pipe through which Popen learns that the child runs
    _become(arguments, environment)


if __name__ == "__main__":
    os.cpu_count = lambda: 1  # the processes of a test run share the cores: no run takes all
    import torch._dynamo  # noqa: F401 - which the first optimizer imports

    import compressit.cli
    import compressit.running.calibrate
    import compressit.running.job
    import compressit.running.session  # noqa: F401
    from compressit.host.plugins import installed

    installed()
    _serve()
