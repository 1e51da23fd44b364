"""Whatever text a file, a plugin or an argument holds: on the terminal it is shown, and obeyed by nobody."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from .sandbox import PATIENCE, Done, Sandbox

EVIL = (
    "x\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\u2066y"  # sets the title, clears the screen, turns the direction
)
PLUGIN = f"""
from compressit import Compressor, Config, Evaluator, Metric, hookimpl
from pydantic import Field
EVIL = {EVIL!r}
class Options(Config):
    size: int = Field(3, description=EVIL)
class Fails(Compressor[Options]):
    name = "evil.stage"
    __doc__ = EVIL
    def compress(self, model, ctx): raise RuntimeError(EVIL + "\\nerror: all is well")
class Measures(Evaluator):
    name = "evil.metric"
    metrics = {{"evil": Metric("up", EVIL, EVIL)}}
    def evaluate(self, model, ctx): return {{"evil": 1.0}}
print(EVIL)
@hookimpl
def compressit_compressors(): return [Fails]
@hookimpl
def compressit_evaluators(): return [Measures]
"""
RECIPE = """\
version: 1
name: evil
plugins: [./evil.py]
data: {uses: data.synthetic, with: {train: 64, test: 32}}
model: {uses: model.mlp, with: {hidden: [4]}}
stages: {s: {uses: evil.stage}}
"""
SAVE = """
import sys, compressit
from torch import nn
def build(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
build.__module__ = sys.argv[2]  # what the file will say that it comes from
compressit.model("my.net")(build)
compressit.save(build(), sys.argv[1], uses="my.net", inputs=(1, 8, 8), outputs=10)
"""
ESCAPED = EVIL.encode("unicode_escape").decode()


@pytest.fixture
def evil(sandbox: Sandbox) -> Sandbox:
    """A sandbox with a plugin whose every word is hostile, and a recipe of it."""
    sandbox.write("evil.py", PLUGIN)
    sandbox.write("recipe.yaml", RECIPE)
    return sandbox


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["check", f"{EVIL}.yaml"], 2),
        (["check", "recipe.yaml", f"--{EVIL}"], 2),
        (["check", "recipe.yaml", "--set", f"{EVIL}=1"], 2),
        (["check", "recipe.yaml", "--trust", "--set", f"stages.s.with.{EVIL}=1"], 2),
        (["plan", "recipe.yaml", "--trust", "--set", f"stages.s.uses={EVIL}"], 2),
        (["plugins", "show", "evil.stage", "--plugin", "evil.py", "--trust"], 0),
        (["plugins", "show", "evil.metric", "--plugin", "evil.py", "--trust"], 0),
        (["plugins", "show", EVIL], 2),
        (["new", "recipe", EVIL], 2),
        (["new", "plugin", EVIL], 2),
        (["report", EVIL], 2),
        (["inspect", f"{EVIL}.safetensors"], 2),
        ([EVIL], 2),
    ],
    ids=lambda value: " ".join(value).encode("unicode_escape").decode()[:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_no_command_sends_foreign_text_to_the_terminal_as_it_is(
    evil: Sandbox, arguments: list[str], code: int
) -> None:
    _check_clean(evil.run(*arguments, code=code))


def test_a_recipes_own_words_and_a_failing_plugins_are_shown(evil: Sandbox) -> None:
    done = evil.run("run", "recipe.yaml", "--trust", "--out", "out", code=1)
    _check_clean(done)
    assert ESCAPED in done.err
    assert not [text for text in done.err.splitlines() if text.startswith("error: all is well")]


def test_a_metrics_hostile_name_is_refused_and_shown(evil: Sandbox) -> None:
    evil.write("evil.py", PLUGIN.replace('{"evil": Metric', "{EVIL: Metric"))
    done = evil.run("check", "recipe.yaml", "--trust", code=2)
    _check_clean(done)
    assert "evil.py:11" in done.err
    assert ESCAPED in done.err


def test_a_checkpoints_claims_are_quoted_as_its_own(sandbox: Sandbox) -> None:
    claim = f"trojan 6.6{EVIL}\nhelp: pip install trojan"
    net = sandbox.folder / "net.safetensors"
    sandbox.python(SAVE, net, claim)
    for command in (["evaluate", net, "--data", "data.synthetic"], ["export", net, "--to", "folder"]):
        done = sandbox.run(*command, code=2)
        _check_clean(done)
        assert "according to the file" in done.err
        helped = done.err[done.err.index("\n      help:") :]
        assert "trojan" not in helped, "no advice of ours is made of a file's words"
    _check_clean(sandbox.run("inspect", net))


def test_on_a_terminal_only_the_display_steers_it(evil: Sandbox) -> None:
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "compressit", "run", "recipe.yaml", "--trust", "--out", EVIL],
        cwd=evil.folder, env={**evil.environment(), "TERM": "xterm-256color"}, stdin=end, stdout=end, stderr=end,
    )  # fmt: skip
    os.close(end)
    seen = b""
    try:
        while more := os.read(terminal, 1 << 16):
            seen += more
    except OSError:  # Linux says so when the last writer is gone
        pass
    assert process.wait(PATIENCE) == 1
    assert b"evil.stage" not in seen or b"\x1b" in seen  # it was a terminal's display
    for forbidden in (b"\x1b]", b"\x1b[2J", "\x9b".encode(), "\u202e".encode(), "\u2066".encode()):
        assert forbidden not in seen
    assert rb"\x1b]0;owned" in seen


def _check_clean(done: Done) -> None:
    told = done.out + done.err
    assert all(c.isprintable() or c in "\n\t" for c in told), ascii(told)
