"""A checkpoint's words in a model card: shown as they are, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unicodedata import category

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from compressit.exporting.card import RecipeUsed, block, cell, code, model_card

EVIL = "`` | <script>alert(1)</script> ![x](http://x) [y](z)\n```\n# Title\n\n---\n"
HARMLESS = {
    "heading_open", "heading_close", "paragraph_open", "paragraph_close", "inline", "text", "code_inline",
    "softbreak", "fence", "table_open", "table_close", "thead_open", "thead_close", "tbody_open",
    "tbody_close", "tr_open", "tr_close", "th_open", "th_close", "td_open", "td_close",
}  # fmt: skip


def tokens(text: str) -> Iterator[Token]:
    """Everything a reader of CommonMark with tables finds in a text."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        yield token
        yield from token.children or ()


def facts(word: str) -> dict[str, Any]:
    return {
        "format": {"name": "compressit", "version": 1, "versions": {"torch": word}},
        "architecture": {"name": word, "config": {"a": word}, "owner": word + ".py"},
        "layer_owners": {},
        "edits": [], "reshaped": False, "outputs": 3,
        "inputs": {"shape": [2], "dtype": "float32", "low": 0.0, "high": 1.0},
        "input": {"mean": None, "std": None, "class_names": [word]}, "task": {"uses": word},
        "sizes": {"parameters": 3, "macs": None}, "compact": [], "metrics": {word: 1.0, "nan": None},
        "lineage": [{"stage": word, "uses": word, "config": {word: word}, "data": {"uses": word}}, {"uses": 3}],
        "tensors_sha256": "00",
    }  # fmt: skip


def test_words_that_are_markdown_or_html_stay_words() -> None:
    recipe = RecipeUsed(EVIL, EVIL, EVIL, EVIL, 0, EVIL, EVIL)
    card = model_card(EVIL, facts(EVIL), recipe)
    body = card[card.index("\n---\n\n# ") + 6 :]
    found = list(tokens(body))
    assert {token.type for token in found} <= HARMLESS
    headings = [found[i + 1].content for i, token in enumerate(found) if token.type == "heading_open"]
    assert headings[1:] == ["Sizes", "Metrics", "Lineage", "Recipe"]
    assert sum(token.type == "tr_open" for token in found) == 2 + 3 + 3
    assert all("script" not in token.content for token in found if token.type == "text")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_code_span_shows_any_text(text: str) -> None:
    shown = "".join(c if c.isprintable() or category(c) == "Zs" else repr(c)[1:-1] for c in text) or " "
    (span,) = [token for token in tokens(f"x {code(text)} y") if token.type == "code_inline"]
    assert span.content == shown or span.content.strip() == shown.strip()
    table = list(tokens(f"| a | b |\n| --- | --- |\n| {cell(text)} | y |\n"))
    assert [t.content for t in table if t.type == "code_inline"][-1].strip() == shown.strip()
    assert sum(t.type == "td_open" for t in table) == 2


@given(st.lists(st.sampled_from(["```", "````", "`", "~~~", "a", "\n", " "])).map("".join))
def test_a_block_holds_any_text(text: str) -> None:
    (found,) = tokens(block(text, "yaml"))
    assert (found.type, found.info, found.content.rstrip()) == ("fence", "yaml", text.rstrip())


def test_the_card_says_how_to_get_the_network() -> None:
    for owner, line in {
        "mine.py": 'installed().load_file(Path("mine.py"))  # defines the network',
        "my.nets": "import my.nets  # defines the network",
        "other 1.0": '# needs the package "other 1.0", which defines the network',
    }.items():
        known = facts("x")
        known["architecture"]["owner"] = owner
        assert line in model_card("x", known, None).splitlines()
    known["layer_owners"] = {"svd.Thin": "svd.py", "svd.Thinner": "svd.py", "other.Thin": "thin 2.0"}
    several = model_card("x", known, None)
    assert several.count('load_file(Path("svd.py"))') == 1
    assert '# needs the package "thin 2.0"' in several
    known["layer_owners"] = {}
    known["architecture"]["owner"] = "compressit 0.1.0"
    assert "defines the network" not in model_card("x", known, None)
