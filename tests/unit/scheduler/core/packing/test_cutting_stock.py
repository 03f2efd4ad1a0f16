"""Prices of shares: what the cutting-stock dual must satisfy, and cases that can be solved by hand."""

from __future__ import annotations

from itertools import combinations_with_replacement, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.packing.cutting_stock import cut_prices


@pytest.mark.parametrize(
    ("demand", "prices"),
    [
        ({1000: 1}, {1000: 1.0}),
        ({500: 1}, {500: 0.5}),
        ({810: 3}, {810: 1.0}),
        ({330: 1}, {330: 1 / 3}),
        ({600: 1, 400: 1}, {600: 0.5, 400: 0.5}),
        ({600: 5, 400: 1}, {600: 1.0, 400: 0.0}),  # the 400s come free with the 600s
        ({810: 9, 190: 1}, {810: 1.0, 190: 0.0}),
    ],
)
def test_prices_by_hand(demand: dict[int, float], prices: dict[int, float]) -> None:
    """Where several prices are as good, the devices they pay for are the same."""
    found = cut_prices(demand).of_size
    assert sum(demand[size] * price for size, price in found.items()) == pytest.approx(
        sum(demand[size] * price for size, price in prices.items())
    )
    if len(set(demand.values())) == len(demand):
        assert found == pytest.approx(prices)


@given(st.dictionaries(st.integers(10, 100).map(lambda cell: cell * 10), st.integers(1, 50), min_size=1, max_size=5))
def test_no_way_to_cut_a_device_is_worth_more_than_a_device(demand: dict[int, float]) -> None:
    prices = cut_prices(demand).of_size
    for count in range(1, 5):
        for way in combinations_with_replacement(prices, count):
            if sum(way) <= 1000:
                assert sum(prices[size] for size in way) <= 1 + 1e-6


@given(st.dictionaries(st.integers(1, 1000), st.integers(1, 50), min_size=1, max_size=12))
def test_what_is_left_is_worth_more_the_more_it_is_and_a_device_at_most_1(demand: dict[int, float]) -> None:
    found = cut_prices(demand)
    worth = found.worth.tolist()
    assert len(worth) == 1001
    assert (worth[0], worth[1000]) == (0.0, 1.0)
    assert all(less <= more for less, more in pairwise(worth))
    assert all(price <= worth[-(-size // 10) * 10] + 1e-6 for size, price in found.of_size.items())


@given(st.dictionaries(st.integers(1, 100).map(lambda cell: cell * 10), st.integers(1, 50), min_size=1, max_size=12))
def test_the_prices_pay_for_at_least_the_volume_and_at_most_a_device_each(demand: dict[int, float]) -> None:
    prices = cut_prices(demand).of_size
    paid = sum(demand[size] * price for size, price in prices.items())
    assert sum(size * count for size, count in demand.items()) / 1000 <= paid + 1e-6
    assert paid <= sum(demand.values()) + 1e-6


def test_without_demand_what_is_left_is_worth_itself() -> None:
    assert cut_prices({}).worth.tolist() == [milli / 1000 for milli in range(1001)]
    assert cut_prices({500: 0.0}).of_size == {}


def test_rare_sizes_beyond_the_forty_that_count_have_the_price_of_what_they_are_cut_from() -> None:
    found = cut_prices({size: 1.0 + size for size in range(10, 1001, 10)})
    assert len(found.of_size) == 100
    assert found.of_size[10] == found.worth[10]
