"""Prunes architectures of torchvision and timm, saves them, loads them in another process, compares bits.

    python benchmarks/checkpoint_matrix.py [--only NAME...] [--quick] [--write docs/checkpoint-matrix.md]

All classification architectures of torchvision, and those of timm that are named below (`timm/NAME`). Each is
pruned to 70 % and to 50 % of its channels by `compressit_plugins.prune.channels`, in a process of its own; one
further process loads all the files. A file passes when it holds nothing but a printable header and its tensors, and
when the loaded model has the saved one's state and outputs, bit for bit. Beside it stands how far the pruned net is
from the given one with zeros for what was removed (`compressit_plugins.prune.oracle`), and how many widths were left
alone since they could not be pruned rightly.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from checkpoint.elsewhere import fingerprint, holds_no_code, start

from compressit.checkpoint.manifest import Architecture
from compressit.checkpoint.model import build, save
from compressit.errors import CompressitError
from compressit.host.plugins import Host
from compressit_plugins.models.torchvision_nets import classifiers
from compressit_plugins.prune.channels import prune_channels

KEEP = (0.7, 0.5)
QUICK = ("mnasnet0_5", "squeezenet1_1", "resnet18")
TIMM = (
    "convnext_atto", "deit_tiny_patch16_224", "edgenext_xx_small", "efficientnet_lite0", "ghostnet_100",
    "crossvit_9_240", "levit_128s", "mixer_s32_224", "mobilenetv3_small_100", "mobileone_s0", "poolformer_s12",
    "regnety_002",
    "repvgg_a0", "resnest14d", "resnet18", "rexnet_100", "swin_tiny_patch4_window7_224",
    "vit_tiny_patch16_224", "xcit_nano_12_p16_224",
)  # fmt: skip
SIDES = {"alexnet": 96, "inception": 96, "maxvit": 224, "vit": 224}
SIDES |= {"crossvit": 240}
SIDES |= dict.fromkeys(("deit", "edgenext", "levit", "mixer", "swin_tiny", "xcit"), 224)
"""Pixels of the square images, by how an architecture's name begins; 64 for all others."""
LIMIT = 1800  # seconds for one architecture


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    architecture: str
    side: int
    keep: float
    before: int = 0
    after: int = 0
    gap: float | None = None  # of the largest output; None: nothing was pruned
    left: int = 0  # widths
    result: str = ""

    @staticmethod
    def read(line: str) -> Row | None:
        """The row that a line of the page shows; None for any other line."""
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) != 8 or not cells[2].endswith("%"):
            return None
        name, side, keep, before, after, gap, left, result = cells
        numbers = [int(text.replace(",", "") or 0) for text in (before, after, left)]
        share = int(keep.rstrip("%")) / 100
        return Row(
            name, int(side), share, *numbers[:2], None if gap == "refused" else float(gap), numbers[2], result
        )

    def __str__(self) -> str:
        sizes = " | ".join(f"{count:,}" if count else "" for count in (self.before, self.after))
        gap = "refused" if self.gap is None else f"{self.gap:.0e}"
        left = str(self.left or "")
        return f"| {self.architecture} | {self.side} | {self.keep:.0%} | {sizes} | {gap} | {left} | {self.result} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these architectures")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--write", type=Path, help="the markdown file to write")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the process of one architecture
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        for answer in pruned_and_saved(arguments.one, arguments.folder):
            print(json.dumps(answer), flush=True)
        return
    everything = (*sorted(classifiers()), *(f"timm/{name}" for name in TIMM))
    names = arguments.only or (QUICK if arguments.quick else everything)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for row in matrix(names, Path(folder)):
            rows.append(row)
            print(row, flush=True)
    if arguments.write:
        before = arguments.write.read_text(encoding="utf-8").splitlines() if arguments.only else []
        others = [row for line in before if (row := Row.read(line)) and row.architecture not in names]
        order = {name: number for number, name in enumerate(everything)}
        rows = sorted([*others, *rows], key=lambda row: order.get(row.architecture, len(order)))
        arguments.write.write_text(page(rows), encoding="utf-8")


def matrix(names: list[str] | tuple[str, ...], folder: Path) -> Iterator[Row]:
    """The rows, as they are found out."""
    with start() as loader:
        assert loader.stdin is not None
        assert loader.stdout is not None
        for name in names:
            for answer in _from_its_process(name, folder):
                result = answer["reason"]
                if not result:
                    path = folder / answer["file"]
                    loader.stdin.write(f"{path}\n")
                    loader.stdin.flush()
                    result = _verdict(path, answer["fingerprint"], json.loads(loader.stdout.readline()))
                    path.unlink()
                sizes = answer["before"], answer["after"]
                gap, left = answer.get("gap"), answer.get("left", 0)
                yield Row(name, side(name), answer["keep"], *sizes, gap, left, result)
        loader.stdin.close()


