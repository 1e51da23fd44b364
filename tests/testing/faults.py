"""Plugins with one fault each, made from a few lines, and what the kit says of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from compressit.testing import Subject, checks_for, outcomes

HEAD = """\
import os
import torch
from pydantic import Field
from torch import nn
from compressit import (
    CompressitError, Compressor, Config, Dataset, Evaluator, Metric, Model, RawData, Report, Trainer, hookimpl,
)
from compressit.contract.module_types import ModuleType
"""
RUNS = ("runs_under_jobs", "no_pickle")


@dataclass(frozen=True)
class Fault:
    """A plugin file, the check that finds what is wrong with it, and a piece of what that says."""

    check: str
    says: str
    text: str


def cases(template: str, *faults: tuple[str, str, str], at: str = "CODE", **sound: str) -> list[Any]:
    """Parameters of a test, from check, piece and code of each fault.

    The code stands in the template for the word `at`, `sound` for other words.
    """
    return [
        pytest.param(Fault(check, says, filled(template, **sound, **{at: code})), id=f"{check}-{says}")
        for check, says, code in faults
    ]


def filled(template: str, **codes: str) -> str:
    """The file of a plugin: the template with each of these words replaced by code, indented as its line is."""
    for word, code in codes.items():
        template = re.sub(
            rf"^( *)(.*)\b{word}\b",
            lambda line, code=code: line[1] + line[2] + code.replace("\n", "\n" + line[1]),
            template,
            flags=re.MULTILINE,
        )
    return HEAD + template


def check_found(fault: Fault, folder: Path, alone: bool = True) -> None:
    """Fails unless the kit finds the fault, says so, and (`alone`) finds nothing else."""
    file = folder / "faulty.py"
    file.write_text(fault.text)
    subject = Subject.of("broken.variant", files=[file])
    checks = [check for check in checks_for(subject) if check.name not in RUNS]
    tried = checks if alone else [check for check in checks if check.name == fault.check]
    failed = {o.check.name: o.reason for o in outcomes(tried, subject) if o.status == "failed"}
    assert list(failed) == [fault.check], failed
    assert fault.says in failed[fault.check]
