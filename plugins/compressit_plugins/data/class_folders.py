"""Finds the images of class folders. Opens no image and does not import torch."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from compressit import CompressitError, Streams, counted, shares

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Those of torchvision's ImageFolder; in capitals too."""
SPLITS = ("train", "test", "validation")


@dataclass(frozen=True, slots=True)
class Image:
    """A file with an image, as it was when it was found."""

    name: str  # relative to the root
    label: int
    size: int  # bytes
    changed: int  # nanoseconds: the file's mtime


@dataclass(frozen=True)
class Found:
    """What a root holds."""

    class_names: tuple[str, ...]
    splits: Mapping[str, tuple[Image, ...]]  # those there are, of SPLITS; in the order of classes and names
    cut: bool  # whether the test images were cut from the training images
    others: tuple[str, ...]  # files that are no images of a class, but for hidden ones

    def digest(self) -> str:
        """sha256 of class names, file names, sizes and times of change."""
        found = hashlib.sha256(repr(self.class_names).encode())
        for split, images in self.splits.items():
            for image in images:
                facts = f"{split}\0{image.name}\0{image.label} {image.size} {image.changed}\0"
                found.update(facts.encode("utf-8", "surrogateescape"))
        return found.hexdigest()


def find(root: str, test: float) -> Found:
    """The images below `root`, which holds `train` and perhaps `test` and `validation`, or class folders alone.

    `test`: the fraction (below 1) or number of images that are cut off as test images; 0: none. Raises
    CompressitError for any other layout, a folder that cannot be read, a class without training images and a root
    of fewer than two classes.
    """
    others: list[str] = []
    top = _folders(root, "", others)
    parts = [name for name in SPLITS if name in top]
    divided = "train" in top and bool(_folders(root, "train", []))
    if not divided:
        if parts and any(_folders(root, part, []) for part in parts):
            raise CompressitError(
                f"{root} has a folder {_listed(parts)} and no folder train", "it takes both"
            )
        names, images = _class_folder(root, "", top, others)
        _check_classes(root, "", names, images)
        _check_depth(root, names, images)
        train, tested = _cut(images, test)
        splits = {"train": train, **({"test": tested} if tested else {})}
        return Found(names, splits, bool(tested), tuple(others))
    if odd := sorted(set(top) - set(parts)):
        raise CompressitError(
            f"{root} holds train and {_listed(odd)}: beside train only test and validation can stand",
            "rename or remove what is neither",
        )
    if test and "test" in parts:
        raise CompressitError(
            f"{root} has a folder test, and the option `test` cuts other test images",
            "leave out one of the two",
        )
    found: dict[str, tuple[Image, ...]] = {}
    names = ()
    for part in parts:  # train is the first
        own, found[part] = _class_folder(root, part, _folders(root, part, others), others)
        names = names or own
        if own != names:
            raise CompressitError(
                f"{root}: {_differences(names, own, part)}", "every split has the same classes"
            )
    _check_classes(root, "train", names, found["train"])
    if empty := [part for part in parts if not found[part]]:
        raise CompressitError(
            f"{os.path.join(root, empty[0])} holds no image", "remove the folder, or fill it"
        )
    if not test:
        return Found(names, found, False, tuple(others))
    found["train"], found["test"] = _cut(found["train"], test)
    return Found(names, found, True, tuple(others))


def _class_folder(
    root: str, part: str, classes: Sequence[str], others: list[str]
) -> tuple[tuple[str, ...], tuple[Image, ...]]:
    """The classes below `part` of the root, sorted, and their images."""
    names = tuple(sorted(classes))
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise CompressitError(
                f"{root}: the name of the class folder {name} is not UTF-8", "rename the folder"
            ) from None
    images = (
        image
        for label, name in enumerate(names)
        for image in sorted(_images(root, os.path.join(part, name), label, others), key=lambda i: i.name)
    )
    return names, tuple(images)


def _images(root: str, folder: str, label: int, others: list[str]) -> Iterator[Image]:
    """The images in a folder and the folders in it. Links to files are followed, links to folders are not: they may
    lead round in circles."""
    place = os.path.join(folder, "")
    for entry in _entries(root, folder):
        name = place + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _images(root, name, label, others)
        elif not entry.name.lower().endswith(EXTENSIONS) or entry.is_dir():
            others.append(name)
        else:
            try:
                facts = entry.stat()
            except OSError as error:  # a link that leads nowhere
                raise CompressitError(
                    f"{entry.path}: {error.strerror}", "remove or repair the link"
                ) from error
            yield Image(name, label, facts.st_size, facts.st_mtime_ns)


