"""What a run made its devices do, from readings while it lived: a table of counters that run, fail and are set back."""

from __future__ import annotations

import pytest

from node_agent.devices.quantities import Quantity
from node_agent.devices.source import Measured, Quality, Unavailable, reading
from node_agent.messages import DeviceUse, RunKey
from node_agent.metering import RunMeters

KEY = RunKey("1", 1, 0, "n1")
LOST = Unavailable("device lost: gone")


def fields(
    at_s: float, joules: float | None, busy: float = 50.0, held: float = 8.0, quality: Quality = Quality.MEASURED
) -> dict[Quantity, Measured]:
    return {
        Quantity.ENERGY_JOULES: LOST if joules is None else reading(Quantity.ENERGY_JOULES, joules, at_s, quality),
        Quantity.UTILISATION_PERCENT: reading(Quantity.UTILISATION_PERCENT, busy, at_s, quality),
        Quantity.MEMORY_USED_BYTES: reading(Quantity.MEMORY_USED_BYTES, held, at_s, quality),
    }


def used(*rounds: dict[str, dict[Quantity, Measured]], devices: tuple[str, ...] = ("a",)) -> DeviceUse | None:
    meters = RunMeters()
    meters.begin(KEY, devices)
    for each in rounds:
        meters.read("n1", each)
    return meters.end(KEY)


def test_joules_are_what_the_counters_gained() -> None:
    found = used(
        {"a": fields(0.0, 1000.0, busy=0.0, held=5.0), "b": fields(0.0, 10.0)},
        {"a": fields(10.0, 5000.0, busy=100.0, held=9.0), "b": fields(10.0, 1010.0)},
        {"a": fields(30.0, 9000.0, busy=40.0, held=7.0), "b": fields(30.0, 3010.0)},
        devices=("a", "b"),
    )
    # a was at 100% for 10 s and at 40% for 20 s; b at 50% for 30 s
    assert found == DeviceUse(2, 30.0, 11_000.0, False, 11_000.0 / 30.0, 9.0, 55.0, False)


def test_a_counter_that_was_set_back_gives_the_least() -> None:
    found = used({"a": fields(0.0, 1000.0)}, {"a": fields(10.0, 3000.0)}, {"a": fields(20.0, 400.0)})
    assert found is not None
    assert (found.joules, found.joules_at_least, found.metered_s) == (2400.0, True, 20.0)


@pytest.mark.parametrize("second", [fields(10.0, None), {}])
def test_what_was_not_read_is_none_and_not_nothing(second: dict[Quantity, Measured]) -> None:
    """One card of two is lost: what both used together is not known."""
    found = used(
        {"a": fields(0.0, 100.0), "b": fields(0.0, None)},
        {"a": fields(10.0, 200.0), "b": second},
        devices=("a", "b"),
    )
    assert found is not None
    assert (found.joules, found.mean_watts, found.peak_memory_bytes) == (None, None, 8.0)


def test_a_run_that_was_read_once_used_nothing_that_is_known() -> None:
    found = used({"a": fields(0.0, 100.0)}, {"a": fields(0.0, 100.0)})
    assert found is not None
    assert (found.joules, found.mean_watts, found.mean_utilisation_percent) == (None, None, None)
    assert used() is None
    assert used({"a": {}}) is None


def test_a_round_that_failed_loses_no_joules() -> None:
    found = used({"a": fields(0.0, 100.0)}, {"a": fields(10.0, None)}, {"a": fields(20.0, 900.0)})
    assert found is not None
    assert (found.joules, found.metered_s) == (800.0, 20.0)


def test_what_is_simulated_says_so_and_other_nodes_do_not_count() -> None:
    meters = RunMeters()
    meters.begin(KEY, ["a"])
    meters.begin(RunKey("2", 1, 0, "n2"), ["a"])
    assert meters.nodes() == {"n1", "n2"}
    meters.read("n1", {"a": fields(0.0, 100.0, quality=Quality.SIMULATED)})
    meters.read("n1", {"a": fields(5.0, 200.0, quality=Quality.SIMULATED)})
    found = meters.end(KEY)
    assert found is not None
    assert (found.simulated, found.joules) == (True, 100.0)
    assert meters.end(RunKey("2", 1, 0, "n2")) is None
    assert meters.end(KEY) is None
    assert not meters.nodes()
