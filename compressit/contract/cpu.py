"""What this machine's processor can do that decides how fast whole numbers and floats are. Does not import torch."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

_TELLING = re.compile(r"avx2|avx512f|avx512_bf16|avx512_fp16|\w*vnni|amx_\w+|asimddp|i8mm|bf16|sve\d?")
"""Linux's names of instructions for vectors, for whole numbers (VNNI, dot products) and for matrices."""


@cache
def cpu_flags() -> tuple[str, ...]:
    """`("amx_int8", "avx2", "avx512_vnni", "avx512f")`, in order; `arm` on ARM. What is not known is left out: Linux
    tells it, in /proc/cpuinfo."""
    arm = ("arm",) if platform.machine().lower() in ("arm64", "aarch64") else ()
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return arm
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", told, re.MULTILINE)
    flags = {flag for line in lines[:1] for flag in line.split() if _TELLING.fullmatch(flag)}
    return (*arm, *sorted(flags))