def _folders(root: str, part: str, others: list[str]) -> list[str]:
    """The names of the folders in a folder, and of links to folders; what else is there goes to `others`."""
    found: list[str] = []
    for entry in _entries(root, part):
        if entry.is_dir():
            found.append(entry.name)
        else:
            others.append(os.path.join(part, entry.name))
    return found


def _entries(root: str, folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder, without what systems leave behind: .DS_Store, ._cat.jpg, .ipynb_checkpoints."""
    path = os.path.join(root, folder)
    try:
        with os.scandir(path) as entries:
            seen = (entry for entry in entries if not entry.name.startswith("."))
            return sorted(seen, key=lambda entry: entry.name)
    except FileNotFoundError:
        hint = "`root` is relative to the recipe, in --set to the current folder"
        raise CompressitError(f"there is no folder {path}", hint) from None
    except NotADirectoryError:
        raise CompressitError(f"{path} is not a folder", "unpack an archive first") from None
    except (OSError, ValueError) as error:  # not allowed; a NUL in the path
        raise CompressitError(
            f"the folder {path} cannot be read: {getattr(error, 'strerror', error)}"
        ) from error


def _check_classes(root: str, part: str, names: Sequence[str], images: Sequence[Image]) -> None:
    """Raises CompressitError for fewer than two classes, and for one without images."""
    place = os.path.join(root, part) if part else root
    if len(names) < 2:
        has = f"one class folder, {names[0]}" if names else "no class folder"
        raise CompressitError(
            f"{place} has {has}: a classification takes two or more",
            f"did you mean {os.path.join(place, names[0])}?"
            if names
            else "each class has a folder, named after it",
        )
    counts = Counter(image.label for image in images)
    if not counts:
        raise CompressitError(
            f"{place} holds no image in its {len(names)} class folders",
            f"images end in {', '.join(EXTENSIONS)}",
        )
    if empty := [name for label, name in enumerate(names) if not counts[label]]:
        raise CompressitError(
            f"{place} has no image of {_listed(empty)}",
            f"remove empty class folders; images end in {', '.join(EXTENSIONS)}",
        )


def _check_depth(root: str, names: Sequence[str], images: Sequence[Image]) -> None:
    """Raises CompressitError where what was taken for classes are splits of another name: all hold the same folders."""
    below: dict[int, set[str]] = {}
    for image in images:
        below.setdefault(image.label, set()).add(
            os.path.dirname(image.name).partition(os.sep)[2].split(os.sep)[0]
        )
    first = below[0]
    if len(first) > 1 and "" not in first and all(folders == first for folders in below.values()):
        raise CompressitError(
            f"{root}: {_listed(names)} all hold the folders {_listed(sorted(first))}, as splits do",
            f"call splits {', '.join(SPLITS)}",
        )


def _differences(train: Sequence[str], own: Sequence[str], part: str) -> str:
    found: list[str] = []
    for here, there, less, more in (("train", part, own, train), (part, "train", train, own)):
        if missing := sorted(set(more) - set(less)):
            found.append(f"{here} has {_listed(missing)}, which {there} lacks")
    return "; ".join(found)


def _listed(names: Sequence[str], most: int = 3) -> str:
    more = f" and {counted(len(names) - most, 'other')}" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _cut(images: Sequence[Image], test: float) -> tuple[tuple[Image, ...], tuple[Image, ...]]:
    """Training and test images, both in their old order: of each class its part, chosen by its files' names.

    A class keeps at least one training image; it has a test image where it has two images and `test` suffices.
    Raises CompressitError when no test image, or no training image, would be left.
    """
    if not test:
        return tuple(images), ()
    wanted = round(test * len(images)) if test < 1 else int(test)
    counts = Counter(image.label for image in images)
    if not wanted or wanted > len(images) - len(counts):
        what = (
            "rounds to none" if not wanted else f"leaves less than one of each of the {len(counts)} classes"
        )
        raise CompressitError(
            f"the data's `test: {test:g}` {what} of {counted(len(images), 'image')}", "change `test`"
        )
    streams = Streams(0, "data.folder")
    taken: set[str] = set()
    for label, share in _taken(dict(sorted(counts.items())), wanted).items():
        names = [image.name for image in images if image.label == label]
        taken.update(sorted(names, key=lambda name: streams.number(f"test {name}"))[:share])
    return (
        tuple(image for image in images if image.name not in taken),
        tuple(image for image in images if image.name in taken),
    )


def _taken(counts: Mapping[int, int], wanted: int) -> dict[int, int]:
    """How many of each class are test images: in proportion, by largest remainders, but for one that each class keeps
    and, where `wanted` suffices, one that each gives."""
    several = [label for label, count in counts.items() if count > 1]
    given = 1 if wanted >= len(several) else 0
    free = [counts[label] - 1 - given for label in several]
    more = shares(free, wanted - given * len(several))
    return {label: given + share for label, share in zip(several, more, strict=True)}
