"""What to do where what a checkpoint's network is made of is not registered."""

from __future__ import annotations

from compressit.checkpoint.manifest import Manifest, ReplaceEdit
from compressit.errors import CompressitError
from compressit.plugins import Host


def check_installed(manifest: Manifest, host: Host, built: bool) -> None:
    """Raises CompressitError unless `host` knows the types of the layers that were replaced and, where the network is
    to be `built`, its model. It says where they come from and how to have them.
    """
    missing: dict[str, list[str]] = {}  # by their owner
    builder = manifest.model
    if built and builder is not None and builder.name not in host.names("model"):
        missing[builder.owner] = [f"its model {builder.name!r}"]
    known = host.module_type_owners()
    for name in dict.fromkeys(e.type for e in manifest.edits if isinstance(e, ReplaceEdit)):
        owner = manifest.layer_owners.get(name)
        if name not in known and owner is not None:
            missing.setdefault(owner, []).append(f"its layer type {name!r}")
    if missing:
        told = [
            f"{' and '.join(what)} come{'s' if len(what) == 1 else ''} from {owner}, which is not installed here"
            for owner, what in missing.items()
        ]
        raise CompressitError("; ".join(told), "; ".join([*map(_advice, missing), *host.left_out()]))


def _advice(owner: str) -> str:
    if " " in owner:  # a distribution and its version
        return f"install {owner}"
    file, in_python = f"{owner.replace('.', '/')}.py", f"import {owner} first"
    if owner.endswith(".py"):
        file = owner
        in_python = "`from compressit.plugins import installed; installed().load_file(Path(FILE))`"
    return (
        f"name that file: `--plugin {file} --trust` for compressit evaluate and export, under `plugins:` in a "
        f"recipe; in Python {in_python}"
    )