def pruned_and_saved(name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Prunes one architecture to each width; what came of it, or the reason why nothing did."""
    host, shape = Host(), (3, side(name), side(name))
    library, _, own = name.rpartition("/")
    architecture = Architecture(f"model.{library or 'torchvision'}", {"name": own}, shape, 10)
    for keep in KEEP:
        answer: dict[str, Any] = {"keep": keep, "before": 0, "after": 0, "reason": ""}
        answer["file"] = f"{name.replace('/', '-')}-{keep}.safetensors"
        try:
            torch.manual_seed(0)
            model = build(architecture, host).eval()
            answer["before"] = sum(p.numel() for p in model.parameters())
            model, report = prune_channels(model, torch.zeros(1, *shape), keep)
            answer |= {"gap": report.gap, "left": len(report.skipped)}
            answer["after"] = sum(p.numel() for p in model.parameters())
            path = folder / answer["file"]
            save(model, path, architecture, host=host)
            answer["fingerprint"] = fingerprint(model, path)
        except CompressitError as error:
            answer["reason"] = " ".join(error.message.replace("|", "/").split())
        yield answer


def side(name: str) -> int:
    """Pixels of an architecture's square images: few, where it takes few."""
    own = name.rpartition("/")[2]
    return next((side for start, side in SIDES.items() if own.startswith(start)), 64)


def page(rows: list[Row]) -> str:
    """The table as a page of the documentation."""
    saved = [row for row in rows if row.result == "bit-equal"]
    equal = len({row.architecture for row in saved})
    lines = "\n".join(map(str, rows))
    others = len({row.architecture for row in rows}) - equal
    gaps = [row.gap for row in rows if row.gap is not None]
    gap = (
        f"The largest is {max(gaps):.0e}; {len(rows) - len(gaps)} of {len(rows)} were refused."
        if gaps
        else ""
    )
    return f"""# Checkpoint matrix

All classification architectures of torchvision, and some of timm's families, pruned to 70 % and to 50 % of their
channels, saved, and loaded in another process. *bit-equal*: the file holds a printable header and tensors only, and
the loaded model has the saved one's state and outputs to the last bit. {equal} architectures came back; {others} have a
reason why not.

*gap*: the largest difference between the pruned net and the given one with zeros for what was removed, of the largest
output; both with random weights, on random inputs. Above 1e-5 nothing is given out. *left alone*: widths that could
not be pruned rightly and stayed.
{gap}

What stays: torchvision's Swin loses the hidden widths of its MLPs only, since `shifted_window_attention`
(swin_transformer.py:180) makes heads of `C // num_heads`, with C the width of its input: no head can have a size of
its own. ShuffleNetV2 keeps the outputs of its units: `channel_shuffle` views them as two equal halves, which fails
where the output of one unit gets narrower. `prune.structured` notes the line for any net (`skipped`).

Made by `python benchmarks/checkpoint_matrix.py --write docs/checkpoint-matrix.md` (with `--only` for some of them,
which take the place of their rows) on {_today()} with {_machine()}.
Fresh weights, 10 classes, square images of *side* pixels.

| architecture | side | channels kept | parameters before | after | gap | left alone | result |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |
{lines}
"""


def _from_its_process(name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """What `pruned_and_saved` gives in a process of its own, which may crash or never end."""
    command = [sys.executable, __file__, "--one", name, "--folder", str(folder)]
    done = 0
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        lines, reason = process.stdout, f"its process ended with exit code {process.returncode}"
        last = process.stderr.strip().splitlines()[-1:]
        reason += f": {last[0]}" if last else ""
    except subprocess.TimeoutExpired as error:
        lines = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        reason = f"not done after {LIMIT} s"
    for line in lines.splitlines():
        if line.startswith("{"):
            done += 1
            yield json.loads(line)
    for keep in KEEP[done:]:
        yield {"keep": keep, "before": 0, "after": 0, "reason": reason.replace("|", "/")}


def _verdict(path: Path, saved: dict[str, Any], loaded: dict[str, Any]) -> str:
    if "error" in loaded:
        return f"does not load: {loaded['error']}"
    if not holds_no_code(path):
        return "holds more than its header and tensors"
    unequal = [what for what in saved if loaded[what] != saved[what]]
    return f"{' and '.join(unequal)} differ" if unequal else "bit-equal"


def _today() -> str:
    return datetime.date.today().isoformat()


def _machine() -> str:
    from importlib.metadata import version

    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "torchvision", "timm", "torch-pruning")
    )
    return f"{libraries} on {platform.system()} {platform.machine()}, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
