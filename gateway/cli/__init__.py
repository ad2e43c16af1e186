"""`batchway`: one command for each thing a person does; no logic of its own.

Floor 8. Commands are loaded when they are used: `serve` must listen before anything heavy is imported.
"""

from __future__ import annotations

import importlib

import click

#: Command -> the module that has it, under `gateway.cli`, as a click command of the same name, dashes as underscores.
COMMANDS = {
    "serve": "serve",
    "demo": "demo",
    "sandbox": "sandbox",
    "check": "check",
    "plugins": "check",
    "batches": "ledger",
    "requests": "ledger",
    "result": "ledger",
    "doctor": "doctor",
    "reconcile": "reconcile",
    "cancel": "steer",
    "flush": "steer",
    "new-plugin": "authoring",
}


class LazyGroup(click.Group):
    """Finds commands by name, without importing the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None: there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"gateway.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="batchway")
def main() -> None:
    """Ordinary chat completions in, discounted provider batches out."""
