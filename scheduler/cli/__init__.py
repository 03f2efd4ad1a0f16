"""The `suanli` command. Starting it imports click alone; each verb imports what it needs."""

from __future__ import annotations


def main() -> None:
    """Console entry point."""
    from scheduler.cli.root import root

    root(prog_name="suanli")
