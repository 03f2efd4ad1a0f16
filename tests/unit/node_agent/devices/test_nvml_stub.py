"""The real pynvml over a driver library of eight cards that are made up, and whatever may go wrong with some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.telemetry.stub import StubCards
from node_agent.devices.counters import Gained, gained
from node_agent.devices.nvml import NvmlDevices
from node_agent.devices.quantities import MEANINGS, RecoveryAction
from node_agent.devices.source import DeviceSourceError, Group, Measured, Quantity, Reading, Unavailable
from tests.fakes.nvml_stub import stub_cards

FIRST, SECOND = "GPU-00000000-stub", "GPU-00000001-stub"
# What NVML has no word for.
NEVER = {Quantity.VENDOR_HEALTH, Quantity.FAULTS, Quantity.LAST_FAULT}


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubCards]:
    cards = stub_cards(tmp_path)
    monkeypatch.setenv("NVML_STUB", str(cards.path))
    yield cards
    cards.close()


@pytest.fixture
def source(cards: StubCards, tmp_path: Path) -> Iterator[NvmlDevices]:
    source = NvmlDevices(library=str(cards.library), drivers_list=tmp_path / "none")
    source.enumerate()
    yield source
    source.close()


def value(measured: Measured) -> float:
    assert isinstance(measured, Reading), measured
    return measured.value


def reason(measured: Measured) -> str:
    assert isinstance(measured, Unavailable), measured
    return measured.reason


def test_a_card_that_is_well_has_every_reading_that_nvml_knows(source: NvmlDevices) -> None:
    source.read(1.0)  # activity is between two samples
    fields = source.read(2.0)[FIRST]
    assert {q for q, m in fields.items() if not isinstance(m, Reading)} == NEVER
    expected = {
        Quantity.UTILISATION_PERCENT: 37,
        Quantity.SM_ACTIVITY_PERCENT: 81,
        Quantity.TENSOR_ACTIVITY_PERCENT: 44,
        Quantity.MEMORY_ACTIVITY_PERCENT: 30,
        Quantity.MEMORY_USED_BYTES: 1 << 30,  # without the 512 MiB that the driver keeps
        Quantity.MEMORY_RESERVED_BYTES: 512 << 20,
        Quantity.POWER_WATTS: 412.5,
        Quantity.ENERGY_JOULES: 9000.5,
        Quantity.MEMORY_TEMPERATURE_CELSIUS: 66,
        Quantity.LINK_SENT_BYTES: 4096 << 10,
        Quantity.LINK_CRC_ERRORS: 18,  # one of each link
        Quantity.POWER_LIMIT_WATTS: 700,
        Quantity.LINKS_UP: 18,
        Quantity.PROCESSES: 1,
    }
    assert {quantity: value(fields[quantity]) for quantity in expected} == expected
    assert all(m.unit == MEANINGS[q].unit for q, m in fields.items() if isinstance(m, Reading))


def test_what_the_cards_are_as_a_whole(source: NvmlDevices) -> None:
    topology = source.topology()
    assert (topology.found, topology.expected, topology.missing) == (8, 8, ())
    assert topology.versions == {"driver": "999.10.02-stub", "library": "13.999.10-stub"}
    assert len(topology.links) == 28
    assert {link.by for link in topology.links} == {"NVLink"}
    users = topology.processes[FIRST]
    assert not isinstance(users, Unavailable)
    assert [(user.pid, user.memory_bytes) for user in users] == [(4000, None)]  # all bits set: the driver does not say
    devices = source.enumerate()
    assert {device.island for device in devices} == {f"nvlink-{FIRST}"}
    assert devices[2].bus_id == "0000:12:00.0"


def test_cards_without_nvlink_are_joined_by_what_is_between_them(cards: StubCards, source: NvmlDevices) -> None:
    for card in range(8):
        cards.set(card, links=0)
    cards.count = 7  # a change of what is there makes it be looked at anew
    devices = source.enumerate()
    assert {device.island for device in devices} == {None}
    by = {(link.one, link.other): link.by for link in source.topology().links}
    assert by[FIRST, SECOND] == "NUMA node"
    assert by[FIRST, "GPU-00000004-stub"] == "system"
    assert reason(source.read(1.0)[FIRST][Quantity.LINKS_UP]) == "not supported by this device"


def test_a_field_that_is_not_supported_fails_alone_and_another_call_may_answer(
    cards: StubCards, source: NvmlDevices
) -> None:
    cards.without_fields(0, 83, 185, 230)  # energy, power, recovery action
    fields = source.read(1.0)[FIRST]
    assert value(fields[Quantity.POWER_WATTS]) == 412.5  # by nvmlDeviceGetPowerUsage
    energy = fields[Quantity.ENERGY_JOULES]
    assert isinstance(energy, Unavailable)
    assert energy.lasting
    assert reason(fields[Quantity.RECOVERY_ACTION]) == "not supported by this device"
    assert value(fields[Quantity.MEMORY_TEMPERATURE_CELSIUS]) == 66  # of the same batch
    assert value(source.read(1.0)[SECOND][Quantity.ENERGY_JOULES]) == 9000.5


@pytest.mark.parametrize(("gone", "said"), [(1, "device lost: "), (2, "device must be reset: ")])
def test_a_card_that_goes_hides_no_other(cards: StubCards, source: NvmlDevices, gone: int, said: str) -> None:
    cards.set(0, gone=gone)
    read = source.read(1.0)
    assert all(reason(measured).startswith(said) for measured in read[FIRST].values())
    assert value(read[SECOND][Quantity.TEMPERATURE_CELSIUS]) == 61
    assert [device.index for device in source.enumerate()] == [1, 2, 3, 4, 5, 6, 7]
    topology = source.topology()
    assert (topology.found, topology.expected, topology.missing) == (7, 8, (FIRST,))


def test_a_lost_card_costs_one_call_a_round(cards: StubCards, source: NvmlDevices) -> None:
    for card in range(1, 8):
        cards.set(card, gone=1)
    cards.set(0, gone=1)
    before = cards.calls
    source.read(1.0)
    assert cards.calls - before == 8


def test_fewer_cards_than_the_driver_holds_is_seen_at_the_first_look(cards: StubCards, tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / "gpus" / f"0000:{number:02x}:00.0").mkdir(parents=True)
    source = NvmlDevices(library=str(cards.library), drivers_list=tmp_path / "gpus")
    source.enumerate()
    topology = source.topology()
    assert (topology.found, topology.expected) == (8, 9)
    source.close()


def test_faults_are_told_with_their_card(cards: StubCards, source: NvmlDevices) -> None:
    assert source.events(1.0) == []
    cards.event(3, 79)
    cards.event(0, 1, kind=0x8000)
    told = source.events(2.0)
    assert [(event.uuid, event.kind, event.code) for event in told] == [
        ("GPU-00000003-stub", "xid", 79),
        (FIRST, "recovery", 1),
    ]
    assert source.events(3.0) == []


def test_a_storm_of_faults_is_taken_in_parts(cards: StubCards, source: NvmlDevices) -> None:
    for _ in range(64):
        cards.event(0, 31)
    assert len(source.events(1.0)) == 64
    assert source.events(1.0) == []


def test_a_fault_of_a_lost_card_still_names_it(cards: StubCards, source: NvmlDevices) -> None:
    cards.set(3, gone=1)
    cards.event(3, 79)
    assert [event.uuid for event in source.events(1.0)] == ["GPU-00000003-stub"]


def test_a_counter_that_was_set_back_is_known_by_its_fall(cards: StubCards, source: NvmlDevices) -> None:
    one = source.read(10.0)[FIRST][Quantity.ENERGY_JOULES]
    cards.set(0, energy=9_400_500)
    two = source.read(11.0)[FIRST][Quantity.ENERGY_JOULES]
    cards.set(0, energy=25_000)
    three = source.read(12.0)[FIRST][Quantity.ENERGY_JOULES]
    assert gained(one, two) == Gained(400.0, 1.0, False)
    assert gained(two, three) == Gained(25.0, 1.0, True)
    cards.set(0, gone=1)
    lost = gained(three, source.read(13.0)[FIRST][Quantity.ENERGY_JOULES])
    assert isinstance(lost, Unavailable)
    assert lost.reason.startswith("device lost")


def test_why_clocks_are_held_down(cards: StubCards, source: NvmlDevices) -> None:
    cards.set(0, reasons=0x4 | 0x80 | 0x1)
    fields = source.read(1.0)[FIRST]
    held = {q.value for q, m in fields.items() if q.value.startswith("held_by") and value(m) == 1.0}
    assert held == {"held_by_power_cap", "held_by_power_brake"}


def test_the_drivers_wish_is_the_schemas(cards: StubCards, source: NvmlDevices) -> None:
    cards.set(0, recovery=4, remap_pending=1, remap_failed=1, ecc_uncorrected=3)
    fields = source.read(1.0)[FIRST]
    assert value(fields[Quantity.RECOVERY_ACTION]) == RecoveryAction.DRAIN_AND_RESET
    assert value(fields[Quantity.ROW_REMAP_PENDING]) == 1
    assert value(fields[Quantity.ROW_REMAP_FAILED]) == 1
    assert value(fields[Quantity.ECC_UNCORRECTED_VOLATILE]) == 3


def test_a_sentinel_and_an_unknown_type_are_no_readings(cards: StubCards, source: NvmlDevices) -> None:
    cards.set(0, power=0xFFFFFFFF, utilisation=0xFFFFFFFF)
    cards.set(1, value_type=9)
    cards.set(2, dram=-1)  # not a number
    source.read(1.0)
    read = source.read(2.0)
    assert reason(read[FIRST][Quantity.POWER_WATTS]) == "the driver has no value"
    assert reason(read[FIRST][Quantity.UTILISATION_PERCENT]) == "the driver has no value"
    assert "type 9" in reason(read[SECOND][Quantity.ENERGY_JOULES])
    assert "nan percent" in reason(read["GPU-00000002-stub"][Quantity.MEMORY_ACTIVITY_PERCENT])


def test_a_partitioned_card_is_its_instances(cards: StubCards, source: NvmlDevices) -> None:
    cards.set(0, mig=1, instances=2)
    devices = source.enumerate()
    assert [(d.index, d.uuid, d.mig_profile, d.card) for d in devices[:3]] == [
        (0, "MIG-00000000-0-stub", "1g.10gb", FIRST),
        (1, "MIG-00000000-1-stub", "1g.10gb", FIRST),
        (7, SECOND, None, None),
    ]
    assert devices[0].model == devices[2].model == "H100 SXM"
    assert source.visibility(devices[:1])["CUDA_VISIBLE_DEVICES"] == "MIG-00000000-0-stub"
    read = source.read(1.0)
    of_card, of_instance = read[FIRST], read["MIG-00000000-0-stub"]
    assert reason(of_card[Quantity.UTILISATION_PERCENT]) == "not offered while the card is partitioned (MIG)"
    assert value(of_card[Quantity.POWER_WATTS]) == 412.5
    assert value(of_instance[Quantity.MEMORY_TOTAL_BYTES]) == 10 << 30
    assert reason(of_instance[Quantity.POWER_WATTS]) == "not offered for a MIG instance"
    assert source.topology().found == 8


def test_instances_that_were_taken_away_are_not_missed(cards: StubCards, source: NvmlDevices) -> None:
    cards.set(0, mig=1, instances=2)
    source.enumerate()
    cards.set(0, instances=1)
    assert "MIG-00000000-1-stub" not in {device.uuid for device in source.enumerate()}
    assert source.topology().missing == ()
    assert "MIG-00000000-1-stub" not in source.read(1.0)
    cards.set(0, mig=0, instances=0)
    assert source.enumerate()[0].uuid == FIRST
    assert value(source.read(2.0)[FIRST][Quantity.UTILISATION_PERCENT]) == 37
    cards.set(0, mig=1, instances=1)
    source.enumerate()
    cards.set(0, gone=1)  # but the instances of a card that went are
    source.enumerate()
    assert set(source.topology().missing) == {FIRST, "MIG-00000000-0-stub"}


def test_looking_again_does_not_begin_activity_anew(source: NvmlDevices) -> None:
    source.read(1.0)
    source.enumerate()
    assert value(source.read(2.0)[FIRST][Quantity.SM_ACTIVITY_PERCENT]) == 81


def test_only_the_asked_groups_are_asked_for(cards: StubCards, source: NvmlDevices) -> None:
    source.read(1.0, (Group.FAST,))
    before = cards.calls
    assert set(source.read(2.0, (Group.FAST,))[FIRST]) < set(Quantity)
    fast = cards.calls - before
    before = cards.calls
    source.read(2.0, (Group.EVENTS,))
    assert cards.calls == before
    assert fast <= 8 * 8  # eight cards, eight calls each: fields are asked for together


# ---- a driver that cannot be used ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said"), [(18, "reboot the node, or load the driver anew"), (9, "check that nvidia-smi works")]
)
def test_a_driver_that_does_not_open_says_what_to_do(cards: StubCards, code: int, said: str) -> None:
    cards.init_returns(code)
    with pytest.raises(DeviceSourceError, match=said):
        NvmlDevices(library=str(cards.library))


def test_a_library_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DeviceSourceError, match="cannot be loaded"):
        NvmlDevices(library=str(tmp_path / "libnothing.so"))


def test_an_old_library_is_used_for_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pynvml then raises NVMLLibraryMismatchError, which is no NVMLError."""
    cards = stub_cards(tmp_path, 1, old=True)
    monkeypatch.setenv("NVML_STUB", str(cards.path))
    source = NvmlDevices(library=str(cards.library), drivers_list=tmp_path / "none")
    source.enumerate()
    fields = source.read(1.0)[FIRST]
    assert "does not match the NVML lib version" in reason(fields[Quantity.PROCESSES])
    assert value(fields[Quantity.POWER_WATTS]) == 412.5
    source.close()
    cards.close()
