"""Where, when and with what was this measured? The part of an answer that lets somebody measure it again."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.protocol import PROTOCOL_VERSION, window_label
from benchmarks.workloads.devices import cpu_model, library_text

CHECKOUT = Path(__file__).resolve().parent.parent


def iso_utc(at_s: float) -> str:
    """`2027-01-31T22:00:05Z`."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def machine_facts(at_s: float | None = None) -> dict[str, Any]:
    """Where and when, and with which commit: what every answer says, whatever it measured."""
    return {
        "host": platform.node(),
        "os": platform.platform(),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "commit": commit(),
        "generated_at": iso_utc(time.time() if at_s is None else at_s),
    }


def of_our_own_code(of: str) -> dict[str, Any]:
    """Of a benchmark that measures no device (`of` says what it does measure): `evidence` and `on` as of any CPU
    figure, true and never an accelerator's; and how busy this machine was before it began."""
    return machine_facts() | {
        "evidence": "measured",
        "on": "cpu",
        "of": of,
        "devices_measured": 0,
        "load_1m": load_1m(),
    }


def load_1m() -> float:
    """Processes that ran or waited for a core, averaged over a minute."""
    return round(os.getloadavg()[0], 2)


def provenance(*, window_s: float, at_s: float | None = None, with_library: bool = True) -> dict[str, Any]:
    """Host, versions, commit, time, window and its label. `torch` null where nothing of it was used."""
    library = library_text() if with_library else None
    return machine_facts(at_s) | {
        "library": library,
        "torch": library.removeprefix("torch ") if library and library.startswith("torch ") else None,
        "protocol": PROTOCOL_VERSION,
        "window_s": window_s,
        "label": window_label(window_s),
    }


def commit(checkout: Path = CHECKOUT) -> str | None:
    """The checkout's commit, with `-dirty` where files differ from it; None outside a checkout or without git."""
    if not (checkout / ".git").exists():
        return None
    try:
        said = subprocess.run(
            ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.strip() or None
