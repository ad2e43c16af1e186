"""`batchway new-plugin`: for authors of plugins."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.output import ignored_config_option

if TYPE_CHECKING:
    from gateway.cli.skeleton import Names


@click.command(short_help="Write the package of a new provider.")
@click.argument("name")
@ignored_config_option
def new_plugin(name: str) -> None:
    """Write ./gateway-NAME/: a package that brings the kind NAME, with its simulator and its tests, ready to be changed.

    It speaks the API of a toy and passes the contract of providers as it stands. `docs/writing-a-provider.md` walks
    through it file by file.
    """
    from gateway.cli.skeleton import files_of, names_of

    try:
        names = names_of(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from None
    owner = _owner(names)
    if owner is not None:
        raise click.ClickException(f"the name {name} is taken: {owner}")
    folder = Path(names.folder)
    try:
        folder.mkdir()
    except FileExistsError:
        raise click.ClickException(f"{folder} is there already; nothing was written") from None
    for place, text in files_of(names).items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for line in _next_steps(names):
        click.echo(line)


def _owner(names: Names) -> str | None:
    """Who has this kind, this plugin or this package already; None: nobody."""
    from gateway.hookspecs import PROJECT
    from gateway.plugins import load_plugins

    found = load_plugins()
    for kind in found.kinds.values():
        if names.kind in (kind.name, kind.plugin):
            return f"the plugin {kind.plugin} of {kind.distribution} {kind.version} brings the kind {kind.name}"
    for entry_point in metadata.entry_points(group=PROJECT):
        if names.kind == entry_point.name:
            return f"there is a plugin {entry_point.name}"
    if importlib.util.find_spec(names.package) is not None:
        return f"there is a package {names.package}"
    return None


def _next_steps(names: Names) -> list[str]:
    return [
        f"Wrote {names.folder}/: the kind {names.kind}, with its simulator and its tests. Next:",
        "",
        f"  cd {names.folder} && pip install -e '.[dev]'",
        "  pytest               it passes the contract as it stands",
        "  batchway plugins     lists it",
        "",
        f"Then make {names.package}/sandbox.py speak the provider's own API, and {names.package}/wire.py use its official SDK;",
        "the contract says what is missing. docs/writing-a-provider.md explains every file and every promise.",
    ]
