"""`suanli devices record`: the recorder of `node_agent.devices`, with an operator's errors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from node_agent.devices.detect import detect
from node_agent.devices.openers import DEFAULT_NAMES
from node_agent.devices.recording import record
from node_agent.devices.source import DeviceSourceError
from scheduler.errors import BadInput, Conflict, SuanliError, Unavailable


def record_devices(path: Path, seconds: float, *, replace: bool, sources: Sequence[str]) -> int:
    """How many bytes it is. Raises Conflict where there is such a file that is not to be replaced."""
    if path.is_dir():
        raise BadInput(f"{path} is a directory; a file to write into is expected", field="FILE")
    if not path.parent.is_dir():
        raise BadInput(f"{path}: there is no directory {path.parent}", field="FILE")
    if path.exists() and not replace:
        raise Conflict(f"{path} is there already; name another file, or say --replace")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise BadInput(f"{path} cannot be written; is it yours?", field="FILE")
    try:
        source = detect(tuple(sources) or DEFAULT_NAMES)
    except DeviceSourceError as error:
        raise Unavailable(f"no device can be recorded: {error}") from error
    try:
        return record(source, path, seconds)
    except OSError as error:
        raise SuanliError(f"the recording ended: {error}") from error
    finally:
        source.close()
