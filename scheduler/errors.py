"""Failures that an operator or tenant is to act on. The message says what happened, to what, and what to do.

Everything else that goes wrong is a bug and may show a stack trace in a log, never to an operator.
"""

from __future__ import annotations


class SuanliError(Exception):
    """Base of the family. `exit_code` is the CLI's, `http_status` the API's; `field` names the input at fault."""

    exit_code = 1
    http_status = 400

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class BadInput(SuanliError):
    """A job file, flag or configuration that cannot be accepted: exit code 2, HTTP 422."""

    exit_code = 2
    http_status = 422


class Unauthenticated(SuanliError):
    exit_code = 3
    http_status = 401


class Forbidden(SuanliError):
    exit_code = 3
    http_status = 403


class NotFound(SuanliError):
    exit_code = 4
    http_status = 404


class Conflict(SuanliError):
    """The thing asked for contradicts the present state (already ended, already running)."""

    exit_code = 5
    http_status = 409


class Superseded(Conflict):
    """Another service has taken the store over: `epoch` is its epoch, `leader` where it is found ("" where that is not
    known). This one must not write any more."""

    def __init__(self, epoch: int, leader: str | None = None) -> None:
        at = f" at {leader}" if leader else ""
        super().__init__(f"another service took over (epoch {epoch}){at}; ask that one, and stop this one")
        self.epoch = epoch
        self.leader = leader or ""


class Unavailable(SuanliError):
    """The service, the store or the network cannot take it now; trying again later is right."""

    exit_code = 6
    http_status = 503


class Overloaded(Unavailable):
    http_status = 429


# ---- over the wire -----------------------------------------------------------------------------------------------

# The word that stands for each class in {"error": {"type"}}, most derived first: a room's own subclass takes the word
# of the nearest class here.
_BY_WORD: dict[str, type[SuanliError]] = {
    "overloaded": Overloaded,
    "unavailable": Unavailable,
    "conflict": Conflict,
    "not_found": NotFound,
    "forbidden": Forbidden,
    "unauthenticated": Unauthenticated,
    "bad_input": BadInput,
    "failed": SuanliError,
}


def type_word(error: SuanliError) -> str:
    """The API's word for this kind of failure."""
    return next(word for word, family in _BY_WORD.items() if isinstance(error, family))


def from_wire(word: str, http_status: int, message: str, field: str | None) -> SuanliError:
    """The failure that an API's answer describes; an unknown word is judged by the status."""
    family = _BY_WORD.get(word)
    if family is None:
        known = {candidate.http_status: candidate for candidate in _BY_WORD.values()}
        if http_status in known:
            family = known[http_status]
        elif 400 <= http_status < 500:
            family = BadInput
        else:
            family = Unavailable if http_status in (502, 504) else SuanliError
    return family(message, field=field)
