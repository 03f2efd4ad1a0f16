"""A device source whose driver is asked in a process of its own: a driver call that never comes back stops nobody here.

The child (`sampler.py`) samples at its own pace; reading here is looking up what it last said. A call that takes longer
than its deadline is a state that readings tell: "driver call stuck since ...". The child is then asked to end, which it
does when its call comes back; only after more patience is it killed, for that has frozen cards; and one that the kernel
holds (state D) cannot even be killed, so it is left behind, not waited for. A new one is started with growing pauses,
but never while too many of its kind hang in the driver.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from node_agent.devices.faults import FaultBook
from node_agent.devices.packed import (
    REASON_CHARACTERS,
    unpacked_device,
    unpacked_event,
    unpacked_row,
    unpacked_topology,
)
from node_agent.devices.quantities import INTERVALS_S, MEANINGS, QUANTITIES, Group, Quantity, asked_for
from node_agent.devices.sampler_process import SamplerProcess
from node_agent.devices.source import (
    Device,
    DeviceEvent,
    DeviceSourceError,
    Measured,
    Quality,
    Topology,
    Unavailable,
)
from node_agent.devices.visibility import visible

LOOK_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Patience:
    """All in seconds. `deadline_s`: from when on a call is stuck; `ask_after_s`, `kill_after_s`: from its begin.

    Pauses between children double from `pause_s` to `longest_pause_s`, and begin anew after a child that sampled for
    longer than that. `most_stuck`: with so many children left behind, no other is started.
    """

    open_s: float = 20.0
    deadline_s: float = 5.0
    ask_after_s: float = 30.0
    kill_after_s: float = 60.0
    reap_s: float = 2.0
    pause_s: float = 1.0
    longest_pause_s: float = 60.0
    most_stuck: int = 2


@dataclass(frozen=True, slots=True)
class CollectorState:
    """What the sampling itself is doing. `text` is a sentence for operators; empty while all is well."""

    phase: Literal["starting", "sampling", "stuck", "pausing", "given up", "closed"]
    since_s: float
    text: str = ""
    pid: int | None = None
    restarts: int = 0
    left_behind: tuple[int, ...] = ()


@dataclass(slots=True)
class _Known:
    """What the child last said. `rows`: by group, when and what, by uuid, as it came."""

    devices: tuple[Device, ...] = ()
    looks: int = 0
    topology: Topology | None = None
    rows: dict[Group, tuple[float, Mapping[str, Any]]] = field(default_factory=dict)


class CollectedDevices:
    """`name` and `options` are an adapter's (openers.py). Raises DeviceSourceError when it cannot be opened in time."""

    def __init__(
        self,
        name: str,
        vendor: str,
        options: Mapping[str, Any] | None = None,
        *,
        patience: Patience | None = None,
        intervals_s: Mapping[Group, float] = INTERVALS_S,
        kernel_log: str = "/dev/kmsg",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._name = name
        self._vendor = vendor
        self._options = dict(options or {})
        self._patience = patience or Patience()
        self._intervals_s = dict(intervals_s)
        self._kernel_log = kernel_log
        self._variables = dict(variables or {})
        self._lock = threading.Condition()
        self._known = _Known()
        self._faults = FaultBook()
        self._state = CollectorState("starting", time.time())
        self._failed = ""
        self._stuck: list[subprocess.Popen[bytes]] = []
        self._child: SamplerProcess | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"devices: {name}", daemon=True)
        self._thread.start()
        self._open()

    def _open(self) -> None:
        with self._lock:
            opened = self._lock.wait_for(lambda: self._known.looks > 0 or self._failed, self._patience.open_s)
            silent = f"{self._name} has not answered for {self._patience.open_s:.0f} s; is its driver stuck?"
            why = self._failed or silent
            if opened and not self._failed:
                return
        self.close()
        raise DeviceSourceError(why)

    # ---- what it is asked ------------------------------------------------------------------------------------------

    @property
    def vendor(self) -> str:
        return self._vendor

    @property
    def state(self) -> CollectorState:
        """Also whether a call is stuck right now."""
        with self._lock:
            return self._now_state()

    def enumerate(self) -> Sequence[Device]:
        """The devices that were there when last looked; asks for a fresh look, and waits for it a moment."""
        with self._lock:
            before = self._known.looks
            if self._now_state().phase == "sampling" and self._child is not None and self._child.ask():
                self._lock.wait_for(lambda: self._known.looks > before or self._closing.is_set(), LOOK_WAIT_S)
            return self._known.devices

    def read(self, now_s: float, groups: Collection[Group] | None = None) -> Mapping[str, Mapping[Quantity, Measured]]:
        """Readings are stamped with when they were taken. While the driver is stuck, what it said is not repeated."""
        quantities = asked_for(groups)
        with self._lock:
            state, known = self._now_state(), self._known
            rows = dict(known.rows)
            uuids = list(dict.fromkeys([*(d.uuid for d in known.devices), *(u for _, of in rows.values() for u in of)]))
            counted = {uuid: self._faults.readings(uuid, now_s) for uuid in uuids}
        if state.phase != "sampling":
            silent = Unavailable(state.text or "the driver is being asked again")
            return {uuid: {q: counted[uuid].get(q, silent) for q in quantities} for uuid in uuids}
        found: dict[str, Mapping[Quantity, Measured]] = {}
        for uuid in uuids:
            fields: dict[Quantity, Measured] = dict(counted[uuid])
            for group, (at_s, of) in rows.items():
                if uuid in of and (groups is None or group in groups):
                    fields |= _row(of[uuid], group, at_s)
            found[uuid] = {quantity: fields.get(quantity, self._not_yet(quantity)) for quantity in quantities}
        return found

    def _not_yet(self, quantity: Quantity) -> Unavailable:
        sampled = MEANINGS[quantity].group in self._intervals_s
        return Unavailable("not sampled yet") if sampled else Unavailable("not sampled here", lasting=True)

    def events(self, now_s: float) -> Sequence[DeviceEvent]:
        with self._lock:
            return self._faults.take()

    def topology(self) -> Topology:
        with self._lock:
            known, state = self._known.topology, self._now_state()
        if known is None:
            return Topology(found=0, expected=0, notes=(state.text or "not sampled yet",))
        return known if not state.text else replace(known, notes=(state.text, *known.notes))

    def visibility(self, devices: Sequence[Device]) -> Mapping[str, str]:
        return visible(self._vendor, [device.visible_id for device in devices])

    def close(self) -> None:
        """Ask the child to end, and wait for it a moment. One that is stuck ends when its call does."""
        self._closing.set()
        with self._lock:
            child = self._child
        if child is not None:
            child.ask_to_end()
        self._thread.join(self._patience.reap_s + 1.0)

    # ---- the thread that keeps a child -----------------------------------------------------------------------------

    def _run(self) -> None:
        pause_s, restarts = self._patience.pause_s, 0
        while not self._closing.is_set():
            self._reap()
            if len(self._stuck) >= self._patience.most_stuck:
                self._enter("given up", self._given_up_text())
                self._closing.wait(self._patience.pause_s)
                continue
            began = time.monotonic()
            why = self._one_child(restarts)
            if self._closing.is_set():
                break
            if time.monotonic() - began > self._patience.longest_pause_s:
                pause_s = self._patience.pause_s
            restarts += 1
            since = time.strftime("%H:%M:%S UTC", time.gmtime())
            self._enter("pausing", f"{why} at {since}; it is started again in {pause_s:.0f} s", restarts=restarts)
            self._closing.wait(pause_s)
            pause_s = min(2 * pause_s, self._patience.longest_pause_s)
        self._enter("closed", "sampling was ended")

    def _given_up_text(self) -> str:
        pids = ", ".join(str(each.pid) for each in self._stuck)
        return f"the driver is stuck: processes {pids} hang in it, and no other is started; reboot the node"

    def _one_child(self, restarts: int) -> str:
        """Start one, hear it until it is gone or left behind; why."""
        try:
            child = SamplerProcess(self._name, self._options, self._intervals_s, self._kernel_log, self._variables)
        except OSError as error:
            self._fail(f"the sampler cannot be started: {error}")
            return f"the sampler could not be started ({error})"
        with self._lock:
            self._child, self._failed = child, ""
            self._state = CollectorState("starting", time.time(), "", child.pid, restarts, self._behind())
        try:
            return self._hear(child)
        finally:
            with self._lock:
                self._child = None
            child.let_go()

    def _hear(self, child: SamplerProcess) -> str:
        patience = self._patience
        while True:
            self._reap()
            lines, ended = child.lines(0.1 if self._closing.is_set() else min(1.0, patience.deadline_s / 2))
            for line in lines:
                self._take(line)
            if ended:
                return self._reaped(child)
            stuck_s = child.stuck_s()
            if self._closing.is_set() and not child.asked_to_end:
                child.ask_to_end()
            if self._closing.is_set() and stuck_s > patience.deadline_s:
                self._stuck.append(child.process)  # it ends when its call does; its input has ended
                return "the sampler was left in a driver call"
            if stuck_s > patience.ask_after_s and not child.asked_to_end:
                child.ask_to_end()
            if stuck_s > patience.kill_after_s:
                return self._rid_of(child)

    def _reaped(self, child: SamplerProcess) -> str:
        """It closed its output, so it is ending."""
        try:
            code = child.process.wait(self._patience.reap_s)
        except subprocess.TimeoutExpired:
            return self._rid_of(child)
        self._fail(f"the sampler ended with {code}: {child.said() or 'it said nothing'}")
        with self._lock:
            return self._failed

    def _rid_of(self, child: SamplerProcess) -> str:
        if not child.held_by_kernel():
            child.process.kill()
            try:
                child.process.wait(self._patience.reap_s)
                return f"a driver call did not come back ({child.doing()}), and its process was killed"
            except subprocess.TimeoutExpired:
                pass
        self._stuck.append(child.process)
        return f"a driver call did not come back ({child.doing()}), and its process {child.pid} was left behind"

    def _reap(self) -> None:
        """Those that were left behind and are gone now."""
        before = len(self._stuck)
        self._stuck = [each for each in self._stuck if each.poll() is None]
        if len(self._stuck) != before:
            with self._lock:
                self._state = replace(self._state, left_behind=self._behind())

    def _behind(self) -> tuple[int, ...]:
        return tuple(each.pid for each in self._stuck)

    # ---- what it says ------------------------------------------------------------------------------------------------

    def _take(self, line: bytes) -> None:
        try:
            said = json.loads(line)
            with self._lock:
                self._take_said(said)
                self._lock.notify_all()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self._fail(f"the sampler said what nobody understands: {error}")

    def _take_said(self, said: Mapping[str, Any]) -> None:
        known = self._known
        if "read" in said:
            known.rows[Group(said["read"])] = (float(said["at_s"]), said["of"])
        elif "devices" in said:
            known.devices = tuple(unpacked_device(each) for each in said["devices"])
            known.looks += 1
            if self._state.phase == "starting":
                self._state = replace(self._state, phase="sampling", since_s=time.time(), text="")
        elif "topology" in said:
            known.topology = unpacked_topology(said["topology"])
        elif "events" in said:
            self._faults.add([unpacked_event(each) for each in said["events"]], known.devices)
        elif "failed" in said:
            self._failed = str(said["failed"])[:REASON_CHARACTERS]

    def _fail(self, why: str) -> None:
        """Tells whoever waits for the first look; later it is for nobody, and the state says it."""
        with self._lock:
            self._failed = self._failed or why
            self._lock.notify_all()

    def _enter(
        self, phase: Literal["pausing", "given up", "closed"], text: str, *, restarts: int | None = None
    ) -> None:
        with self._lock:
            before = self._state
            since_s = before.since_s if before.phase == phase else time.time()
            self._state = CollectorState(
                phase, since_s, text, None, before.restarts if restarts is None else restarts, self._behind()
            )
            self._lock.notify_all()

    def _now_state(self) -> CollectorState:
        child, state = self._child, self._state
        if child is None or state.phase not in ("starting", "sampling"):
            return state
        stuck_s = child.stuck_s()
        if stuck_s <= self._patience.deadline_s:
            return state
        since_s = time.time() - stuck_s
        at = time.strftime("%H:%M:%S UTC", time.gmtime(since_s))
        asked = "; its process was asked to end" if child.asked_to_end else ""
        text = f"driver call stuck since {at} ({child.doing()}){asked}"
        return replace(state, phase="stuck", since_s=since_s, text=text)


def _row(row: object, group: Group, at_s: float) -> dict[Quantity, Measured]:
    try:
        return unpacked_row(row, QUANTITIES[group], at_s, Quality.MEASURED)
    except ValueError as error:
        return dict.fromkeys(QUANTITIES[group], Unavailable(f"the sampler said what nobody understands: {error}"))
