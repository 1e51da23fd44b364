"""Finds the registered code that builds a checkpoint's network, or reports what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from compressit.checkpoint.manifest import Manifest, ReplaceEdit, first_of
from compressit.contract.kinds import Model
from compressit.errors import CompressitError
from compressit.host.plugins import Host


def builder_of(name: str, config: Mapping[str, Any], host: Host) -> Model[Any]:
    """The Model plugin with these options. Raises CompressitError if it is not installed or rejects them."""
    try:
        return host.create(Model, name, config)
    except ValidationError as error:
        raise CompressitError(f"'{name}' rejects {first_of(error, 'its options')}") from error


def check_installed(manifest: Manifest, host: Host, built: bool) -> None:
    """Raises CompressitError unless `host` has the types of all replaced layers and, if the network is to be `built`,
    its model. The message says where the file claims they come from and how to get them.
    """
    missing: dict[str, list[str]] = {}  # by owner
    builder = manifest.model
    if built and builder is not None and builder.name not in host.names("model"):
        missing[builder.owner] = [f"its model {builder.name!r}"]
    replaced = dict.fromkeys(e.type for e in manifest.edits if isinstance(e, ReplaceEdit))
    known = host.module_type_sources() if replaced else {}
    for name in replaced:
        owner = manifest.layer_owners.get(name)
        if name not in known and owner is not None:
            missing.setdefault(owner, []).append(f"its layer type {name!r}")
    if missing:
        told = [
            f"{' and '.join(what)} {'is' if len(what) == 1 else 'are'} not registered here; "
            f"according to the file, {'it comes' if len(what) == 1 else 'they come'} from {owner!r}"
            for owner, what in missing.items()
        ]
        advice = dict.fromkeys(map(_advice, missing))  # our own words only: names in a file cannot be trusted
        raise CompressitError("; ".join(told), "; ".join([*advice, *host.left_out()]))


def model_owner(name: str, host: Host) -> str:
    """Where a model comes from, as written to files: for a local file, its name without the folder."""
    return _without_folder(host.find(name, "model").owner)


def layer_owners(types: Iterable[str], host: Host) -> dict[str, str]:
    """The same for module types, by name."""
    sources = host.module_type_sources()
    return {name: _without_folder(str(sources[name])) for name in sorted(types)}


def _without_folder(owner: str) -> str:
    return Path(owner).name if owner.endswith(".py") else owner


def _advice(owner: str) -> str:
    if " " in owner:  # a distribution and its version
        return "if you know and trust that package, install it: the file's claim was not verified"
    in_python = "import that module first"
    if owner.endswith(".py"):
        in_python = "`from compressit import installed; installed().load_file(Path(FILE))`"
    return (
        "if you have that code and trust it, name its file: `--plugin FILE` for compressit evaluate and export, "
        f"`plugins:` in a recipe; in Python, {in_python}"
    )
