"""Structured pruning against the masked oracle: how many nets come out equal, are refused, or are wrong.

    python benchmarks/oracle.py [--only NAME...] [--torchvision] [--scope local global] [--verbose]

The nets and the judge are those of tests/plugins/prune/zoo.py: every net is pruned to half its channels in each scope
and compared with the given net whose removed channels are masked. With `--torchvision` all classifiers of torchvision
are judged instead, on small images (side as in checkpoint_matrix.py). `unhelpful` is a refusal that names no layer or
gives no help. Exits with 1 where one is wrong or unhelpful.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torchvision
from checkpoint_matrix import side
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "plugins" / "prune"))

from zoo import CLASSES, SCOPES, judged, lively
from zoo_attack import ATTACK
from zoo_awkward import AWKWARD
from zoo_peers import PEERS
from zoo_wild import WILD

from compressit_plugins.models.torchvision_nets import classifiers


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these nets")
    parser.add_argument(
        "--torchvision", action="store_true", help="torchvision's classifiers instead of the zoo"
    )
    parser.add_argument("--scope", nargs="+", choices=SCOPES, default=SCOPES)
    parser.add_argument("--time-limit", type=float, default=20.0, help="seconds for tracing one net")
    parser.add_argument("--verbose", action="store_true", help="tell what is refused, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    counts = {scope: Counter[str]() for scope in options.scope}
    for name, build, shape in torchvisions() if options.torchvision else zoo():
        for scope in options.scope:
            if options.only and name not in options.only:
                continue
            started = time.perf_counter()
            verdict = judged(lively(build()), shape, scope=scope, time_limit=options.time_limit)
            counts[scope][verdict.result] += 1
            if options.verbose or verdict.result != "equal":
                took = time.perf_counter() - started
                print(
                    f"{name:24} {scope:6} {verdict.result:9} {took:5.1f} s  {verdict.detail[:300]}",
                    flush=True,
                )
    for scope, found in counts.items():
        print(f"{scope}: " + ", ".join(f"{count} {result}" for result, count in sorted(found.items())))
    return int(any(found["wrong"] + found["unhelpful"] for found in counts.values()))


def zoo() -> Iterator[tuple[str, Callable[[], nn.Module], Sequence[int]]]:
    """The nets of the tests."""
    for cls in (*PEERS, *AWKWARD, *ATTACK, *WILD):
        yield cls.__name__, cls, cls.shape


def torchvisions() -> Iterator[tuple[str, Callable[[], nn.Module], Sequence[int]]]:
    """torchvision's classifiers; one that answers with auxiliary outputs does so only in training."""
    for name in sorted(classifiers()):
        yield (
            name,
            lambda name=name: torchvision.models.get_model(name, weights=None, num_classes=CLASSES),
            (3, side(name), side(name)),
        )


if __name__ == "__main__":
    sys.exit(main())
