"""How do commands and events travel over a connection of the agent's own? As MessagePack frames, and nothing else.

A frame is its length in four bytes (big-endian) and one MessagePack array whose first item says what it is:

    ["commands", session, number, [[name, command], ...]]     service -> agent
    ["poll", id, after_seq, wait_s]                           service -> agent
    ["batch", id, [incarnation, session, heard, clock_s], [[seq, name, event], ...]]      agent -> service
    ["read", book, number, every_s, count]                    service -> agent: readings, as of `number` of `book`
    ["readings", bytes]                                       agent -> service: see readings_wire.py

What arrives is checked against the types of node_agent.messages; what does not fit ends the connection.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, cast

import msgspec

from node_agent.messages import (
    Checkpointed,
    Command,
    Event,
    EventBatch,
    Exited,
    Forget,
    HealthChanged,
    Mended,
    Noted,
    NumberedEvent,
    Prepare,
    Prepared,
    PrepareFailed,
    Ready,
    Refused,
    Release,
    RenewLease,
    Started,
    Stop,
)

FRAME_LIMIT_BYTES = 64 << 20
_LENGTH = struct.Struct(">I")
_encoder = msgspec.msgpack.Encoder()
_frames = msgspec.msgpack.Decoder(list[msgspec.Raw])
_text = msgspec.msgpack.Decoder(str)
_whole = msgspec.msgpack.Decoder(int)
_seconds = msgspec.msgpack.Decoder(float)
_named = msgspec.msgpack.Decoder(list[tuple[str, msgspec.Raw]])
_numbered = msgspec.msgpack.Decoder(list[tuple[int, str, msgspec.Raw]])
_head = msgspec.msgpack.Decoder(tuple[str, int, int, float])
_bytes = msgspec.msgpack.Decoder(bytes)
_COMMANDS = {
    each.__name__: msgspec.msgpack.Decoder(each) for each in (Prepare, Release, Stop, RenewLease, Forget, Mended, Noted)
}
_EVENTS = {
    each.__name__: msgspec.msgpack.Decoder(each)
    for each in (Prepared, PrepareFailed, Started, Ready, Checkpointed, Exited, Refused, HealthChanged)
}

T = TypeVar("T")


class NotOurLanguage(Exception):
    """What came over the connection is no frame of these."""


class Frames:
    """Cuts what arrives, in whatever pieces, into frames."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that are complete now. Raises NotOurLanguage for one over the limit."""
        self._held += data
        while len(self._held) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._held)
            if length > FRAME_LIMIT_BYTES:
                raise NotOurLanguage(f"a frame of {length} bytes is over the limit of {FRAME_LIMIT_BYTES}")
            end = _LENGTH.size + length
            if len(self._held) < end:
                return
            frame = bytes(self._held[_LENGTH.size : end])
            del self._held[:end]
            yield frame


def framed(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body


def _frame(*items: Any) -> bytes:
    return framed(_encoder.encode(items))


def commands_frame(session: int, number: int, commands: Sequence[Command]) -> bytes:
    return _frame("commands", session, number, [(type(each).__name__, each) for each in commands])


def poll_frame(poll_id: int, after_seq: int, wait_s: float) -> bytes:
    return _frame("poll", poll_id, after_seq, float(wait_s))


def batch_frame(poll_id: int, batch: EventBatch) -> bytes:
    events = [(each.seq, type(each.event).__name__, each.event) for each in batch.events]
    return _frame("batch", poll_id, (batch.incarnation, batch.session, batch.heard, batch.clock_s), events)


def read_frame(book: int, number: int, every_s: float, count: int) -> bytes:
    return _frame("read", book, number, float(every_s), count)


def readings_frame(body: bytes) -> bytes:
    return _frame("readings", body)


def opened(frame: bytes) -> tuple[str, list[msgspec.Raw]]:
    """What it is, and its other items. Raises NotOurLanguage."""
    items = _read(_frames, frame)
    if not items:
        raise NotOurLanguage("an empty frame")
    return _read(_text, items[0]), items[1:]


def commands_of(items: Sequence[msgspec.Raw]) -> tuple[int, int, tuple[Command, ...]]:
    """(session, number, commands). Raises NotOurLanguage."""
    session, number, named = _take(items, 3)
    commands = tuple(_by_name(_COMMANDS, name, raw) for name, raw in _read(_named, named))
    return _read(_whole, session), _read(_whole, number), cast(tuple[Command, ...], commands)


def poll_of(items: Sequence[msgspec.Raw]) -> tuple[int, int, float]:
    """(id, after_seq, wait_s). Raises NotOurLanguage."""
    poll_id, after_seq, wait_s = _take(items, 3)
    return _read(_whole, poll_id), _read(_whole, after_seq), _read(_seconds, wait_s)


def read_of(items: Sequence[msgspec.Raw]) -> tuple[int, int, float, int]:
    """(book, number, every_s, count). Raises NotOurLanguage."""
    book, number, every_s, count = _take(items, 4)
    return _read(_whole, book), _read(_whole, number), _read(_seconds, every_s), _read(_whole, count)


def readings_of(items: Sequence[msgspec.Raw]) -> bytes:
    """Raises NotOurLanguage."""
    (body,) = _take(items, 1)
    return _read(_bytes, body)


def batch_of(items: Sequence[msgspec.Raw]) -> tuple[int, EventBatch]:
    """(id, batch). Raises NotOurLanguage."""
    poll_id, head, numbered = _take(items, 3)
    events = tuple(
        NumberedEvent(seq, cast(Event, _by_name(_EVENTS, name, raw))) for seq, name, raw in _read(_numbered, numbered)
    )
    incarnation, session, heard, clock_s = _read(_head, head)
    return _read(_whole, poll_id), EventBatch(incarnation, events, session, heard, clock_s)


def _take(items: Sequence[msgspec.Raw], count: int) -> Sequence[msgspec.Raw]:
    if len(items) != count:
        raise NotOurLanguage(f"a frame of {len(items)} items where {count} belong")
    return items


def _by_name(decoders: dict[str, Any], name: str, raw: msgspec.Raw) -> object:
    decoder = decoders.get(name)
    if decoder is None:
        raise NotOurLanguage(f"nothing is called {name[:40]!r} here")
    return _read(decoder, raw)


def _read(decoder: msgspec.msgpack.Decoder[T], raw: bytes | msgspec.Raw) -> T:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotOurLanguage(str(error)) from error
