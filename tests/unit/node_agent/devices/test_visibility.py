"""The table of visibility variables: whole, and of one mind with the catalogue and with what jobs may set."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import configs
from node_agent.devices.visibility import HIDDEN, NAMES, VENDORS, hidden, visible
from node_agent.execution.environment import allowed
from scheduler.schema.job_models import is_reserved_env

CATALOGUE = Path(configs.__file__).with_name("hardware_catalogue.csv")


def test_every_vendor_of_the_catalogue_has_a_row_and_no_other_has() -> None:
    with CATALOGUE.open() as file:
        assert {row["vendor"] for row in csv.DictReader(file)} == set(VENDORS)


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_vendor_s_devices_are_shown_and_all_others_hidden(vendor: str) -> None:
    own = VENDORS[vendor]
    assert own.source
    shown = visible(vendor, ["3", "1"])
    for name in own.names:
        assert shown[name] == ("1,3" if own.ascending else "3,1")
    for name in own.unset:
        assert name not in shown
    for name, value in HIDDEN.items():
        if name not in own.names and name not in own.unset:
            assert shown[name] == value
    assert own.also.items() <= shown.items()
    assert set(shown) <= NAMES


@pytest.mark.parametrize("vendor", ["cpu", "nobody", *VENDORS])
def test_without_devices_none_is_shown_of_any_vendor(vendor: str) -> None:
    assert visible(vendor, []) == hidden() == HIDDEN


def test_amd_s_runtime_needs_a_number_to_show_nothing() -> None:
    """It takes an empty variable for none, and shows every device."""
    assert hidden()["HIP_VISIBLE_DEVICES"] == "-1"


def test_ascend_takes_ids_in_ascending_order_alone() -> None:
    assert visible("huawei", ["10", "9", "2"])["ASCEND_RT_VISIBLE_DEVICES"] == "2,9,10"


def test_hip_counts_from_what_rocr_leaves_so_that_stays_away() -> None:
    assert "ROCR_VISIBLE_DEVICES" not in visible("hygon", ["0", "1"])
    assert visible("nvidia", ["GPU-a"])["ROCR_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize("name", sorted(NAMES))
def test_no_job_may_set_one_itself(name: str) -> None:
    assert not allowed(name)
    assert is_reserved_env(name)


def test_only_what_was_tried_is_said_to_be_seen() -> None:
    assert [vendor for vendor, row in VENDORS.items() if row.seen] == ["nvidia"]
