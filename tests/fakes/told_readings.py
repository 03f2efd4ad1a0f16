"""Readings of made-up devices for tests of their way to the service: a few quantities that change, the rest never."""

from __future__ import annotations

from hypothesis import strategies as st

from node_agent.devices.source import (
    NOT_SUPPORTED,
    Measured,
    Quality,
    Quantity,
    Unavailable,
    reading,
)
from node_agent.readings_book import NodeReadings, ReadingsBook
from node_agent.readings_wire import batches

# One of each group, neighbours, and such as are told even where they never come.
CHANGING = (
    Quantity.UTILISATION_PERCENT,
    Quantity.SM_ACTIVITY_PERCENT,
    Quantity.MEMORY_USED_BYTES,
    Quantity.ENERGY_JOULES,
    Quantity.PROCESSES,
    Quantity.VENDOR_HEALTH,
    Quantity.FAULTS,
)

numbers = st.one_of(st.integers(0, 3).map(float), st.floats(allow_nan=False, allow_infinity=False))
cells: st.SearchStrategy[tuple[Quantity, Measured]] = st.one_of(
    st.tuples(st.sampled_from(CHANGING), numbers, st.sampled_from([0.0, 1.5, 7.25]), st.sampled_from(Quality)).map(
        lambda drawn: (drawn[0], reading(drawn[0], drawn[1], drawn[2], drawn[3]))
    ),
    st.tuples(
        st.sampled_from(CHANGING), st.sampled_from(["lost", "stuck", "not sampled yet", "不"]), st.booleans()
    ).map(lambda drawn: (drawn[0], Unavailable(drawn[1], lasting=drawn[2]))),
)


def full(**given: Measured) -> dict[Quantity, Measured]:
    """Of one device: all quantities, those that are not given are not supported."""
    return dict.fromkeys(Quantity, NOT_SUPPORTED) | {Quantity(name): each for name, each in given.items()}


device: st.SearchStrategy[dict[Quantity, Measured]] = st.lists(cells, max_size=7).map(
    lambda drawn: dict.fromkeys(Quantity, NOT_SUPPORTED) | dict(drawn)
)
nodes: st.SearchStrategy[dict[str, dict[Quantity, Measured]]] = st.dictionaries(
    st.sampled_from(["gpu-a", "gpu-b", "gpu-c"]), device, max_size=3
)


def told(book: ReadingsBook, book_known: int, base: int, **readings: NodeReadings) -> list[bytes]:
    """What an agent says of its nodes, as of what is known of its book."""
    book.turn()
    for name, of in readings.items():
        book.update(name, of)
    return list(batches(book.book, book.since(book_known, base)))
