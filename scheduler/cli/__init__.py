"""The `suanli` command. Starting it imports click alone; each verb imports what it needs."""

from __future__ import annotations

import sys


def main() -> None:
    """Console entry point."""
    try:
        from scheduler.cli.root import root
    except KeyboardInterrupt:  # ctrl-C before there is anything that could say so
        sys.exit(130)
    except ImportError as error:
        sys.exit(f"suanli: this installation is not whole ({error}); install it again")
    root(prog_name="suanli")
