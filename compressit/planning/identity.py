"""What a value of this Python session is, as a digest: a net, somebody's Dataset, a function.

Plugins have files, and `keys` digests these. What was typed into a notebook has none, and what was imported may no
longer be what its file says. So this reads what is in memory: bytes of tensors, compiled code, and whatever that uses.
Code of installed packages counts by its name and version. Of a value that hides its content (a generator, a lock) the
digest is a new one each time, so that no result is reused wrongly, and `unknown` says why.
"""

from __future__ import annotations

import copyreg
import dis
import hashlib
import importlib.metadata
import inspect
import secrets
import sys
import types
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePath
from typing import Any, cast

from compressit.errors import told
from compressit.host.plugins import Registered
from compressit.planning.keys import LIVE, code_digest

_PLAIN = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    range,
    slice,
    type(Ellipsis),
    type(NotImplemented),
)
_BUILT_IN = (
    types.BuiltinFunctionType, types.MethodWrapperType, types.WrapperDescriptorType, types.MethodDescriptorType,
    types.ClassMethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType,
)  # fmt: skip
_UNTOLD = frozenset({
    "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__", "__firstlineno__",
    "__static_attributes__", "__abstractmethods__", "_abc_impl", "__parameters__", "__orig_bases__",
})  # fmt: skip
"""What of a class does not change what it does, or is said by other parts."""
_SHOWN = 3  # reasons that a message names


@dataclass(frozen=True)
class Identity:
    """`digest`: 32 hex digits. `unknown`: what of the value could not be read, so that the digest is good only once."""

    digest: str
    unknown: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """The first reasons, in words."""
        more = f" and {len(self.unknown) - _SHOWN} more" if len(self.unknown) > _SHOWN else ""
        return ", ".join(self.unknown[:_SHOWN]) + more


def identity(value: object) -> Identity:
    """What `value` is. Equal values of another session, with the same Python, have the same digest."""
    reader = _Reader()
    try:
        reader.read(value, "it")
    except RecursionError:
        reader.unknown.append("it (it is too deep)")
    unknown = tuple(dict.fromkeys(reader.unknown))
    if unknown:
        reader.note("only here", secrets.token_hex(16))
    return Identity(reader.hash.hexdigest()[:32], unknown)


def root_of(plugin: Registered) -> str:
    """Where `keys` finds a plugin's code: its module, or the digest of a builder that may be in no file."""
    builder = getattr(plugin.plugin, "builder", None) if plugin.live else None
    return plugin.plugin.__module__ if builder is None else f"{LIVE}{identity(builder).digest}"


