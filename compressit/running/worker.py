"""`python -m compressit.running.worker`: runs jobs given as JSON lines on stdin, reports progress on stdout. A session
with plugins that no other process has forks such a worker from itself (`serve`), or carries out the same messages by
itself (`carry_out`).

Models are passed through the store. The worker and all its child processes end when stdin closes, even if the parent
was killed (`guard`).
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit.printable import Forgiving
from compressit.processes import guard

if TYPE_CHECKING:
    from compressit.host.plugins import Host
    from compressit.running.job import JobRunner

CHANNEL = "COMPRESSIT_CHANNEL"  # environment variable with the token that precedes each message
PATIENCE = 1.0  # seconds to wait for another run to finish a job, before trying something else
RECURSION = 2000
"""The least recursion limit: torch.compile raises it to this; set before comparing, so that no plugin is blamed."""

Send = Callable[[Mapping[str, Any]], None]


def main() -> None:
    """A worker in a process of its own: the options are its argument."""
    options = json.loads(sys.argv[1])
    guard.stand()
    serve(options, os.environ.pop(CHANNEL, ""))


def serve(options: Mapping[str, Any], token: str, session: Host | None = None) -> None:
    """Loads plugins and torch, sends "ready", then runs jobs until stdin closes.

    `token` precedes each message. `session`: the plugins of the process that this one was forked from, which then need
    not be loaded; this process has one thread, whatever the options say.
    """
    faulthandler.enable(2)  # after a crash in native code, the log shows the Python line
    send = _channel(token)
    messages = _messages()

    def announce(text: str) -> None:
        send({"event": "announce", "text": text})

    try:
        from compressit.contract import compute
        from compressit.host.plugins import installed
        from compressit.running import process_state
        from compressit.running.job import JobRunner
        from compressit.store.objects import Store

        sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION))
        host = session or installed()
        if session is None:
            before = process_state.read()
            for path, digest in options["plugins"]:
                host.load_file(Path(path), digest)
            for change in process_state.put_back(before):
                announce(f"importing a plugin changed a process setting: {change}")
        else:
            process_state.start_anew()
        compute.set_threads(1 if session else options["threads"])
        store = Store(Path(options["store"]), warn=announce)
        runner = JobRunner(store, host, Path(options["cache"]), options["save_every"])
    except BaseException as error:
        send({**_failure(error), "event": "unusable"})
        raise SystemExit(1) from error
    send({"event": "ready"})
    while True:
        carry_out(messages.get(), runner, host, send)


def carry_out(
    message: Mapping[str, Any],
    runner: JobRunner,
    host: Host,
    send: Send,
    ending: tuple[type[BaseException], ...] = (),
) -> None:
    """Does what a message says and sends what became of it. Raises nothing but `ending`: whatever else a plugin raises
    fails the job, not the worker."""
    from compressit.contract.job import Job
    from compressit.running.calibrate import calibrate
    from compressit.running.isolation import lending
    from compressit.running.job import Taken

    try:
        if "calibrate" in message:
            with lending(message["calibrate"]["uses"]):
                result = calibrate(message["calibrate"], host)
            send({"event": "calibrated", "result": result})
        else:
            job = Job.from_json(message["job"])
            done = runner.run(job, lambda event: send({**event, "event": "progress"}), PATIENCE)
            send({"event": "done", "seconds": done.seconds})
    except ending:
        raise
    except Taken as other:
        send({"event": "taken", "by": str(other)})
    except BaseException as error:  # noqa: BLE001 - as said above
        send(_failure(error, _plugin_files(host)))


def _channel(token: str) -> Send:
    """Keeps the real stdout for messages, each preceded by the run's token; other output goes to stderr."""
    out = os.dup(1)
    os.dup2(2, 1)
    for stream in (sys.__stdout__, sys.__stderr__):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout = sys.stderr = _log()
    speaking = threading.Lock()  # plugins may use threads

    def send(message: Mapping[str, Any]) -> None:
        line = memoryview(token.encode() + encoded(message) + b"\n")
        try:
            with speaking:
                while line:
                    line = line[os.write(out, line) :]
        except BrokenPipeError:
            os._exit(1)  # the run has ended
        except OSError as error:
            sys.stderr.write(f"a plugin closed the connection between this worker and its run ({error})\n")
            os._exit(1)

    return send


def encoded(message: Mapping[str, Any]) -> bytes:
    """A message as JSON, in UTF-8. That cannot encode lone surrogates: they are replaced."""
    return json.dumps(message, default=_number, ensure_ascii=False).encode("utf-8", "replace")


def _log() -> Forgiving:
    """Python's stdout and stderr. Closing it closes no file, and writing never fails, even on a full disk."""
    return Forgiving(open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False))


def _messages() -> queue.Queue[dict[str, Any]]:
    """Reads stdin in a thread, so that this process ends even in the middle of a job if its parent is killed.

    Plugins and their child processes get an empty stdin instead.
    """
    messages: queue.Queue[dict[str, Any]] = queue.Queue()
    source = os.fdopen(os.dup(0), encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def read() -> None:
        for line in source:
            messages.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return messages


def _number(value: Any) -> Any:
    """Converts tensors and NumPy numbers in a plugin's progress events."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return str(value)


def _plugin_files(host: Host) -> list[Path]:
    """The file of each single-file plugin, and the folder of each package that provides plugins."""
    modules = {host.find(name).plugin.__module__.split(".")[0] for name in host.names()}
    files = (getattr(sys.modules.get(name), "__file__", None) for name in sorted(modules))
    paths = [Path(file) for file in files if file]
    return [path.parent if path.name == "__init__.py" else path for path in paths]


def _failure(error: BaseException, files: Sequence[Path] = ()) -> dict[str, Any]:
    from compressit.errors import CompressitError, place_in, sound, told

    message, hint = (getattr(error, name, None) for name in ("message", "hint"))
    if isinstance(error, CompressitError) and isinstance(message, str):
        hint, trace = sound(hint) if isinstance(hint, str) else None, None
        return {"event": "failed", "message": sound(message), "hint": hint, "traceback": trace}
    message, trace = told(error) + place_in(error, files), traceback.format_exc()
    return {"event": "failed", "message": message, "hint": None, "traceback": trace}


if __name__ == "__main__":
    main()
