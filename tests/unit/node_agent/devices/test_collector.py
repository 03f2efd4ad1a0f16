"""The driver is asked in another process: what is told while it hangs, dies or cannot be had, and when it is back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.telemetry.stub import StubCards
from node_agent.devices.collector import CollectedDevices, Patience
from node_agent.devices.faults import FaultBook
from node_agent.devices.source import (
    Device,
    DeviceEvent,
    DeviceSourceError,
    Group,
    Quantity,
    Reading,
    Unavailable,
)
from tests.fakes.nvml_stub import stub_cards

FIRST = "GPU-00000000-stub"
QUICK = {Group.FAST: 0.05, Group.LINKS: 0.2, Group.CONDITION: 0.4}
PATIENT = Patience(deadline_s=0.3, ask_after_s=60, kill_after_s=120, pause_s=0.05, longest_pause_s=0.2)
CALM = Patience(deadline_s=20, pause_s=0.05, longest_pause_s=0.2)  # a busy machine is no stuck driver
BRISK = Patience(deadline_s=0.2, ask_after_s=0.4, kill_after_s=0.8, reap_s=2, pause_s=0.05, longest_pause_s=0.2)


@pytest.fixture
def cards(tmp_path: Path) -> Iterator[StubCards]:
    cards = stub_cards(tmp_path)
    yield cards
    for card in range(8):
        cards.set(card, hang_ms=0)
    cards.close()


@contextmanager
def collected(cards: StubCards, patience: Patience = CALM, kernel_log: str = "") -> Iterator[CollectedDevices]:
    source = CollectedDevices(
        "nvml",
        "nvidia",
        patience=patience,
        intervals_s=QUICK,
        kernel_log=kernel_log,
        variables=cards.environment(),
    )
    try:
        yield source
    finally:
        for card in range(8):
            cards.set(card, hang_ms=0)  # whoever was left behind may end
        source.close()


def until(what: Callable[[], object], within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def power(source: CollectedDevices) -> Reading | Unavailable:
    return source.read(time.time(), (Group.FAST,))[FIRST][Quantity.POWER_WATTS]


def in_state(source: CollectedDevices, phase: str) -> Callable[[], bool]:
    return lambda: source.state.phase == phase


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_readings_are_those_of_the_driver_with_the_time_at_which_they_were_taken(cards: StubCards) -> None:
    before_s = time.time()
    with collected(cards) as source:
        assert len(source.enumerate()) == 8
        until(lambda: isinstance(power(source), Reading))
        found = power(source)
        assert isinstance(found, Reading)
        assert found.value == 412.5
        assert before_s <= found.at_s <= time.time()
        until(lambda: isinstance(source.read(0.0)[FIRST][Quantity.LINKS_UP], Reading))
        until(lambda: source.topology().found == 8)
        assert source.topology().versions["driver"] == "999.10.02-stub"
        pid = source.state.pid
    assert pid is not None
    assert gone(pid)


def test_a_call_that_hangs_is_told_since_when_and_comes_back_by_itself(cards: StubCards) -> None:
    """Three seconds, as the driver sometimes takes: nobody is killed, and the same process goes on."""
    with collected(cards, PATIENT) as source:
        until(lambda: isinstance(power(source), Reading))
        pid = source.state.pid
        cards.set(2, hang_ms=3000)
        until(in_state(source, "stuck"))
        assert "driver call stuck since" in source.state.text
        assert "(reading " in source.state.text
        assert all(
            isinstance(measured, Unavailable) and measured.reason.startswith("driver call stuck since")
            for quantity, measured in source.read(time.time(), (Group.FAST, Group.CONDITION))[FIRST].items()
        )
        assert any("stuck" in note for note in source.topology().notes)
        assert len(source.enumerate()) == 8  # what was there is still known
        cards.set(2, hang_ms=0)
        until(lambda: isinstance(power(source), Reading))
        assert (source.state.pid, source.state.restarts) == (pid, 0)


def test_after_patience_the_process_is_asked_to_end_and_another_is_started(cards: StubCards) -> None:
    """The call comes back while it is asked: it ends in good order, and nobody was killed in a driver call."""
    patience = Patience(deadline_s=0.2, ask_after_s=0.4, kill_after_s=30, pause_s=0.05, longest_pause_s=0.2)
    with collected(cards, patience) as source:
        pid = source.state.pid
        cards.set(2, hang_ms=60_000)
        until(lambda: "asked to end" in source.state.text)  # only then does the call come back
        cards.set(2, hang_ms=0)
        until(lambda: source.state.restarts == 1 and isinstance(power(source), Reading))
        assert source.state.pid != pid
        assert source.state.left_behind == ()


def test_a_process_that_does_not_end_is_killed_and_replaced(cards: StubCards) -> None:
    with collected(cards, BRISK) as source:
        pid = source.state.pid
        assert pid is not None
        cards.set(2, hang_ms=600_000)
        until(lambda: gone(pid))
        cards.set(2, hang_ms=0)
        until(lambda: source.state.phase == "sampling" and source.state.pid != pid)
        until(lambda: isinstance(power(source), Reading))


def test_a_process_that_the_kernel_holds_is_left_behind_and_not_for_ever_replaced(cards: StubCards) -> None:
    with collected(cards, BRISK) as source:
        cards.set(2, kernel=1, hang_ms=600_000)
        until(in_state(source, "given up"), 30)
        left = source.state.left_behind
        assert len(left) == 2
        assert not any(gone(pid) for pid in left)
        assert "reboot the node" in source.state.text
        assert isinstance(power(source), Unavailable)
        cards.set(2, hang_ms=0, kernel=0)  # the driver answers after all
        until(lambda: all(gone(pid) for pid in left))
        until(lambda: isinstance(power(source), Reading), 30)
        until(lambda: source.state.left_behind == ())


def test_a_process_that_died_is_replaced(cards: StubCards) -> None:
    with collected(cards) as source:
        pid = source.state.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: source.state.restarts == 1 and source.state.phase == "sampling")
        until(lambda: isinstance(power(source), Reading))


def test_a_process_that_was_stopped_is_seen_by_its_silence(cards: StubCards) -> None:
    with collected(cards, PATIENT) as source:
        until(lambda: isinstance(power(source), Reading))
        pid = source.state.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            until(in_state(source, "stuck"))
        finally:
            os.kill(pid, signal.SIGCONT)
        until(in_state(source, "sampling"))


def test_a_driver_that_is_unloaded_later_is_told_and_tried_again(cards: StubCards) -> None:
    with collected(cards) as source:
        cards.init_returns(9)
        pid = source.state.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: "check that nvidia-smi works" in source.state.text)
        found = power(source)
        assert isinstance(found, Unavailable)
        cards.init_returns(0)
        until(lambda: isinstance(power(source), Reading))


@pytest.mark.parametrize(("code", "said"), [(9, "check that nvidia-smi works"), (18, "load the driver anew")])
def test_a_driver_that_cannot_be_opened_says_so_here(cards: StubCards, code: int, said: str) -> None:
    cards.init_returns(code)
    with pytest.raises(DeviceSourceError, match=said):
        CollectedDevices("nvml", "nvidia", variables=cards.environment())


def test_a_source_that_nobody_knows_is_said() -> None:
    with pytest.raises(DeviceSourceError, match="unknown device source 'npu'"):
        CollectedDevices("npu", "huawei")


def test_faults_are_heard_from_driver_and_kernel_log_and_count_once(cards: StubCards, tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    os.mkfifo(log)
    with log.open("r+b", buffering=0) as kernel, collected(cards, kernel_log=str(log)) as source:
        cards.event(3, 79)
        kernel.write(b"4,1,2,-;NVRM: Xid (PCI:0000:13:00): 79, pid=7, GPU has fallen off the bus.\n")
        kernel.write(b"4,2,3,-;NVRM: Xid (PCI:0000:15:00): 63, row remapper\n")
        told: list[DeviceEvent] = []
        until(lambda: told.extend(source.events(0.0)) or len(told) >= 2)
        assert {(event.uuid, event.code) for event in told} == {("GPU-00000003-stub", 79), ("GPU-00000005-stub", 63)}
        until(lambda: not source.events(0.0))
        fields = source.read(time.time())["GPU-00000003-stub"]
        faults, last = fields[Quantity.FAULTS], fields[Quantity.LAST_FAULT]
        assert isinstance(faults, Reading)
        assert isinstance(last, Reading)
        assert (faults.value, last.value) == (1, 79)
        none = source.read(time.time())[FIRST]
        assert isinstance(none[Quantity.LAST_FAULT], Unavailable)


def test_a_kernel_log_that_cannot_be_read_is_a_note(cards: StubCards, tmp_path: Path) -> None:
    with collected(cards, kernel_log=str(tmp_path / "none")) as source:
        until(lambda: any("kernel's log cannot be read" in note for note in source.topology().notes))


def test_the_same_fault_again_from_the_same_witness_counts_again() -> None:
    book = FaultBook()
    device = Device(0, "GPU-a", "X", "nvidia", 0, False, "GPU-a", bus_id="0000:3b:00.0")
    driver = DeviceEvent("GPU-a", "xid", 31, "XID 31", 10.0, "driver")
    kernel = DeviceEvent(None, "xid", 31, "XID 31: MMU", 10.5, "kernel log", "0000:3b:00.0")
    book.add([driver, kernel, driver], [device])
    assert [event.heard for event in book.take()] == ["driver", "driver"]
    faults = book.readings("GPU-a", 11.0)[Quantity.FAULTS]
    assert isinstance(faults, Reading)
    assert faults.value == 2
    book.add([DeviceEvent(None, "sxid", 12028, "SXID", 20.0, "kernel log", "0000:c1:00.0")], [device])
    assert [event.uuid for event in book.take()] == [None]
