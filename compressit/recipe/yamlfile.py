"""Parses YAML text into a tree of values with their places.

YAML 1.2's core schema (`1e-3` is a float, `yes` is text), one document, no tags, no merge keys. Anchors are
allowed.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from compressit.errors import Mark, Problem, RecipeError
from compressit.files.reading import opened

MAX_BYTES = 2**20
MAX_NODES = 10_000  # with every alias expanded
MAX_DEPTH = 50

Scalar = str | int | float | bool | None
Place = Callable[[int, int], Mark]
"""From a line and a column, counted from 0, to a mark with the line's text."""


@dataclass(frozen=True)
class Node:
    """A value and where it was written. `keys` holds the places of a mapping's keys."""

    value: Scalar | Mapping[str, Node] | tuple[Node, ...]
    mark: Mark
    keys: Mapping[str, Mark] = field(default_factory=dict[str, Mark])

    @property
    def mapping(self) -> Mapping[str, Node]:
        """The entries of a mapping; empty for anything else."""
        return self.value if isinstance(self.value, Mapping) else {}

    @property
    def items(self) -> tuple[Node, ...]:
        """The items of a list; empty for anything else."""
        return self.value if isinstance(self.value, tuple) else ()

    def at(self, key: str) -> Node:
        """The entry of that key; if there is none, a null at this node's place."""
        return self.mapping.get(key) or Node(None, self.mark)

    def plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        if isinstance(self.value, Mapping):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        return self.value


def read_text(path: Path) -> str:
    """The text of a recipe. Raises RecipeError if the file is missing, too large or not UTF-8."""
    source = str(path)
    try:
        with opened(path) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        _fail(f"cannot be read: {error.strerror or error}", Mark(source), "give the path of a recipe file")
    if len(data) > MAX_BYTES:
        _fail("is larger than 1 MiB: too large for a recipe", Mark(source))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        hint = "a recipe is YAML text in UTF-8"
        _fail(f"is not UTF-8 text: byte 0x{data[error.start]:02x}", Mark(source, line, column), hint)


def parse_yaml(text: str, source: str, problems: list[Problem]) -> Node:
    """The tree of a recipe's text, a mapping.

    Recoverable mistakes (duplicate keys, tags …) are added to `problems`. Raises RecipeError, with these, if parsing
    cannot continue; for text that is not YAML, it reports only that.
    """
    lines = _LINE_BREAK.split(text)

    def place(line: int, column: int) -> Mark:
        snippet = lines[line] if line < len(lines) else ""
        # A very long line would hide the message.
        return Mark(source, line + 1, column + 1, snippet if len(snippet) <= 200 else None)

    raw = _composed(text, place)
    root = None if raw is None else _Reader(place, problems).node(raw)
    if root is None or root.value is None:
        _fail("the file is empty", Mark(source), "a recipe starts with `version: 1` and `name: …`", problems)
    if not isinstance(root.value, Mapping):
        kind = "a list" if isinstance(root.value, tuple) else "a single value"
        _fail(f"a recipe is a mapping of keys to values, not {kind}", root.mark, None, problems)
    return root


def parse_value(text: str, mark: Mark, problems: list[Problem]) -> Node:
    """The tree of a value on one line (`0.5`, `[a, b]`, `{x: 1}`), every node at `mark`.

    Raises RecipeError as `parse_yaml` does, and for an empty value: an unset shell variable must not become a null.
    """
    reader = _Reader(lambda line, column: mark, problems)
    raw = _composed(text, reader.place)
    found = None if raw is None else reader.node(raw)
    if found is None or reader.left_empty:
        hint = "write null to delete a key, and '\"\"' for empty text"
        _fail("has no value", mark, hint, problems)
    return found


def _composed(text: str, place: Place) -> Any:
    """ruamel's tree of the single document, None if it is empty. Raises RecipeError for invalid YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.composer import Composer, ComposerError
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.reader import ReaderError
    from ruamel.yaml.resolver import VersionedResolver

    class Bounded(Composer):
        count = level = 0
        last: Any = None  # where the last value began

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.count += 1
            self.level += 1
            if self.count > MAX_NODES or self.level > MAX_DEPTH + 1:
                problem = _TOO_MANY if self.count > MAX_NODES else _TOO_DEEP
                raise ComposerError(problem=problem, problem_mark=self.parser.peek_event().start_mark)
            node = super().compose_node(parent, index)
            self.level -= 1
            self.last = node.end_mark
            return node

    class Unresolved(VersionedResolver):
        @property
        def processing_version(self) -> Any:
            return (1, 2)

        def resolve(self, kind: Any, value: Any, implicit: Any) -> None:
            """Resolves nothing: only written tags count, and `_scalar` decides what a scalar is."""

    yaml: Any = YAML(typ="safe", pure=True)
    yaml.Composer, yaml.Resolver = Bounded, Unresolved
    try:
        with warnings.catch_warnings(action="ignore"):  # an anchor may be redefined
            return yaml.compose(text)
    except ReaderError as error:
        before = _LINE_BREAK.split(text[: error.position])
        where = place(len(before) - 1, len(before[-1]))
        _fail(f"the character {text[error.position]!a} is not allowed", where)
    except MarkedYAMLError as error:
        _fail(*_told(error, text, place))
    except Exception:  # noqa: BLE001 - the scanner has no exception of its own for some broken escapes
        last = yaml.composer.last
        _fail("invalid YAML after this place", place(last.line, last.column) if last else place(0, 0))


def _told(error: Any, text: str, place: Place) -> tuple[str, Mark, str | None]:
    """Message, place and help of ruamel's error."""
    at, context = error.problem_mark or error.context_mark, error.context_mark
    line, column = (at.line, at.column) if at else (0, 0)
    lines = _LINE_BREAK.split(text)
    if line < len(lines) and (tab := re.match(r" *\t", lines[line])):
        return "a tab in the indentation", place(line, tab.end() - 1), "indent with spaces"
    hint = f"{error.context}, from line {context.line + 1}" if error.context and context else error.context
    problem = (error.problem or error.context).removeprefix("but ")
    return f"invalid YAML: {problem}", place(line, column), hint


