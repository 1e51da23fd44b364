"""`compressit plugins`: what is installed."""

from __future__ import annotations

import json

import typer

from compressit.cli.terminal import AsJson, open_host, say

app = typer.Typer(invoke_without_command=True)


@app.callback()
def list_plugins(context: typer.Context, as_json: AsJson = False) -> None:
    """List the installed plugins, and those that could not be loaded with the reason."""
    if context.invoked_subcommand is not None:
        return
    host = open_host()
    rows = [
        {"name": r.plugin.name, "kind": r.kind, "from": r.owner, "about": r.plugin.summary()}
        for r in host.registered()
    ]
    broken = [{"entry": b.entry, "from": b.owner, "reason": b.reason} for b in host.broken]
    if as_json:
        say(json.dumps({"plugins": rows, "broken": broken, "disabled": sorted(host.disabled)}, indent=1))
        return
    for row in rows:
        say(f"{row['name']:22} {row['kind']:10} {row['from']:20} {row['about']}")
    for item in broken:
        say(f"{item['entry']:22} BROKEN     {item['from']:20} {item['reason']}")
    for name in sorted(host.disabled):
        say(f"{name:22} disabled by COMPRESSIT_DISABLE_PLUGINS")
