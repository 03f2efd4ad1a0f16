"""Racks begin one after the other."""

from __future__ import annotations

from benchmarks.system.ramp import RACK_CARDS, Placed, ramp


def test_one_rack_a_second_and_loose_nodes_together_up_to_a_racks_cards() -> None:
    nodes = [Placed("a", "r2", 8), Placed("b", "r1", 8), Placed("c", "r1", 8), Placed("d", None, 8)]
    assert ramp(nodes) == {"b": 0.0, "c": 0.0, "a": 1.0, "d": 2.0}
    assert ramp([]) == {}


def test_ten_thousand_cards_never_begin_within_one_second() -> None:
    for rack_of in (lambda i: f"r{i // 8:03d}", lambda i: None):
        delays = ramp([Placed(f"n{i:04d}", rack_of(i), 8) for i in range(1250)])
        begun: dict[float, int] = {}
        for delay in delays.values():
            begun[delay] = begun.get(delay, 0) + 8
        assert max(begun.values()) <= RACK_CARDS
        assert 138 <= max(delays.values()) < 160