class _Reader:
    """Makes nodes from ruamel's. A value with several aliases is one node, and counts once per alias."""

    def __init__(self, place: Place, problems: list[Problem]) -> None:
        self.place = place
        self.left_empty = False  # whether some value was empty
        self._problems = problems
        self._known: dict[int, tuple[Node, int] | None] = {}  # by raw node, with its size; None: not finished
        self._count = 0

    def node(self, raw: Any) -> Node:
        mark = self.place(raw.start_mark.line, raw.start_mark.column)
        known = self._known.get(id(raw), ())
        if known is None:
            _fail(f"&{raw.anchor} contains itself", mark, None, self._problems)
        if known:
            self._grow(known[1], mark)
            return known[0]
        self._known[id(raw)] = None
        before = self._count
        self._grow(1, mark)
        tag = str(raw.ctag) if raw.ctag.suffix is not None else None
        if tag is not None and (tag != _STRING_TAG or raw.id != "scalar"):
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            self._add(f"the tag {shown} is not allowed", mark, "a recipe holds plain values only")
        if raw.id == "mapping":
            node = self._mapping(raw, mark)
        elif raw.id == "sequence":
            node = Node(tuple(map(self.node, raw.value)), mark)
        else:
            plain = raw.style is None and tag is None
            self.left_empty |= plain and not raw.value
            node = Node(self._scalar(raw.value, plain, mark), mark)
        self._known[id(raw)] = (node, self._count - before)
        return node

    def _mapping(self, raw: Any, mark: Mark) -> Node:
        values: dict[str, Node] = {}
        keys: dict[str, Mark] = {}
        for raw_key, raw_value in raw.value:
            key, value = self.node(raw_key), self.node(raw_value)
            if value.value is None and raw_value.start_mark.index == raw_value.end_mark.index:
                value = Node(None, key.mark)  # no value was written; its mark would be on the next line
            if not isinstance(key.value, str):
                hint = "put it in quotes" if not isinstance(key.value, (Mapping, tuple)) else None
                self._add("a key must be text", key.mark, hint)
            elif key.value == "<<" and raw_key.style is None:
                hint = "YAML 1.2 does not have them: repeat the keys, or use `variants` or `profiles`"
                self._add("merge keys (<<) are not supported", key.mark, hint)
            elif key.value in values:
                self._add(f"duplicate key '{key.value}'", key.mark, f"first given at {keys[key.value]}")
            else:
                values[key.value] = value
                keys[key.value] = key.mark
        return Node(values, mark, keys)

    def _scalar(self, text: str, plain: bool, mark: Mark) -> Scalar:
        if _SURROGATE.search(text):  # JSON writes some characters as two escapes
            try:
                return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
            except UnicodeDecodeError:
                self._add("half a character (an unpaired \\ud800 … \\udfff escape)", mark)
                return ""
        try:
            return _resolved(text) if plain else text
        except ValueError as error:
            self._add(str(error), mark)
            return 0

    def _grow(self, nodes: int, mark: Mark) -> None:
        self._count += nodes
        if self._count > MAX_NODES:
            _fail(_TOO_MANY, mark, None, self._problems)

    def _add(self, message: str, where: Mark, hint: str | None = None) -> None:
        self._problems.append(Problem(message, where, hint))


def _resolved(text: str) -> Scalar:
    """A plain scalar by YAML 1.2's core schema. Raises ValueError for a number that is too large."""
    if text in _WORDS:
        return _WORDS[text]
    integer = _INTEGER.fullmatch(text)
    if not integer and not _FLOAT.fullmatch(text):
        return text
    if len(text) > 100:
        raise ValueError("a number of more than 100 digits")
    if integer:
        whole = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        if not -(2**63) <= whole < 2**63:
            raise ValueError("a whole number that does not fit into 64 bits")
        return whole
    value = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if math.isinf(value) and "inf" not in text.lower():
        raise ValueError("a number too large for a 64-bit float: write infinity as .inf")
    return value


def _fail(message: str, where: Mark, hint: str | None = None, before: Sequence[Problem] = ()) -> NoReturn:
    raise RecipeError([*before, Problem(message, where, hint)])


_TOO_MANY = f"more than {MAX_NODES:,} values (aliases expanded): too many for a recipe"
_TOO_DEEP = f"nested more than {MAX_DEPTH} deep"
_STRING_TAG = "tag:yaml.org,2002:str"
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_LINE_BREAK = re.compile("\r\n?|\n")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
