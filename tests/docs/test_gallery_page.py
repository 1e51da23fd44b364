"""docs/gallery.md: a section for each recipe of the chapter, with what its full run gave."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent
RECIPES = sorted((ROOT / "examples" / "chapter20").glob("*.yaml"))


@pytest.fixture(scope="module")
def gallery() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_gallery", ROOT / "docs" / "gallery.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_not_stale(gallery: ModuleType) -> None:
    assert gallery.page() == (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8"), (
        "run `python docs/gallery.py`"
    )


def test_every_figure_of_the_chapter_has_its_recipe() -> None:
    numbers = [int(recipe.stem.split("_")[0]) for recipe in RECIPES if recipe.stem[0].isdigit()]
    assert numbers == list(range(1, 17))


def test_a_run_is_kept_with_its_picture_and_its_checks(
    gallery: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import compressit

    text = """
version: 1
name: tiny
data: {uses: data.synthetic, with: {train: 60, test: 30}}
model: {uses: model.mlp, with: {hidden: [4]}}
stages: {train: {uses: train.supervised, with: {epochs: 2}}}
evaluate: [eval.accuracy]
report:
  - uses: report.figure
    with:
      plots: [{curve: [loss]}]
      checks: [{what: a loss, published: none, take: train_loss, within: [0, null]}]
"""
    recipe = tmp_path / "recipes" / "01_tiny.yaml"
    recipe.parent.mkdir()
    recipe.write_text(f"# Words at its head.\n{text.strip()}\n", encoding="utf-8")
    compressit.run(recipe, out=tmp_path / "run", store=tmp_path / "store")
    for name in ("KEPT", "IMAGES", "RECIPES"):
        monkeypatch.setattr(gallery, name, tmp_path / name.lower())
    assert "not run yet" in gallery.page()
    gallery.keep(tmp_path / "run")
    page = gallery.page()
    assert "Words at its head." in page
    assert "1 of 1" in page
    assert "| a loss | within | none |" in page
    assert (tmp_path / "images" / "01_tiny.png").stat().st_size > 1000
