"""What do commands and events cost on the agent's own connection (node_agent.wire), there and back? And one node's
packed readings, from the agent's book into the service's columns? Run: `make bench`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from pytest_benchmark.fixture import BenchmarkFixture

from node_agent import wire
from node_agent.devices.source import NOT_SUPPORTED, Measured, Quality, Quantity, reading
from node_agent.messages import Command, Event, EventBatch, Exited, LaunchSpec, NumberedEvent, Prepare, RunKey, Started
from node_agent.readings_book import NodeReadings, ReadingsBook
from node_agent.readings_wire import batches
from scheduler.engine.readings import ReadingsStore

MESSAGES = 64
DEVICES = 8
CHANGING = (
    Quantity.UTILISATION_PERCENT,
    Quantity.SM_ACTIVITY_PERCENT,
    Quantity.MEMORY_USED_BYTES,
    Quantity.ENERGY_JOULES,
)
NODE, AGENT = "edge-0", "agent"

SPEC = LaunchSpec(
    argv=("/bin/sh", "-c", "exec python train.py"),
    model_path=None,
    model_class=None,
    env=(("EPOCHS", "3"), ("DATA", "/data/film")),
    working_dir="/data/film",
    checkpoint_dir="/data/checkpoints/film",
    resume_from=None,
    device_indices=(0, 1),
    share_milli=1000,
    cpus_milli=8_000,
    memory_bytes=32 << 30,
    world_size=1,
    grace_s=30.0,
    lease_bound=True,
    serves=False,
    job_name="train",
    tenant="studio",
    kind="training",
)
KEYS = tuple(RunKey(f"j-{number}", 1, 0, NODE) for number in range(MESSAGES))


def commands_across(sent: Sequence[Command]) -> tuple[Command, ...]:
    (frame,) = wire.Frames().feed(wire.commands_frame(1, 1, sent))
    return wire.commands_of(wire.opened(frame)[1])[2]


def events_across(batch: EventBatch) -> EventBatch:
    (frame,) = wire.Frames().feed(wire.batch_frame(1, batch))
    return wire.batch_of(wire.opened(frame)[1])[1]


def readings_at(at_s: float) -> NodeReadings:
    """Every device's changing quantities, new at this time; the rest are not supported."""
    rest: dict[Quantity, Measured] = dict.fromkeys(Quantity, NOT_SUPPORTED)
    return {
        f"gpu-{number}": rest | {each: reading(each, at_s + number, at_s, Quality.SIMULATED) for each in CHANGING}
        for number in range(DEVICES)
    }


def test_commands_to_start_64_jobs(benchmark: BenchmarkFixture) -> None:
    sent = tuple(Prepare(1, key, SPEC, release=True) for key in KEYS)
    assert benchmark(commands_across, sent) == sent


def test_events_of_64_jobs(benchmark: BenchmarkFixture) -> None:
    told: list[Event] = [Started(key, 4711, 1e9) for key in KEYS[::2]]
    told += [Exited(key, "exit", 0, None, "", 1e9, '{"loss": 0.1}') for key in KEYS[1::2]]
    batch = EventBatch("first", tuple(NumberedEvent(seq, event) for seq, event in enumerate(told)), 1, 1, 1e9)
    assert benchmark(events_across, batch) == batch


def test_readings_of_a_node_of_8_cards(benchmark: BenchmarkFixture) -> None:
    """One round: what changed since the last is written into the book, packed, and laid over the service's columns."""
    book, store = ReadingsBook(), ReadingsStore()
    times = count(1)
    both = [readings_at(1.0), readings_at(2.0)]

    def one_round() -> int:
        known = store.known(AGENT, (NODE,))
        book.turn()
        book.update(NODE, both[next(times) % 2])
        bodies = batches(book.book, book.since(*known))
        return sum(store.take(AGENT, (NODE,), body).nodes for body in bodies)

    one_round()
    assert benchmark(one_round) == 1


def test_one_batch_of_readings_of_100_nodes(benchmark: BenchmarkFixture) -> None:
    """The service's part alone: everything of a hundred nodes, as after a reconnect, taken in."""
    names = tuple(f"edge-{number}" for number in range(100))
    book, now = ReadingsBook(), readings_at(1.0)
    book.turn()
    for name in names:
        book.update(name, now)
    bodies = list(batches(book.book, book.since(0, 0)))

    def taken_in() -> int:
        store = ReadingsStore()
        return sum(store.take(AGENT, names, body).nodes for body in bodies)

    assert benchmark(taken_in) == len(names)
