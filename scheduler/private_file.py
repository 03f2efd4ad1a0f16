"""How is a file of secrets replaced, so that nobody else reads it and nobody finds half of it?"""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def replace_private(path: Path, text: bytes) -> None:
    """As a whole, readable for its owner alone, on disk when this returns. Raises OSError; then it is as it was."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
