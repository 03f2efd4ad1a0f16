"""Whether an answer that a verb could not make sense of came from a service of another version, and how that is said.

Kept by process, as a verb talks to one service. Standard library only.
"""

from __future__ import annotations

from scheduler import __version__

VERSION_HEADER = "x-suanli-version"
_met: tuple[str, str | None] | None = None  # where, and the version that it told


def forget() -> None:
    """Nothing was asked yet."""
    global _met
    _met = None


def met(where: str, version: str | None) -> None:
    """A service answered; `version` None: it did not say."""
    global _met
    _met = where, version


def not_understood() -> str | None:
    """The words for it; None where nothing answered, or one of our own version."""
    if _met is None or _met[1] == __version__:
        return None
    where, version = _met
    its = "does not say its version" if version is None else f"is version {version}"
    return (
        f"the service at {where} {its}, this command is {__version__}, and its answer was not understood; use the same "
        "version on both sides"
    )
