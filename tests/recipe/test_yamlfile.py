"""YAML to a tree with places: what is read how, and every way in which a file can be wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from compressit.errors import Mark, Problem, RecipeError
from compressit.recipe.yamlfile import MAX_BYTES, parse_value, parse_yaml, read_text


def read(text: str):
    problems: list[Problem] = []
    node = parse_yaml(text, "r.yaml", problems)
    assert not problems, [str(p) for p in problems]
    return node


def faults(text: str) -> list[str]:
    """`line:column: message` of everything that is wrong with a text."""
    problems: list[Problem] = []
    try:
        parse_yaml(text, "r.yaml", problems)
    except RecipeError as error:
        problems = list(error.problems)
    return [str(p).split("\n")[0].removeprefix("r.yaml:") for p in problems]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 0.001), ("1E3", 1000.0), (".5", 0.5), ("3.", 3.0), ("-.inf", -math.inf),
        ("-7", -7), ("+7", 7), ("007", 7), ("0x1F", 31), ("0o17", 15), ("1_000", "1_000"), ("0b11", "0b11"),
        ("1:30", "1:30"), ("2024-01-31", "2024-01-31"), ("e5", "e5"), (".", "."),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("true", True), ("False", False),
        ("~", None), ("null", None), ("'1'", "1"), ('"true"', "true"), ("!!str 5", "5"),
        ("[1, {a: b}]", [1, {"a": "b"}]),
    ],
)  # fmt: skip
def test_scalars_are_yaml_1_2_core(written: str, value: object):
    problems: list[Problem] = []
    found = parse_value(written, Mark("--set x"), problems).plain()
    assert (found, type(found), problems) == (value, type(value), [])


@pytest.mark.parametrize("written", ["", " ", "# words", "---", "{x: }", "{x}", "[1, {x: }]", "-"])
def test_a_setting_in_which_nothing_stands_for_a_value_is_refused(written: str):
    with pytest.raises(RecipeError, match="--set x: has no value") as caught:
        parse_value(written, Mark("--set x"), [])
    assert "null" in str(caught.value.problems[0].hint)


def test_a_recipe_may_leave_a_value_empty_which_is_where_its_key_is():
    root = read("a:\nb: [1, ~]\nc: {d}\ne: ''\n")
    assert root.plain() == {"a": None, "b": [1, None], "c": {"d": None}, "e": ""}
    assert str(root.at("a").mark) == "r.yaml:1:1"


def test_every_value_and_key_knows_its_place():
    root = read("a: 1\nb:\n  - x\n  - {c: [2, 3]}\n")
    assert root.plain() == {"a": 1, "b": ["x", {"c": [2, 3]}]}
    inner = root.at("b").items[1]
    assert str(inner.mark) == "r.yaml:4:5"
    assert str(inner.keys["c"]) == "r.yaml:4:6"
    three = inner.at("c").items[1]
    assert (str(three.mark), three.mark.snippet) == ("r.yaml:4:13", "  - {c: [2, 3]}")


def test_an_alias_is_the_anchored_value_with_the_place_where_it_is_written():
    root = read("a: &x {lr: 1}\nb: *x\n")
    assert root.at("b") is root.at("a")
    assert str(root.at("b").at("lr").mark) == "r.yaml:1:12"
    assert read("a: &x 1\nb: &x 2\nc: *x\n").plain() == {"a": 1, "b": 2, "c": 2}, "it may be given anew"


def test_a_byte_order_mark_and_windows_line_ends_keep_the_places(tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    mark = read(read_text(path)).at("b").mark
    assert (mark.line, mark.column, mark.snippet) == (2, 4, "b: 2")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: [1, 2", "1:9: invalid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n b: 2", "2:3: invalid YAML: mapping values are not allowed here"),
        ("a: 1\nb: 'x\n", "3:1: invalid YAML: found unexpected end of stream"),
        ("a:\n\tb: 1\n", "2:1: a tab in the indentation"),
        ("a:\n  b: 1\n  \tc: 2\n", "3:3: a tab in the indentation"),
        ("a: 1\nb: 2\na: 3\n", "3:1: duplicate key 'a'"),
        ("x: {a: 1, a: 1}\n", "1:11: duplicate key 'a'"),
        ("x: {1: 2}\n", "1:5: a key must be text"),
        ("? [a]\n: 2\n", "1:3: a key must be text"),
        ("null: 2\n", "1:1: a key must be text"),
        ("a: !!python/object:os.system x\n", "1:4: the tag !!python/object:os.system is not allowed"),
        ("a: !!python/object/apply:os.system [x]\n", "1:4: the tag !!python/object/apply:os.system"),
        ("a: !thing {b: 1}\n", "1:4: the tag !thing is not allowed"),
        ("a: &x [*x]\n", "1:4: &x contains itself"),
        ("a: *x\n", "1:4: invalid YAML: found undefined alias 'x'"),
        ("a: &x {b: 1}\nc: {<<: *x}\n", "2:5: merge keys (<<) are not supported"),
        ("", " the file is empty"),
        ("# only words\n", " the file is empty"),
        ("---\n", " the file is empty"),
        ("- a\n- b\n", "1:1: a recipe is a mapping of keys to values, not a list"),
        ("hello\n", "1:1: a recipe is a mapping of keys to values, not a single value"),
        ("a: 1\n---\nb: 2\n", "2:1: invalid YAML: found another document"),
        ("a: 1\nb: \x07\n", "2:4: the character '\\x07' is not allowed"),
        ('a: 1\nb: "\\ud800"\n', "2:4: half a character"),
        ('a: 1\nb: "\\UFFFFFFFF"\n', "2:2: invalid YAML after this place"),
        ("a: " + "9" * 101, "1:4: a number of more than 100 digits"),
        ("a: 1." + "9" * 101, "1:4: a number of more than 100 digits"),
        ("a: [1, 9223372036854775808]", "1:8: a whole number that does not fit into 64 bits"),
        ("a: -9223372036854775809", "1:4: a whole number that does not fit into 64 bits"),
        ("a: 0x" + "f" * 17, "1:4: a whole number that does not fit into 64 bits"),
        ("a: 1e400", "1:4: a number too large"),
        ("a: [-1e999999999]", "1:5: a number too large"),
        ("a: " + "[" * 60 + "]" * 60, "1:54: invalid YAML: nested more than 50 deep"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, fault: str):
    found = faults(text)
    assert len(found) == 1
    assert found[0].startswith(fault)


# YAML 1.2, [1] c-printable
PRINTABLE = [
    *[(0x9, 0xA), (0xD, 0xD), (0x20, 0x7E), (0x85, 0x85), (0xA0, 0xD7FF)],
    *[(0xE000, 0xFFFD), (0x10000, 0x10FFFF)],
]


def test_what_is_not_printable_is_refused_and_nothing_else():
    edges = {edge + by for pair in PRINTABLE for edge in pair for by in (-1, 0, 1)} - {0x110000}
    for code in {*range(0x100), *edges}:
        printable = any(first <= code <= last for first, last in PRINTABLE)
        refused = f"1:6: the character {chr(code)!a} is not allowed"
        assert (refused in faults(f"a: 'x{chr(code)}'\n")) == (not printable), hex(code)


def test_of_a_text_that_is_no_yaml_the_first_syntax_error_is_told_alone():
    assert faults("a: 1\na: 2\nb: ]\nc: }\n") == faults("\n\nb: ]\n")


def test_an_alias_bomb_is_refused_before_it_grows():
    text = "a: &a [1, 2, 3]\nb: [" + ", ".join(["*a"] * 500) + "]\n"
    assert read(text).plain()["b"] == [[1, 2, 3]] * 500, "below the limit aliases are fine"
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    assert faults("\n".join(rows)) == [
        "3:5: more than 10,000 values (aliases expanded): too many for a recipe"
    ]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"\x89PNG\r\n\x00\x01", "r.yaml:1:1: is not UTF-8 text: byte 0x89"),
        (b"a: 1\nb: caf\xe9\n", "r.yaml:2:7: is not UTF-8 text: byte 0xe9"),
        (b"#" * (MAX_BYTES + 1), "is larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, fault: str):
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"1 problem, nothing was run") as caught:
        read_text(path)
    assert fault in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path):
    with pytest.raises(RecipeError, match=r"nowhere\.yaml: cannot be read: No such file"):
        read_text(tmp_path / "nowhere.yaml")
    with pytest.raises(RecipeError, match="cannot be read: Is a directory"):
        read_text(tmp_path)


NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


@given(st.dictionaries(st.text(), VALUES, min_size=1, max_size=4))
def test_what_another_writer_writes_is_read_back(value: dict[str, object]):
    assert read(json.dumps(value)).plain() == json.loads(json.dumps(value))


@given(st.text(alphabet="ab:-[]{}&*!|>'\"%@`#?,. \n\t0123<~", max_size=60))
def test_places_are_where_another_parser_sees_them(text: str):
    try:
        node = parse_yaml(text, "r.yaml", [])
        tree = YAML(typ="rt").compose(text)
    except Exception:  # noqa: BLE001 - only texts that both can read are compared
        return
    for key, value in tree.value:
        if key.value in node.mapping and str(value.value):
            mark = node.mapping[key.value].mark
            assert (mark.line, mark.column) == (value.start_mark.line + 1, value.start_mark.column + 1)
