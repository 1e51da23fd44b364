"""YAML text to a tree of values that know their places.

YAML 1.2's core schema (`1e-3` is a float, `yes` is text), one document, no tags, no merge keys. Anchors are
allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from compressit.errors import Mark, Problem, RecipeError
from compressit.files.reading import opened

MAX_BYTES = 2**20
MAX_NODES = 10_000  # with every alias written out
MAX_DEPTH = 50

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Node:
    """A value and where it was written. `keys` holds the places of a mapping's keys."""

    value: Scalar | Mapping[str, Node] | tuple[Node, ...]
    mark: Mark
    keys: Mapping[str, Mark] = field(default_factory=dict[str, Mark])

    @property
    def mapping(self) -> Mapping[str, Node]:
        """The entries of a mapping; of anything else, none."""
        return self.value if isinstance(self.value, Mapping) else {}

    @property
    def items(self) -> tuple[Node, ...]:
        """The items of a list; of anything else, none."""
        return self.value if isinstance(self.value, tuple) else ()

    def at(self, key: str) -> Node:
        """The entry of that key; where there is none, a null in this node's place."""
        return self.mapping.get(key) or Node(None, self.mark)

    def plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        if isinstance(self.value, Mapping):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        return self.value


def read_text(path: Path) -> str:
    """The text of a recipe. Raises RecipeError where there is no file, or one too large or not UTF-8 text."""
    source = str(path)
    try:
        with opened(path) as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        _fail("no such file", Mark(source))
    except IsADirectoryError:
        _fail("is a folder, not a recipe", Mark(source), "give the path of the recipe's file")
    except OSError as error:
        _fail(f"cannot be read: {error.strerror or error}", Mark(source))
    if len(data) > MAX_BYTES:
        _fail("is larger than 1 MiB: too large for a recipe", Mark(source))
    if b"\0" in data:
        _fail("is a binary file, not a recipe", Mark(source), "a recipe is YAML text in UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        hint = "a recipe is YAML text in UTF-8"
        _fail(f"is not UTF-8 text: byte 0x{data[error.start]:02x}", Mark(source, line, column), hint)


def parse_yaml(text: str, source: str, problems: list[Problem]) -> Node:
    """The tree of a recipe's text, a mapping.

    Mistakes one can read past (duplicate keys, tags …) are added to `problems`. Raises RecipeError, with
    these and the first syntax error, where there is no going on.
    """
    builder = _Builder(text, _Places(text, source), problems)
    root = builder.document()
    if root is None or root.value is None:
        builder.fail("the file is empty", Mark(source), "a recipe starts with `version: 1` and `name: …`")
    if not isinstance(root.value, Mapping):
        kind = "a list" if isinstance(root.value, tuple) else "a single value"
        builder.fail(f"a recipe is a mapping of keys to values, not {kind}", root.mark)
    return root


def parse_value(text: str, mark: Mark, problems: list[Problem]) -> Node:
    """The tree of a value given in one line (`0.5`, `[a, b]`, `{x: 1}`), every node at `mark`.

    Raises RecipeError as `parse_yaml` does, and where nothing stands for a value: a variable of the shell that
    is not set must not read as a null.
    """
    builder = _Builder(text, mark, problems)
    return builder.document() or builder.no_value(mark)


class _Places:
    """From lines and columns counted from 0 to marks with the line's text."""

    def __init__(self, text: str, source: str) -> None:
        self._source = source
        self._lines = _LINE_BREAK.split(text)

    def at(self, line: int, column: int) -> Mark:
        text = self._lines[line] if line < len(self._lines) else ""
        # A very long line would drown the message.
        return Mark(self._source, line + 1, column + 1, text if len(text) <= 200 else None)

    def tab(self, line: int) -> int | None:
        """The column of a tab in a line's indentation."""
        found = re.match(r" *\t", self._lines[line]) if line < len(self._lines) else None
        return found.end() - 1 if found else None


class _Builder:
    """Builds nodes from the parser's events: aliases, depth and size are checked before anything grows."""

    def __init__(self, text: str, places: _Places | Mark, problems: list[Problem]) -> None:
        self._text = text
        self._places = places
        self._problems = problems
        self._anchors: dict[str, tuple[Node, int] | None] = {}  # None: still open
        self._count = 0
        self._events = self._parse()
        self._last: Any = None

    def document(self) -> Node | None:
        """The only document, or None where there is none."""
        root: Node | None = None
        for event in self._events:
            name = type(event).__name__
            if name == "DocumentStartEvent":
                if root is not None:
                    self.fail(
                        "a second document starts here", self._mark(event), "a recipe is one YAML document"
                    )
                root = self._node(next(self._events), 0)
        return root

    def fail(self, message: str, where: Mark, hint: str | None = None) -> NoReturn:
        raise RecipeError([*self._problems, Problem(message, where, hint)])

    def no_value(self, where: Mark) -> NoReturn:
        self.fail(
            "has no value", where, "write null where you mean it (it deletes), and '\"\"' for an empty text"
        )

    def _node(self, event: Any, depth: int) -> Node:
        mark = self._mark(event)
        if type(event).__name__ == "AliasEvent":
            return self._alias(event.anchor, mark)
        if depth > MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} deep", mark)
        before = self._count
        self._grow(1, mark)
        if event.anchor:
            self._anchors[event.anchor] = None
        kind = type(event).__name__
        if event.tag not in (None, "!", _STRING_TAG) or (event.tag == _STRING_TAG and kind != "ScalarEvent"):
            self._add(
                f"the tag {_shown_tag(event.tag)} is not allowed", mark, "a recipe holds plain values only"
            )
        if kind == "MappingStartEvent":
            node = self._mapping(mark, depth)
        elif kind == "SequenceStartEvent":
            node = Node(tuple(self._node(e, depth + 1) for e in self._until("SequenceEndEvent")), mark)
        else:
            node = Node(self._scalar(event, mark), mark)
        if event.anchor:
            self._anchors[event.anchor] = (node, self._count - before)
        return node

    def _mapping(self, mark: Mark, depth: int) -> Node:
        values: dict[str, Node] = {}
        keys: dict[str, Mark] = {}
        for event in self._until("MappingEndEvent"):
            key, quoted = self._node(event, depth + 1), getattr(event, "style", None) is not None
            event = next(self._events)
            value = self._node(event, depth + 1)
            if value.value is None and event.start_mark.index == event.end_mark.index:
                value = Node(None, key.mark)  # nothing was written: its own place would be the next line's
            if not isinstance(key.value, str):
                hint = "put it in quotes" if not isinstance(key.value, (Mapping, tuple)) else None
                self._add("a key must be text", key.mark, hint)
            elif key.value == "<<" and not quoted:
                hint = "YAML 1.2 has none: repeat the keys, or use `variants` or `profiles`"
                self._add("merge keys (<<) are not supported", key.mark, hint)
            elif key.value in values:
                self._add(f"duplicate key '{key.value}'", key.mark, f"first given at {keys[key.value]}")
            else:
                values[key.value] = value
                keys[key.value] = key.mark
        return Node(values, mark, keys)

    def _alias(self, anchor: str, mark: Mark) -> Node:
        if anchor not in self._anchors:
            self.fail(f"*{anchor} stands for nothing: no &{anchor} before it", mark)
        known = self._anchors[anchor]
        if known is None:
            self.fail(f"*{anchor} stands inside &{anchor} itself", mark)
        self._grow(known[1], mark)
        return known[0]

    def _grow(self, nodes: int, mark: Mark) -> None:
        self._count += nodes
        if self._count > MAX_NODES:
            self.fail(f"more than {MAX_NODES:,} values (aliases written out): too many for a recipe", mark)

    def _scalar(self, event: Any, mark: Mark) -> Scalar:
        text: str = event.value
        if _SURROGATE.search(text):  # JSON writes some characters as two escapes
            try:
                return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
            except UnicodeDecodeError:
                self._add("half a character (a lone \\ud800 … \\udfff escape)", mark)
                return ""
        if event.style is not None or event.tag is not None:
            return text
        if not text and isinstance(self._places, Mark):
            self.no_value(mark)
        if len(text) > 100 and (_INTEGER.fullmatch(text) or _FLOAT.fullmatch(text)):
            self._add("a number of more than 100 digits", mark)
            return 0
        value = _resolve(text)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            self._add("a whole number that does not fit into 64 bits", mark)
            return 0
        if isinstance(value, float) and math.isinf(value) and "inf" not in text.lower():
            self._add("a number too large to be held", mark, "infinity is written .inf")
            return 0
        return value

    def _until(self, end: str) -> Iterator[Any]:
        while type(event := next(self._events)).__name__ != end:
            yield event

    def _parse(self) -> Iterator[Any]:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError

        if bad := _UNPRINTABLE.search(self._text):
            breaks = list(_LINE_BREAK.finditer(self._text, 0, bad.start()))
            column = bad.start() - (breaks[-1].end() if breaks else 0)
            self.fail(f"the character {bad.group()!a} is not allowed", self._at(len(breaks), column))
        try:
            yaml: Any = YAML(typ="safe", pure=True)
            for event in yaml.parse(self._text):
                self._last = event
                yield event
        except RecipeError:
            raise
        except MarkedYAMLError as error:
            self._syntax_error(error)
        except Exception:  # noqa: BLE001 - the parser has no exception of its own for some broken escapes
            where = (
                self._at(self._last.end_mark.line, self._last.end_mark.column)
                if self._last
                else self._at(0, 0)
            )
            self.fail("broken YAML after this place", where)

    def _syntax_error(self, error: Any) -> NoReturn:
        place = error.problem_mark or error.context_mark
        line, column = (place.line, place.column) if place else (0, 0)
        tab = self._places.tab(line) if isinstance(self._places, _Places) else None
        if tab is not None:
            self.fail("a tab in the indentation", self._at(line, tab), "indent with spaces")
        context = error.context_mark
        hint = (
            f"{error.context}, from line {context.line + 1}" if error.context and context else error.context
        )
        self.fail(f"broken YAML: {error.problem or error.context}", self._at(line, column), hint)

    def _add(self, message: str, where: Mark, hint: str | None = None) -> None:
        self._problems.append(Problem(message, where, hint))

    def _mark(self, event: Any) -> Mark:
        return self._at(event.start_mark.line, event.start_mark.column)

    def _at(self, line: int, column: int) -> Mark:
        return self._places.at(line, column) if isinstance(self._places, _Places) else self._places


def _resolve(text: str) -> Scalar:
    """A plain scalar by YAML 1.2's core schema."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if _INTEGER.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _shown_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _fail(message: str, where: Mark, hint: str | None = None) -> NoReturn:
    raise RecipeError([Problem(message, where, hint)])


_STRING_TAG = "tag:yaml.org,2002:str"
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
# All that is not printable in YAML 1.2 (its 5.1), and the byte order mark. Written as `[^…]` it takes 4 ms to compile.
_UNPRINTABLE = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
