from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import warm
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

import compressit
from compressit.contract.context import DataContext
from compressit.errors import CompressitError
from compressit.host.plugins import installed
from compressit.recipe.load import load_recipe
from compressit.testing import Subject, checks_for, outcomes
from compressit_plugins.data.class_folders import find
from compressit_plugins.data.folder import Folder, FolderConfig

RANDOM = np.random.default_rng(0)
SHAPES = [(20, 20), (31, 20), (17, 40), (9, 9), (100, 16), (16, 23)]  # height, width


def _pixels(height: int, width: int) -> np.ndarray:
    coarse = RANDOM.integers(0, 256, (3, 3, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def _fill(folder: Path, classes: Mapping[str, int], endings: tuple[str, ...] = (".png", ".jpg")) -> None:
    """So many images of each class, of several sizes and formats."""
    for name, count in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = Image.fromarray(_pixels(*SHAPES[number % len(SHAPES)]))
            image.save(folder / name / f"{number:03}{endings[number % len(endings)]}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Class folders of 30 images each."""
    _fill(tmp_path / "images", {"cat": 30, "dog": 30})
    return tmp_path / "images"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))


def _dataset(root: Path, **options: Any) -> Folder:
    return Folder(FolderConfig(root=str(root), **{"size": 8, **options}))


def _loaded(root: Path, **options: Any) -> Any:
    return _dataset(root, **options).load(DataContext(root, print))


def _one(folder: Path, image: Image.Image, name: str = "x.png", **options: Any) -> np.ndarray:
    """What becomes of an image, (channels, size, size)."""
    _fill(folder, {"a": 1, "b": 1})
    image.save(folder / "a" / f"!{name}")  # the first
    return _loaded(folder, **options).train[0][0].numpy()


# Which files are which


def test_class_folders_are_known_without_opening_an_image(root: Path) -> None:
    (root / "cat" / "000.png").write_bytes(b"no image")
    dataset = _dataset(root)
    assert (dataset.class_names, dataset.classes, dataset.train_size) == (("cat", "dog"), 2, 60)
    assert dataset.inputs.shape == (3, 8, 8)
    assert _dataset(root, grey=True).inputs.shape == (1, 8, 8)
    assert "no test images" in dataset.doubts()[0]


def test_planning_imports_neither_torch_nor_pillow(root: Path) -> None:
    code = f"""
import sys
from compressit_plugins.data.folder import Folder, FolderConfig
plugin = Folder(FolderConfig(root={str(root)!r}, size=8, test=0.2))
plugin.fingerprint(), plugin.inputs, plugin.classes, plugin.class_names, plugin.train_size, plugin.doubts()
assert not {{"torch", "numpy", "PIL"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_folders_of_splits_are_those_splits(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("test", 3), ("validation", 2)):
        _fill(tmp_path / split, {"b": count, "a": count})
    sources = _loaded(tmp_path)
    assert [len(s) for s in (sources.train, sources.test, sources.validation)] == [12, 6, 4]
    assert _dataset(tmp_path).has_validation
    reference = ImageFolder(tmp_path / "train")
    assert [sources.train[i][1] for i in range(12)] == reference.targets
    assert _dataset(tmp_path).class_names == tuple(reference.classes)


def test_test_images_are_cut_of_each_class_its_part(tmp_path: Path) -> None:
    _fill(tmp_path, {"a": 20, "b": 10, "c": 1}, (".png",))
    found = find(str(tmp_path), 0.2)
    train, test = ([i.name for i in found.splits[name]] for name in ("train", "test"))
    assert sorted(train + test) == sorted(i.name for i in find(str(tmp_path), 0).splits["train"])
    assert len(test) == round(0.2 * 31) == 6
    assert [sum(name.startswith(c) for name in test) for c in "abc"] == [4, 2, 0]
    assert train == sorted(train)
    assert [i.name for i in find(str(tmp_path), 0.2).splits["test"]] == test, "the same ones every time"
    assert test != sorted(train + test)[: len(test)]
    assert _dataset(tmp_path, test=0.2).train_size == 25
    assert _dataset(tmp_path, test=1.0).train_size == 30


@pytest.mark.parametrize("test", [3, 5, 17, 28])
def test_a_cut_has_as_many_as_asked_and_leaves_each_class_one(tmp_path: Path, test: int) -> None:
    _fill(tmp_path, {"a": 20, "b": 10, "c": 1}, (".png",))
    splits = find(str(tmp_path), test).splits
    assert len(splits["test"]) == test
    assert {image.label for image in splits["train"]} == {0, 1, 2}
    assert {image.label for image in splits["test"]} == {0, 1}


def test_other_files_are_ignored_and_told(root: Path) -> None:
    (root / "readme.txt").write_text("about")
    (root / "cat" / "list.csv").write_text("1")
    (root / "cat" / "._000.png").write_bytes(b"what a Mac leaves")
    (root / ".ipynb_checkpoints").mkdir()
    dataset = _dataset(root)
    assert dataset.train_size == 60
    assert dataset.class_names == ("cat", "dog")
    assert "2 files below root are no images" in dataset.doubts()[1]
    assert "list.csv" in dataset.doubts()[1]


def test_links_to_files_and_class_folders_are_followed_and_no_others(root: Path, tmp_path: Path) -> None:
    _fill(tmp_path / "elsewhere", {"fish": 2})
    (root / "fish").symlink_to(tmp_path / "elsewhere" / "fish")
    (root / "fish" / "linked.png").symlink_to(root / "cat" / "000.png")
    (root / "fish" / "round").symlink_to(root)
    dataset = _dataset(root)
    assert (dataset.classes, dataset.train_size) == (3, 63)
    assert "round" in dataset.doubts()[1]
    (root / "fish" / "gone.png").symlink_to(root / "nowhere")
    with pytest.raises(CompressitError, match=r"gone\.png"):
        _ = _dataset(root).classes


def _layout(root: Path, *folders: str) -> None:
    for folder in folders:
        _fill(root / folder, {".": 1})


LAYOUTS: list[tuple[tuple[str, ...], str, str]] = [
    (("a",), "one class folder", "did you mean"),
    (("train/a", "train/b", "val/a", "val/b"), "train and val", "rename"),
    (("train/a", "train/b", "test/a"), "train has b, which test lacks", "same classes"),
    (("train/a", "test/a", "test/b"), "test has b, which train lacks", "same classes"),
    (("test/a", "test/b", "validation/a"), "no folder train", "both"),
    (("training/a", "training/b", "testing/a", "testing/b"), "as splits do", "train, test, validation"),
]


@pytest.mark.parametrize(("folders", "told", "hint"), LAYOUTS)
def test_another_layout_is_told(tmp_path: Path, folders: tuple[str, ...], told: str, hint: str) -> None:
    _layout(tmp_path, *folders)
    with pytest.raises(CompressitError, match=told) as caught:
        _ = _dataset(tmp_path).train_size
    assert hint in str(caught.value.hint)


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(CompressitError, match="there is no folder"):
        _ = _dataset(tmp_path / "none").classes
    (tmp_path / "file").write_text("")
    with pytest.raises(CompressitError, match="not a folder"):
        _ = _dataset(tmp_path / "file").classes
    with pytest.raises(CompressitError, match="no class folder"):
        _ = _dataset(tmp_path).classes
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(CompressitError, match="holds no image"):
        _ = _dataset(tmp_path).classes
    _fill(tmp_path, {"a": 1})
    with pytest.raises(CompressitError, match="has no image of b"):
        _ = _dataset(tmp_path).classes


def test_a_cut_that_cannot_be_is_told(root: Path) -> None:
    with pytest.raises(CompressitError, match="rounds to none"):
        _ = _dataset(root, test=0.001).train_size
    with pytest.raises(CompressitError, match="leaves less than one"):
        _ = _dataset(root, test=59).train_size
    with pytest.raises(ValueError, match="whole number"):
        _dataset(root, test=1.5)


def test_a_class_whose_name_is_no_text_is_refused_and_a_file_may_have_any_name(root: Path) -> None:
    os.rename(root / "cat" / "000.png", os.fsencode(root / "cat") + b"/\xff\x1b[31m.png")
    sources = _loaded(root)
    assert len(sources.train) == 60
    assert len({_dataset(root).fingerprint() for _ in range(2)}) == 1
    assert all(x.shape == (3, 8, 8) for x, _ in (sources.train[i] for i in range(60)))
    os.rename(root / "cat", os.fsencode(root) + b"/\xff")
    with pytest.raises(CompressitError, match="not UTF-8") as caught:
        _ = _dataset(root).classes
    assert str(caught.value).isprintable() or "\\udcff" in str(caught.value)


# What becomes of an image


@pytest.mark.parametrize("size", [1, 7, 8, 24])
def test_pixels_are_those_of_torchvision(tmp_path: Path, size: int) -> None:
    _fill(tmp_path, {"a": 6, "b": 6})
    steps = [transforms.Resize(size), transforms.CenterCrop(size), transforms.PILToTensor()]
    reference = ImageFolder(tmp_path, transforms.Compose(steps))
    train = _loaded(tmp_path, size=size).train
    assert len(train) == len(reference)
    for index in range(len(train)):
        (x, y), (expected, label) = train[index], reference[index]
        assert y == label
        assert x.dtype == torch.uint8
        height, width = SHAPES[index % len(SHAPES)]
        apart = (x.int() - expected.int()).abs()
        assert apart.max() <= (height != width), "a part of an image may be rounded otherwise"
        assert apart.float().mean() < 0.1


def test_a_long_strip_takes_no_memory_for_what_is_cropped(tmp_path: Path) -> None:
    strip = np.full((1, 60_000, 3), 9, np.uint8)  # resized as a whole: 3.8 gigapixels
    assert np.all(_one(tmp_path, Image.fromarray(strip), size=256) == 9)


def test_an_image_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    pixels = _pixels(8, 8)
    for orientation, turned in (
        (1, pixels),
        (3, pixels[::-1, ::-1]),
        (6, np.rot90(pixels, -1)),
        (8, np.rot90(pixels)),
    ):
        exif = Image.Exif()
        exif[0x0112] = orientation
        _fill(tmp_path, {"a": 1, "b": 1})
        Image.fromarray(pixels).save(tmp_path / "a" / "000.png", exif=exif)
        x, _ = _loaded(tmp_path).train[0]
        assert np.array_equal(x.permute(1, 2, 0).numpy(), turned), orientation


GREY = _pixels(8, 8)[..., 0]
SIXTEEN = (GREY.astype(np.uint16) * 257) + 100


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_become_eight(tmp_path: Path, name: str) -> None:
    x = _one(tmp_path, Image.fromarray(np.minimum(SIXTEEN, 65535)), name)
    assert np.array_equal(x, np.stack([GREY] * 3))


def test_images_of_every_kind_become_red_green_and_blue(tmp_path: Path) -> None:
    colours = Image.fromarray(_pixels(8, 8))
    kinds = {
        "grey": (Image.fromarray(GREY), np.stack([GREY] * 3)),
        "black and white": (Image.fromarray(GREY > 99), np.stack([(GREY > 99) * 255] * 3)),
        "palette": (colours.quantize(16), np.asarray(colours.quantize(16).convert("RGB")).transpose(2, 0, 1)),
    }
    for image, expected in kinds.values():
        assert np.array_equal(_one(tmp_path, image), expected)
    ink = colours.convert("CMYK")
    assert np.array_equal(_one(tmp_path, ink, "a.tif"), np.asarray(ink.convert("RGB")).transpose(2, 0, 1))


def test_transparent_pixels_are_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)  # black, and transparent on the left
    pixels[:, 4:, 3] = 255
    x = _one(tmp_path, Image.fromarray(pixels))
    assert np.all(x[:, :, :4] == 255)
    assert np.all(x[:, :, 4:] == 0)
    half = np.dstack([np.full((8, 8), 100, np.uint8), np.full((8, 8), 51, np.uint8)])
    assert np.all(np.abs(_one(tmp_path, Image.fromarray(half), grey=True).astype(int) - (20 + 204)) <= 1)
    Image.fromarray(GREY * 0).quantize(2).save(tmp_path / "a" / "!x.png", transparency=0)
    assert np.all(_loaded(tmp_path).train[0][0].numpy() == 255)


def test_grey_is_the_luma_of_the_colours(tmp_path: Path) -> None:
    pixels = _pixels(8, 8)
    x = _one(tmp_path, Image.fromarray(pixels), grey=True)
    luma = pixels @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    assert x.shape == (1, 8, 8)
    assert np.abs(x[0] - luma).max() <= 1


# What cannot be decoded


def _truncated(root: Path) -> Path:
    path = root / "dog" / "001.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    return path


def _as_pipe(root: Path) -> Path:
    path = root / "dog" / "001.jpg"
    path.unlink()
    os.mkfifo(path)
    return path


def _as_text(root: Path) -> Path:
    (root / "dog" / "001.jpg").write_text("<html>not found</html>")
    return root / "dog" / "001.jpg"


def _as_script(root: Path) -> Path:
    (root / "dog" / "001.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    )  # runs ghostscript
    return root / "dog" / "001.jpg"


def _as_floats(root: Path) -> Path:
    path = root / "dog" / "001.tif"
    (root / "dog" / "001.jpg").unlink()
    Image.fromarray(np.ones((9, 9), np.float32)).save(path)
    return path


BROKEN = [_truncated, _as_pipe, _as_text, _as_script, _as_floats]


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_decoded_is_named_or_left_out_and_told(
    root: Path, broken: Callable[[Path], Path], workers: int
) -> None:
    path = broken(root)
    options = {"root": root, "size": 8, "test": 0.2, "workers": workers, "announce": lambda text: None}
    with pytest.raises(CompressitError) as caught:
        compressit.data("data.folder", **options)
    assert str(path) in caught.value.message
    assert "on_error: skip" in str(caught.value.hint)
    for _ in range(2):  # the second time from the cache
        data = compressit.data("data.folder", **options, on_error="skip")
        assert len(data.train) + len(data.test) == 59
        (told,) = [doubt for doubt in data.doubts if "left out" in doubt]
        assert told.startswith("1 of ")
        assert str(path.relative_to(root)) in told


def test_a_file_that_vanishes_is_an_error_even_where_broken_ones_are_left_out(root: Path) -> None:
    sources = _loaded(root, on_error="skip")
    (root / "cat" / "000.png").unlink()
    with pytest.raises(CompressitError, match=r"000\.png is gone"):
        sources.train[0]


def test_no_image_that_can_be_decoded_is_an_error(root: Path) -> None:
    for path in root.rglob("*.*"):
        path.write_bytes(b"broken")
    with pytest.raises(CompressitError, match="none of the 60 examples can be read"):
        compressit.data("data.folder", root=root, size=8, on_error="skip", announce=lambda text: None)


# With the host


def test_changed_files_are_other_data(root: Path) -> None:
    before = _dataset(root).fingerprint()
    assert _dataset(root).fingerprint() == before
    first = compressit.data("data.folder", root=root, size=8, announce=lambda text: None)
    black = Image.new("RGB", (9, 9))
    black.save(root / "cat" / "000.png")
    assert _dataset(root).fingerprint() != before
    second = compressit.data("data.folder", root=root, size=8, announce=lambda text: None)
    x, y = next(first.train.ordered(60)), next(second.train.ordered(60))
    assert not torch.equal(x[0][0], y[0][0])
    assert float(y[0][0].max()) == 0
    assert torch.equal(x[0][1:], y[0][1:])


OPTIONS = {"validation": 0.1, "scale": "imagenet", "augment": ["flip", {"crop": 2}]}


def test_batches_are_those_of_the_same_pixels_in_memory(root: Path, tmp_path: Path) -> None:
    stored = _loaded(root, test=0.2)
    arrays = {}
    for name, files in (("train", stored.train), ("test", stored.test)):
        pairs = [files[index] for index in range(len(files))]
        arrays[f"{name}_x"] = np.stack([x.numpy() for x, _ in pairs])
        arrays[f"{name}_y"] = np.array([y for _, y in pairs])
    np.savez(tmp_path / "same.npz", **arrays)
    quiet = {"announce": lambda text: None}
    one = compressit.data("data.folder", root=root, size=8, test=0.2, **OPTIONS, **quiet)
    other = compressit.data("data.tensors", file=tmp_path / "same.npz", **OPTIONS, **quiet)
    for name in ("train", "validation", "test"):
        for epoch in range(2):
            batches = [data.split(name).batches(16, epoch) for data in (one, other)]
            for (x, y), (x2, y2) in zip(*batches, strict=True):
                assert torch.equal(x, x2)
                assert torch.equal(y, y2)


RECIPE = """
version: 1
name: own
data: {uses: data.folder, with: {root: images, size: 16, test: 0.2, validation: 0.1, scale: imagenet,
  augment: [flip, {crop: 2}], workers: WORKERS}}
model: {uses: model.convnet}
stages: {train: {uses: train.supervised, with: {epochs: 2, batch_size: 16}}}
evaluate: [eval.accuracy]
"""


def test_a_run_of_workers_ends_with_the_same_numbers_twice(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for workers in (0, 1):
        monkeypatch.setenv("COMPRESSIT_STORE", str(tmp_path / f"store{workers}"))
        monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / f"cache{workers}"))
        path = tmp_path / "own.yaml"
        path.write_text(RECIPE.replace("WORKERS", str(workers)))
        elsewhere = tmp_path / "elsewhere"  # `root` starts from the recipe
        elsewhere.mkdir(exist_ok=True)
        out = str(tmp_path / f"out{workers}")
        done = warm.python("-m", "compressit", "run", str(path), "--out", out, cwd=elsewhere, env=os.environ)
        assert done.returncode == 0, done.stdout + done.stderr
        results = json.loads((tmp_path / f"out{workers}" / "results.json").read_text())
        found.append([row["metrics"] for row in results["rows"]])
    assert found[0] == found[1]
    assert found[0][-1]["validation_accuracy"] >= 0


def test_check_says_what_is_wrong_with_the_folder(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(RECIPE.replace("WORKERS", "0").replace("images", "imagse"))
    with pytest.raises(CompressitError, match=r"there is no folder .*imagse") as caught:
        load_recipe(path, host=installed())
    assert "bug" not in str(caught.value)
    path.write_text(RECIPE.replace("WORKERS", "0").replace("test: 0.2, ", ""))
    assert any("no test images" in doubt for doubt in load_recipe(path, host=installed()).doubts())


@pytest.mark.usefixtures("warm_workers")
def test_it_conforms(tmp_path: Path) -> None:
    _fill(tmp_path / "images", {"a": 60, "b": 60})
    subject = Subject.of("data.folder", {"root": str(tmp_path / "images"), "size": 8, "test": 0.2})
    assert [o for o in outcomes(checks_for(subject), subject) if o.status == "failed"] == []


def test_the_kit_asks_for_the_folder() -> None:
    with pytest.raises(CompressitError, match="cannot be checked without root, size") as caught:
        Subject.of("data.folder")
    assert "--set option=value" in str(caught.value.hint)
