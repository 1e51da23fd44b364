from __future__ import annotations

import platform
from pathlib import Path

import pytest

from compressit.contract.compute import host_facts
from compressit.contract.cpu import cpu_flags


@pytest.fixture(autouse=True)
def _unknown() -> None:
    cpu_flags.cache_clear()


@pytest.mark.parametrize(
    ("machine", "told", "wanted"),
    [
        (
            "x86_64",
            "flags\t\t: fpu avx2 avx_vnni avx512f sse\nflags\t: other avx2",
            ("avx2", "avx512f", "avx_vnni"),
        ),
        ("aarch64", "Features\t: fp asimd asimddp i8mm", ("arm", "asimddp", "i8mm")),
        ("arm64", None, ("arm",)),
    ],
)
def test_flags_that_decide_about_int8_are_read_where_the_system_tells_them(
    machine: str, told: str | None, wanted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def text(path: Path, **options: str) -> str:
        if told is None:
            raise FileNotFoundError(path)
        return told

    monkeypatch.setattr(platform, "machine", lambda: machine)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", text)
        assert cpu_flags() == wanted
    cpu_flags.cache_clear()


def test_they_are_recorded_with_every_result() -> None:
    assert host_facts()["cpu"] == " ".join(cpu_flags())
