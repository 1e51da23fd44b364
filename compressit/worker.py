"""`python -m compressit.worker`: carries out tasks given as JSON lines on stdin, says how it goes on stdout.

Models travel through the store. It ends when stdin closes, also when its parent was killed.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compressit.plugins import Host


def main() -> None:
    """Reads options, loads plugins and torch, says "ready", then works until stdin closes."""
    options = _options()
    send = _channel()
    messages = _messages()
    try:
        from compressit import compute
        from compressit.execute import settings
        from compressit.execute.calibrate import calibrate
        from compressit.execute.lending import lending
        from compressit.execute.task import TaskRunner
        from compressit.plugins import installed
        from compressit.store import Store
        from compressit.tasks import Task

        before = settings.read()
        host = installed()
        for plugin in options.plugin:
            path, _, digest = plugin.rpartition("=")
            host.load_file(Path(path), digest)
        for change in settings.put_back(before):
            send(
                {
                    "event": "announce",
                    "text": f"importing a plugin changed a setting of the process: {change}",
                }
            )
        compute.set_threads(options.threads)
        store = Store(options.store, warn=lambda text: send({"event": "announce", "text": text}))
        runner = TaskRunner(store, host, options.cache, options.save_every)
    except BaseException as error:
        send({**_failure(error), "event": "unusable"})
        raise SystemExit(1) from error
    send({"event": "ready"})
    while (message := messages.get()) is not None:
        try:
            if "calibrate" in message:
                with lending(message["calibrate"]["uses"]):
                    result = calibrate(message["calibrate"], host)
                send({"event": "calibrated", "result": result})
                continue
            artifact = runner.run(
                Task.from_json(message["task"]), lambda event: send({**event, "event": "progress"})
            )
            send({"event": "done", "seconds": artifact.seconds})
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin's failure is the task's, not the worker's
            send(_failure(error, _plugin_files(host)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="compressit.worker")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--save-every", type=float, default=10.0)
    parser.add_argument("--plugin", action="append", default=[])
    return parser.parse_args()


def _channel() -> Callable[[Mapping[str, Any]], None]:
    """Keeps the real stdout for messages; whatever else prints goes to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    def send(message: Mapping[str, Any]) -> None:
        try:
            out.write(json.dumps(message, default=_number) + "\n")
            out.flush()
        except BrokenPipeError:
            os._exit(1)  # nobody listens any more

    return send


def _messages() -> queue.Queue[dict[str, Any] | None]:
    """A thread reads stdin, so that a parent that was killed ends this process in the middle of a task too.

    Plugins, and what they start, find an empty stdin in its place.
    """
    messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
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
    """A plugin's progress may hold tensors and numpy's numbers."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return str(value)


def _plugin_files(host: Host) -> list[Path]:
    """The file of each plugin that is no package's, and the folder of each package that brings one."""
    modules = {host.find(name).plugin.__module__.split(".")[0] for name in host.names()}
    files = (getattr(sys.modules.get(name), "__file__", None) for name in sorted(modules))
    paths = [Path(file) for file in files if file]
    return [path.parent if path.name == "__init__.py" else path for path in paths]


def _failure(error: BaseException, files: Sequence[Path] = ()) -> dict[str, Any]:
    from compressit.errors import CompressitError, place_in

    if isinstance(error, CompressitError):
        return {"event": "failed", "message": error.message, "hint": error.hint, "traceback": None}
    message = f"{type(error).__name__}: {error}{place_in(error, files)}"
    return {"event": "failed", "message": message, "hint": None, "traceback": traceback.format_exc()}


if __name__ == "__main__":
    main()
