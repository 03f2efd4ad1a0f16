"""How do the readings of nodes cross to the service? As sections of a batch, one a node, of what has changed.

A node's readings are a table: a row a device, a column a quantity, in the order that the last *head* named. A cell is
told as its place (row x columns + column, two bytes) and its value (eight bytes, little-endian), or among the places of
a reason why there is none. When values were taken, and how they came about, is told of rectangles of the table: what is
read together has one time.

    batch    [book, [section, ...]]
    section  [node, layout, number, base, places, values, [stamp, ...], [[reason, lasting, places], ...], head or nil]
    stamp    [row, rows, column, columns, at_s, quality]
    head     [devices, quantities, qualities]

A section tells all that has changed after the book's `base` up to its `number`; base 0 tells everything, with the head,
and gives the table its `layout`. So it may be taken by whoever has that layout as of `base` or later, also twice.
Whatever does not fit is refused: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

FRAME_BYTES = 256 << 10  # a batch is cut about here, so that what is urgent does not wait behind it
BATCH_LIMIT_BYTES = 8 << 20
MOST_DEVICES = 1024  # of one node: a place has two bytes
MOST_QUANTITIES = 64
MOST_REASONS = 512  # that differ, in one section
REASON_CHARACTERS = 500
NAME_CHARACTERS = 256  # of a device's uuid
LATEST_S = 1e12

Stamp = tuple[int, int, int, int, float, int]
"""(row, rows, column, columns, at_s, quality): quality is its place in the head's."""


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What rows, columns and numbers of qualities stand for."""

    devices: tuple[str, ...]
    quantities: tuple[str, ...]
    qualities: tuple[str, ...]


class Section(msgspec.Struct, frozen=True, array_like=True):
    """Of one node. `places` are of the cells that have `values`."""

    node: str
    layout: int
    number: int
    base: int
    places: bytes
    values: bytes
    stamps: tuple[Stamp, ...] = ()
    reasons: tuple[tuple[str, bool, bytes], ...] = ()
    head: Head | None = None


class Batch(msgspec.Struct, frozen=True, array_like=True):
    book: int
    sections: tuple[Section, ...]


class NotReadings(Exception):
    """What came is no batch of readings, or one that cannot be. The message says what is wrong with it."""


_encoder = msgspec.msgpack.Encoder()
_batches = msgspec.msgpack.Decoder(Batch)


def batches(book: int, sections: Iterable[Section]) -> Iterator[bytes]:
    """The sections in as many batches as their size asks for."""
    waiting: list[msgspec.Raw] = []
    size = 0
    for section in sections:
        packed = _encoder.encode(section)
        if waiting and size + len(packed) > FRAME_BYTES:
            yield _encoder.encode((book, waiting))
            waiting, size = [], 0
        waiting.append(msgspec.Raw(packed))
        size += len(packed)
    if waiting:
        yield _encoder.encode((book, waiting))


def batch_of(body: bytes) -> Batch:
    """Raises NotReadings. What the sections hold is for the store to judge."""
    if len(body) > BATCH_LIMIT_BYTES:
        raise NotReadings(f"{len(body)} bytes of readings are over the limit of {BATCH_LIMIT_BYTES}")
    try:
        return _batches.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotReadings(str(error)) from None
