"""`compressit plugins`: list, show and check plugins."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from compressit.cli.terminal import AsJson, LocalFiles, Trust, open_host, open_host_with, put, table
from compressit.datasets.specs import from_json, in_words

app = typer.Typer(invoke_without_command=True)


@app.callback()
def list_plugins(context: typer.Context, as_json: AsJson = False) -> None:
    """List the installed plugins.

    Plugins that failed to load are listed with the reason.
    """
    if context.invoked_subcommand is not None:
        return
    host = open_host()
    rows: list[dict[str, Any]] = [
        {
            "name": r.plugin.name,
            "kind": r.kind,
            "from": r.source.name,
            "version": r.source.version,
            "about": r.plugin.summary(),
        }
        for r in host.registered()
    ]
    broken: list[dict[str, Any]] = [
        {"entry": b.entry, "from": b.source.name, "version": b.source.version, "reason": b.reason}
        for b in host.broken
    ]
    if as_json:
        put(json.dumps({"plugins": rows, "broken": broken, "disabled": sorted(host.disabled)}, indent=1))
        return
    lines = [[row["name"], row["kind"], row["from"], row["version"] or "", row["about"]] for row in rows]
    lines += [[b["entry"], "BROKEN", b["from"], b["version"] or "", b["reason"]] for b in broken]
    lines += [[name, "disabled", "", "", "by COMPRESSIT_DISABLE_PLUGINS"] for name in sorted(host.disabled)]
    put(table(("name", "kind", "from", "version", "about"), lines))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A plugin, as `compressit plugins` lists it.")],
    plugins: LocalFiles = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Show one plugin: its source, options and results."""
    from compressit.host.describe import facts

    found = facts(open_host_with(plugins, trust).find(name))
    put(json.dumps(found, indent=1) if as_json else "\n".join(_shown(found)))


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A plugin, as `compressit plugins` lists it.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the plugin: --set sparsity=0.5 (repeatable)."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: CUDA if there is one.")] = "cpu",
    plugins: LocalFiles = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Check that a plugin keeps its contract.

    Runs it on a tiny net. Exit code 1: it breaks the contract.
    """
    open_host_with(plugins, trust).find(name)
    from compressit.recipe.settings import options_of
    from compressit.testing.command import check_plugin

    if not check_plugin(name, options_of(settings or ()), plugins or (), device, as_json, put):
        raise typer.Exit(1)


def _shown(found: Mapping[str, Any]) -> Iterator[str]:
    version = f" {found['version']}" if found["version"] else ""
    yield f"{found['name']}: {found['kind']}, from {found['from']}{version}\n"
    yield f"{found['about'] or 'No description.'}\n"
    if "inputs" in found:
        inputs = in_words(from_json(found["inputs"])) if found["inputs"] else "depends on its options"
        yield f"one input: {inputs}\nclasses: {found['classes'] or 'depends on its options'}\n"
    if found.get("metrics"):
        rows = [[m["name"], m["unit"], m["better"], m["about"]] for m in found["metrics"]]
        yield table(("metric", "unit", "better", "meaning"), rows) + "\n"
    if found.get("records"):
        rows = [[r["name"], r["kind"], r["about"]] for r in found["records"]]
        yield table(("record", "kind", "meaning"), rows) + "\n"
    if found["options"]:
        rows = [[o["name"], o["type"], o["default"], o["about"]] for o in found["options"]]
        yield table(("option", "type", "default", "description"), rows)
    else:
        yield "No options."