@dataclass
class _Reader:
    hash: Any = field(default_factory=lambda: hashlib.sha256(sys.version.split()[0].encode()))
    unknown: list[str] = field(default_factory=list[str])
    _seen: dict[int, tuple[int, object]] = field(default_factory=dict[int, tuple[int, object]])

    def note(self, *facts: object) -> None:
        for fact in facts:
            data = fact if isinstance(fact, bytes | memoryview) else str(fact).encode()
            self.hash.update(f"{len(data)}:".encode())
            self.hash.update(data)

    def read(self, value: Any, at: str) -> None:
        """Adds a value. `at`: where it stands, for `unknown`."""
        if isinstance(value, _PLAIN):
            self.note(type(value).__name__, repr(value))
            return
        if id(value) in self._seen:
            self.note("again", self._seen[id(value)][0])
            return
        self._seen[id(value)] = len(self._seen), value  # kept, so that no other gets its id
        kind = type(value)
        if kind in (list, tuple):
            self.note(kind.__name__, len(value))
            for index, item in enumerate(value):
                self.read(item, f"{at}[{index}]")
        elif kind in (dict, OrderedDict, types.MappingProxyType):
            self.note("dict", len(value))
            for name, item in value.items():
                self.read(name, at)
                self.read(item, f"{at}.{name}")
        elif kind in (set, frozenset):
            self._set(value, at)
        elif kind is types.CodeType:
            self._code(value, at)
        elif kind is types.FunctionType:
            self._function(value, at)
        elif kind is types.CellType:
            self._cell(value, at)
        elif kind is types.MethodType:
            self.note("method")
            self.read(value.__func__, at)
            self.read(value.__self__, at)
        elif kind in (staticmethod, classmethod):
            self.note(kind.__name__)
            self.read(value.__func__, at)
        elif kind is property:
            self.note("property")
            self.read((value.fget, value.fset, value.fdel), at)
        elif isinstance(value, types.ModuleType):
            if not self._installed(value.__name__):
                self._hidden(value, at)
        elif isinstance(value, type):
            self._class(value, at)
        elif isinstance(value, _BUILT_IN):
            self.note(
                "built in", getattr(value, "__module__", ""), getattr(value, "__qualname__", repr(value))
            )
        elif isinstance(value, PurePath):
            self.note("path", str(value))
        elif not self._array(value, at):
            self._object(value, at)

    def _set(self, values: Iterable[Any], at: str) -> None:
        parts: list[str] = []
        for item in values:
            part = identity(item)
            self.unknown += [reason.replace("it", at, 1) for reason in part.unknown]
            parts.append(part.digest)
        self.note("set", *sorted(parts))

    def _array(self, value: Any, at: str) -> bool:
        """Adds a tensor or an array of numbers; False if it is neither."""
        torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
        if torch is not None and isinstance(value, torch.Tensor):
            if value.is_meta or value.is_nested or value.layout is not torch.strided:
                self._hidden(value, at)
                return True
            plain = value.detach().resolve_conj().resolve_neg().contiguous().cpu()
            self.note("tensor", type(value).__name__, value.dtype, tuple(value.shape), value.requires_grad)
            self.note(memoryview(plain.flatten().view(torch.uint8).numpy()).cast("B"))
            return True
        if torch is not None and isinstance(value, torch.dtype | torch.device | torch.Size | torch.layout):
            self.note("torch", value)
            return True
        if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic) and value.dtype != object:
            self.note("array", value.dtype.str, value.shape, value.tobytes())
            return True
        return False

    def _code(self, code: types.CodeType, at: str) -> None:
        self.note("code", code.co_code, code.co_flags, code.co_argcount, code.co_posonlyargcount,
                  code.co_kwonlyargcount, code.co_exceptiontable)  # fmt: skip
        self.read((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars), at)
        self.read(tuple(code.co_consts), at)

    def _function(self, function: types.FunctionType, at: str) -> None:
        """Its code, defaults, what it closes over, and the globals that it reads."""
        self.note("function", function.__qualname__)
        if self._installed(function.__module__):
            return
        name = function.__name__
        self.read(function.__code__, name)
        self.read((function.__defaults__, function.__kwdefaults__), f"a default of {name}")
        for free, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self.read(cell, f"'{free}' of {name}")
        read, named = _names_in(function.__code__)
        for used in sorted(read & function.__globals__.keys()):
            value = function.__globals__[used]
            own = isinstance(value, types.ModuleType) and not _version(value.__name__)
            self.note(used)
            # of somebody's own module what the function may take from it
            parts = {part: vars(value)[part] for part in sorted(named & vars(value).keys())} if own else value
            self.read(parts, f"'{used}' of {name}")

    def _cell(self, cell: types.CellType, at: str) -> None:
        try:
            content = cell.cell_contents
        except ValueError:  # not filled yet
            self.note("empty")
            return
        self.read(content, at)

    def _class(self, kind: type, at: str) -> None:
        self.note("class", kind.__qualname__)
        if self._installed(kind.__module__):
            return
        for base in kind.__bases__:
            self.read(base, at)
        for name, value in sorted(vars(kind).items()):
            if name not in _UNTOLD:
                self.note(name)
                self.read(value, f"{kind.__qualname__}.{name}")

    def _installed(self, module: str | None) -> bool:
        """Whether the code is that of an installed package: then adds which version."""
        version = _version(module or "")
        self.note(module if version else "", version)
        return bool(version)

    def _object(self, value: Any, at: str) -> None:
        """Any other object: its class, and what a copy of it would be made of."""
        torch = sys.modules.get("torch")
        reduced = copyreg.dispatch_table.get(type(value)) or (lambda it: it.__reduce_ex__(2))
        try:
            made, arguments, *rest = cast("tuple[Any, ...]", reduced(value))
        except Exception as error:  # noqa: BLE001 - an object's own code
            self._hidden(value, at, told(error) if not isinstance(error, TypeError) else "")
            return
        state, items, pairs = (*rest, None, None, None)[:3]
        if torch is not None and isinstance(value, torch.nn.Module) and isinstance(state, dict):
            state = {name: part for name, part in cast("dict[str, Any]", state).items() if name != "training"}
        self.note("object")
        self.read(type(value), at)
        self.read(made, at)
        for part in (
            arguments,
            state,
            None if items is None else list(items),
            None if pairs is None else list(pairs),
        ):
            self.read(part, at)

    def _hidden(self, value: object, at: str, why: str = "") -> None:
        self.unknown.append(f"{at} ({why or f'a {type(value).__name__}'})")


def _names_in(code: types.CodeType) -> tuple[set[str], set[str]]:
    """The names of globals that code reads, and all names in it, of functions inside it too."""
    read = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    named = set(code.co_names)
    for part in code.co_consts:
        if inspect.iscode(part):
            inside = _names_in(part)
            read |= inside[0]
            named |= inside[1]
    return read, named


@cache
def _version(module: str) -> str:
    """The version of the installed package that a module belongs to; "" for a user's own code."""
    top = module.split(".")[0]
    if top.startswith("compressit"):  # its version says too little while it is developed
        return code_digest(module)
    if top in sys.stdlib_module_names and top != "__main__":
        return "standard"
    owners = _distributions().get(top)
    return importlib.metadata.version(owners[0]) if owners else ""


@cache
def _distributions() -> Any:
    return importlib.metadata.packages_distributions()
