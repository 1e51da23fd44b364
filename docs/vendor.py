"""Brings the plotting libraries that the report page inlines from the npm registry: `python docs/vendor.py [PLOT D3]`.

Needs npm. Without versions, brings the newest. Writes the minified files as published, with their licences, into
compressit/results/templates/vendored/. Afterwards run tests/results/test_browser.py, look at a page, and name the new
versions in docs/architecture.md.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PLACE = Path(__file__).parent.parent / "compressit" / "results" / "templates" / "vendored"
PACKAGES = {"plot": ("@observablehq/plot", "dist/plot.umd.min.js"), "d3": ("d3", "dist/d3.min.js")}


def main() -> None:
    """Replaces the files."""
    versions = dict(zip(PACKAGES, sys.argv[1:], strict=False))
    for name, (package, file) in PACKAGES.items():
        with tempfile.TemporaryDirectory() as folder:
            asked = f"{package}@{versions.get(name, 'latest')}"
            done = subprocess.run(
                ["npm", "pack", asked], cwd=folder, capture_output=True, text=True, check=True
            )
            packed = done.stdout.split()[-1]
            with tarfile.open(Path(folder) / packed) as archive:
                for source, target in ((file, f"{name}.min.js"), ("LICENSE", f"{name}.LICENSE")):
                    member = archive.extractfile(f"package/{source}")
                    if member is None:
                        raise SystemExit(f"{packed} has no file {source}")
                    (PLACE / target).write_bytes(member.read())
            sys.stdout.write(f"{packed}\n")


if __name__ == "__main__":
    main()
