"""The run folder: a run's results for people. All of it comes from the store and can be made again.

If a file cannot be written there, a message says so and the run continues.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from compressit.checkpoint.header import copy_with, read_header, verify
from compressit.contract.results import Results, Row
from compressit.errors import CompressitError
from compressit.files.ownfolder import ANOTHER, MADE, OwnFolder
from compressit.files.reading import content, digest
from compressit.host.plugins import Host
from compressit.planning.keys import code_digest, key_of
from compressit.planning.points import Plan, Point
from compressit.processes.python import INCOMPLETE, environment, python
from compressit.recipe.model import Recipe
from compressit.results.collect import (
    Copy,
    arrays_of,
    checkpoint_name,
    collect,
    files_of,
    pictures_of,
    places,
    short_name,
    written,
)
from compressit.store.objects import Artifact

REFRESH_EVERY = 30.0  # minimum seconds between two reports of a running run
REFRESH_SHARE = 50  # and at least this many times the seconds that drawing the last one took
SILENT = 10.0  # seconds of drawing before a message
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE}  # disk problems, not mistakes of the user

TEMPLATES = Path(__file__).parent / "templates"
RESULTS = ("results.json", "results.csv")


class RunFolder:
    """Collects a plan's results: checkpoints, arrays, pictures, results.json, results.csv, figures, report.html.

    run.json describes the folder: `content`, a key of everything that determines the results, and the digest of every
    file. Its state is "written" while a run is writing, then "finished", so that leftovers of a killed run are never
    mistaken for results.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        host: Host,
        command: str,
        say: Callable[[str], None],
    ) -> None:
        """Raises CompressitError if no run made the folder, or if it belongs to a recipe of another name."""
        self.folder = folder
        self._own = OwnFolder(folder)
        self._plan = plan
        self._require_own()
        self._host = host
        self._command = command
        self._say = say
        self._exported: dict[str, str] = {}  # digests of checkpoints that this run wrote or verified
        self._troubles: set[str] = set()
        self._drawing: subprocess.Popen[bytes] | None = None
        self._drawing_since = 0.0
        self._due = time.monotonic() + REFRESH_EVERY

    def finished(self) -> Results | None:
        """The folder's results, if it holds exactly this plan, finished and with all files unchanged."""
        facts = self._own.facts()
        if facts is None or facts.get("state") != "finished" or facts.get("content") != self._content():
            return None
        planned = {checkpoint_name(point) for point in self._plan.points} | {*RESULTS, "report.html"}
        if not planned <= facts["files"].keys() or self._own.digests(facts["files"]) != facts["files"]:
            return None
        try:
            return Results.read_json(self._own.place("results.json", make=False))
        except (OSError, ValueError, CompressitError):
            return None

    @contextlib.contextmanager
    def writing(self) -> Generator[None]:
        """A block in which only this run writes to the folder.

        Raises CompressitError, before anything is run, if another run is writing there, something else is in a file's
        place, or the folder is not writable. A full or failing disk only causes a message.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._own.writing(self._say))
                self._begin()
            except OSError as error:
                if error.errno not in PASSING:
                    why = error.strerror or error
                    raise CompressitError(
                        f"{self.folder}: the run folder cannot be written to: {why}", ANOTHER
                    ) from error
                self._trouble(error)
            yield

    def refresh(self, artifacts: Mapping[str, Artifact], failures: Sequence[str]) -> None:
        """Starts drawing the report in a separate process, if it is due and none is being drawn."""
        now = time.monotonic()
        if self._drawing is not None:
            if self._drawing.poll() is None:
                return
            self._due = now + max(REFRESH_EVERY, REFRESH_SHARE * (now - self._drawing_since))
            self._drawing = None
        if now < self._due:
            return
        try:
            self._note("written", self._write(artifacts, failures))
            self._drawing = self._draw(subprocess.DEVNULL, subprocess.DEVNULL)
            self._drawing_since = now
        except (OSError, CompressitError) as error:
            self._trouble(error)
            self._due = now + REFRESH_EVERY

    def finish(self, artifacts: Mapping[str, Artifact], failures: Sequence[str], complete: bool) -> bool:
        """Writes everything, reports what failed, and returns whether all of it, including every report, was written.

        A complete run also removes unchanged files of earlier runs that it did not make itself.
        """
        if self._drawing is not None:
            self._drawing.kill()
            self._drawing.wait()
        try:
            made = self._write(artifacts, failures)
            figures = self._figures()
            drawn = self._drawn()
            made |= {"report.html", *dict(self._figures() - figures)}
            earlier = self._listed()
            if complete and drawn:
                for name in earlier.keys() - made:
                    if self._own.digests({name}) == {name: earlier[name]}:  # otherwise it was changed
                        self._own.remove(name)
            self._note("finished" if complete and drawn else "written", made)
            return drawn
        except (OSError, CompressitError) as error:
            self._trouble(error)
            return False

    def write_log(self, name: str, text: str) -> Path:
        """Writes a text file of this name to `logs/`. Raises OSError and CompressitError."""
        self._own.write(f"logs/{name}", text.encode("utf-8", "backslashreplace"))
        return self.folder / "logs" / name

    def _require_own(self) -> None:
        self._own.require_ours()
        held, recipe = self._own.recipe(), self._plan.recipe.name
        if held is not None and held != recipe:
            raise CompressitError(
                f"{self.folder} holds the results of another recipe, '{held}'; this one is '{recipe}'",
                f"{ANOTHER}, or remove this folder",
            )

    def _begin(self) -> None:
        self._require_own()  # again: another run may have written while this one waited for the lock
        for name in (*RESULTS, "report.html", "logs/a.txt", *(f"{folder}/a" for folder in MADE)):
            self._own.place(name, make=False)
        for name in places(self._plan):
            self._own.place(name, make=False)
        self._own.sweep()
        facts = self._own.facts() or {}
        if facts.get("content") not in (None, self._content()):
            was = f"(was: {facts.get('command')})"
            self._say(f"{self.folder} held other results, which this run replaces {was}")
            self._own.remove("report.html")  # otherwise it shows old results until the first refresh
        self._note("written", set())

    def _write(self, artifacts: Mapping[str, Artifact], failures: Sequence[str]) -> set[str]:
        """Writes checkpoints, arrays, pictures, results.json and results.csv; returns the names of all these files."""
        results = collect(self._plan, artifacts, failures, self._command)
        kept: set[str] = set()
        by_path = {point.path: point for point in self._plan.points}
        for row in results.rows:
            point = by_path[f"{row.variant}/seed{row.seed}/{row.name}"]
            self._export(point, artifacts[point.model], row)
            for found in (arrays_of, pictures_of, files_of):
                for copy in found(point, artifacts).values():
                    kept.add(copy.kept.file)
                    self._copy(copy)
        results.write_json(self._own.place("results.json"))
        results.write_csv(self._own.place("results.csv"))
        return {str(row.checkpoint) for row in results.rows} | {*RESULTS} | kept

    def _drawn(self) -> bool:
        """Draws the page, reports what is incomplete, and returns whether all of it is complete."""
        # files, not pipes: processes that a report leaves running could keep pipes open forever
        with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as complaint:
            drawing = self._draw(told, complaint)
            try:
                code = drawing.wait(SILENT)
            except subprocess.TimeoutExpired:
                self._say(f"{self.folder}: still drawing the report")
                code = drawing.wait()
            told.seek(0)
            complaint.seek(0)
            said = told.read().decode(errors="replace").splitlines()
            if code not in (0, INCOMPLETE):
                said = complaint.read().decode(errors="replace").strip().splitlines()[-3:]
                said = [f"report: {line}" for line in said]
        for line in filter(None, said):
            self._say(line)
        return code == 0

    def _export(self, point: Point, artifact: Artifact, row: Row) -> None:
        name = str(row.checkpoint)
        target = self._own.place(name)
        metrics, lineage = dict(row.metrics), self._plan.jobs[point.model].lineage  # with this run's names
        if target.exists():
            wanted = read_header(artifact.model_file).manifest.updated(lineage=lineage, metrics=metrics)
            look = read_header if name in self._exported else verify
            with contextlib.suppress(CompressitError):  # a damaged copy is written again
                if look(target).manifest == wanted:
                    self._exported.setdefault(name, digest(target))
                    return
        copy_with(artifact.model_file, target, lineage=lineage, metrics=metrics)
        self._exported[name] = digest(target)

    def _copy(self, copy: Copy) -> None:
        """The array, picture or file, unless it is there already."""
        name, digest = copy.kept.file, copy.kept.sha256
        if self._exported.get(name) != digest:
            if self._own.digests({name}) != {name: digest}:
                self._own.write(name, content(copy.source))
            self._exported[name] = digest

    def _draw(self, stdout: IO[bytes] | int, stderr: IO[bytes] | int) -> subprocess.Popen[bytes]:
        # the run's plugin files are trusted, in the version that the run read
        trusted = [f"--trusted={plugin.digest}" for plugin in self._plan.recipe.plugins]
        return subprocess.Popen(
            python("compressit", "report", *trusted, f"--ends-with={os.getpid()}", "--", str(self.folder)),
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C is for the run
        )

    def _figures(self) -> set[tuple[str, tuple[int, int]]]:
        """The existing figures, with numbers that change when a figure is drawn again."""
        files = {name: self._own.find(name) for name in self._own.names("figures")}
        facts = {name: os.stat(file) for name, file in files.items() if file is not None}
        return {(name, (fact.st_ino, fact.st_mtime_ns)) for name, fact in facts.items()}

    def _listed(self) -> dict[str, str]:
        """The checkpoints, arrays, pictures and figures that run.json lists, with their digests."""
        files = (self._own.facts() or {}).get("files", {})
        return {
            name: known
            for name, known in files.items()
            if name.startswith(tuple(f"{folder}/" for folder in MADE))
        }

    def _note(self, state: str, made: set[str]) -> None:
        """Writes run.json, listing these files of this run and the existing ones listed by earlier runs."""
        listed = {name: known for name, known in self._listed().items() if self._own.find(name) is not None}
        facts = {"state": state, "content": self._content(), "recipe": self._plan.recipe.name}
        files = {name: known for name, known in self._exported.items() if name in made}
        files |= self._own.digests(made - files.keys())
        self._own.note({**facts, "command": self._command, "files": listed | files})

    def _trouble(self, error: OSError | CompressitError) -> None:
        """Reports the error once; the run continues."""
        why = (error.strerror or str(error)) if isinstance(error, OSError) else error.message
        hint = f": {error.hint}" if isinstance(error, CompressitError) and error.hint else ""
        if why not in self._troubles:
            self._troubles.add(why)
            self._say(f"{self.folder} cannot be written: {why}. The results are safe in the store{hint}")

    def _content(self) -> str:
        """The key of everything that determines the folder's content."""
        recipe = self._plan.recipe
        facts: dict[str, Any] = {
            "recipe": [recipe.name, recipe.profile, recipe.description, written(recipe)],
            "points": [asdict(point) for point in self._plan.points],
            "reports": [
                (use.to_json(), code_digest(self._host.find(use.uses).plugin.__module__))
                for use in recipe.report
            ],
            "layout": code_digest("compressit.results.page", "compressit.contract.results"),
            "templates": {path.name: digest(path) for path in sorted(TEMPLATES.rglob("*.*"))},
        }
        return key_of(facts)


def default_folder(recipe: Recipe) -> Path:
    """The default run folder: `runs/<name>[-profile]`, followed by the `--set` arguments, since other settings give
    other results: `runs/first-train.with.epochs=5`.

    Raises CompressitError if `runs` or the folder is a symbolic link, which may come from an untrusted repository.
    """
    parts = [recipe.name, *([recipe.profile] if recipe.profile else []), *recipe.settings]
    plain = [re.sub(r"[^\w.=+-]", "_", part.removeprefix("stages.")) for part in parts]
    name = "-".join(plain)
    if plain[1:] != [part.removeprefix("stages.") for part in parts[1:]]:  # different settings may look alike
        name += "-" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]
    folder = Path("runs") / short_name(name)
    for link in (folder.parent, folder):
        if link.is_symlink():
            raise CompressitError(
                f"{link} is a symbolic link to {link.resolve()}",
                f"confirm with --out {folder}, or remove the link",
            )
    return folder
