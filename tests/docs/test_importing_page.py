"""docs/importing.md: every block is run, in its order, in one folder."""

from __future__ import annotations

from pathlib import Path

from blocks import blocks, run_line, shows

PAGE = "importing.md"


def test_every_block_runs_and_prints_what_the_page_shows(tmp_path: Path) -> None:
    printed = ""
    for block in blocks(PAGE):
        if block.title:
            block.write(tmp_path)
        elif block.language == "sh":
            printed = "".join(run_line(line, tmp_path, {}) for line in block.text.splitlines())
        else:
            assert block.language == "text", f"a {block.language} block that is no file"
            for line in block.text.splitlines():
                assert shows(printed, line), f"not printed: {line}\n{printed}"
