"""Layers that need more than their tensors: saved, and loaded in a process that did not save them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from compressit.checkpoint.header import read_header
from compressit.checkpoint.model import load, save
from compressit.host.plugins import Host

from .elsewhere import fingerprint, loaded_elsewhere
from .samples import CONV, HEADS, MLP, TIED, TINY, TOKENS

Make = Callable[..., nn.Module]


def test_narrowed_and_replaced_layers_come_back_bit_equal_in_another_process(
    make: Make, host: Host, tmp_path: Path
) -> None:
    """Each model is saved as an edit of a wider one than it is, or of one with other layers."""
    low_rank = host.module_types()[0].cls()
    replaced = make(MLP)
    replaced[1], replaced[3] = low_rank(16, 3, 12), low_rank(12, 2, 8)
    frozen = make(TOKENS)
    frozen.norm.requires_grad_(False)
    cases = {
        "attention, layer norm, grouped": (TOKENS, make(replace(TOKENS, config={"width": 12, "heads": 3}))),
        "depthwise, batch norm": (CONV, make(replace(CONV, config={"channels": [6, 4]}))),
        "tied": (TIED, make(TIED)),
        "unsaved buffer": (HEADS, make(HEADS)),
        "replaced": (MLP, replaced),
        "frozen": (TOKENS, frozen),
    }
    paths = {case: tmp_path / f"{number}.safetensors" for number, case in enumerate(cases)}
    for case, (architecture, model) in cases.items():
        save(model, paths[case], architecture, host=host)
    again = dict(zip(cases, loaded_elsewhere(list(paths.values()), [TINY]), strict=True))
    assert again == {case: fingerprint(model, paths[case]) for case, (_, model) in cases.items()}


def test_attention_and_norms_are_told_their_new_widths(make: Make, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(make(replace(TOKENS, config={"width": 12, "heads": 3})), path, TOKENS, host=host)
    loaded = load(path, host=host)
    attention, patches = loaded.attention, loaded.patches
    assert (attention.embed_dim, attention.num_heads, attention.head_dim) == (12, 3, 4)
    assert (loaded.norm.normalized_shape, loaded.group_norm.num_channels) == ((12,), 12)
    assert (patches.out_channels, patches.groups, patches.weight.shape[0]) == (12, 2, 12)
    assert "positions" not in read_header(path).tensors
    assert loaded.positions.shape == (9, 1)
