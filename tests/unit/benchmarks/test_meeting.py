"""Workers and their coordinator over real sockets: clocks compared, one start for all, late and skewed ones refused."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from benchmarks.meeting import VARIABLE, Meeting, MeetingFailed
from benchmarks.protocol import Verdict
from benchmarks.starts import CorrectedClock, Start, SystemClock
from benchmarks.system.meeting_place import Announced, ClockOffset, MeetingPlace, own_address


def eventually(condition: Callable[[], Any], within_s: float = 20.0) -> Any:
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return value


@dataclass
class Worker:
    """One worker in a thread of its own, whose clock is `ahead_s` of the coordinator's."""

    place: MeetingPlace
    node: str
    ahead_s: float = 0.0
    windows: int = 1
    stop: threading.Event = field(default_factory=threading.Event)
    starts: list[Start] = field(default_factory=list)
    after: list[Start | None] = field(default_factory=list)
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self.live, daemon=True)
        self.thread.start()

    def live(self) -> None:
        clock = CorrectedClock(SystemClock(), -self.ahead_s)
        try:
            meeting = Meeting.of_environment(self.place.environment(), self.node, clock, self.stop.is_set)
            assert meeting is not None
            for _ in range(self.windows):
                self.starts.append(meeting.agree(8))
                self.after.append(meeting.over())
            meeting.send_raw(f"raw of {self.node}\n")
            meeting.close()
        except Exception as error:
            self.error = error


@pytest.fixture
def place() -> Iterator[MeetingPlace]:
    place = MeetingPlace("127.0.0.1", SystemClock())
    yield place
    place.close()


def announce(place: MeetingPlace, window: int = 0, **ramps: float) -> Announced:
    announced = Announced(place.now_s() + 30.0, ramps)
    place.announce(window, announced)
    return announced


def test_all_hear_one_start_when_all_have_armed(place: MeetingPlace) -> None:
    workers = [Worker(place, name, windows=2) for name in ("a", "b")]
    eventually(lambda: place.armed(0) == {"a": 8, "b": 8})
    assert place.here() == {"a", "b"}
    assert not any(w.starts for w in workers)
    announced = announce(place, a=5.0, b=6.0)
    eventually(lambda: place.ended(0) == {"a", "b"} and len(place.armed(1)) == 2)
    announce(place, 1)
    for worker, ramp in zip(workers, (5.0, 6.0), strict=True):
        worker.thread.join(20)
        assert worker.error is None
        assert (worker.starts[0].at_s, worker.starts[0].ramp_at_s) == (announced.at_s, ramp)
        assert worker.starts[0].fault is None
        assert worker.starts[1].ramp_at_s is None
    lines: list[str] = []
    eventually(lambda: lines.extend(place.take_raw()) or len(lines) == 2)
    assert sorted(lines) == ["raw of a\n", "raw of b\n"]
    eventually(lambda: place.here() == set())


def test_the_coordinator_measures_the_clock_and_the_worker_runs_by_its_time(place: MeetingPlace) -> None:
    worker = Worker(place, "a", ahead_s=0.02)
    eventually(lambda: place.armed(0))
    announce(place)
    worker.thread.join(20)
    (start,) = worker.starts
    offset = place.offset("a", 0)
    assert offset is not None
    assert offset.offset_s == pytest.approx(0.02, abs=offset.uncertainty_s + 1e-3)
    assert start.offset_s == pytest.approx(0.02, abs=0.01 + offset.uncertainty_s)
    assert start.clock.now_s() == pytest.approx(place.now_s(), abs=0.02)
    assert place.offset("nobody", 0) is None


def test_a_skewed_clock_is_refused(place: MeetingPlace) -> None:
    worker = Worker(place, "a", ahead_s=-0.2)
    eventually(lambda: place.armed(0))
    announce(place)
    worker.thread.join(20)
    fault = worker.starts[0].fault
    assert fault is not None
    assert (fault.verdict, "-20" in fault.detail, "chrony" in fault.detail) == (Verdict.CLOCK_SKEW, True, True)
    assert worker.after[0] is not None
    assert worker.after[0].fault is not None


@pytest.mark.parametrize(
    ("offset_s", "uncertainty_s", "beyond"),
    [(0.0, 0.001, False), (0.049, 0.0005, False), (0.049, 0.002, True), (-0.06, 0.0, True), (0.0, 0.06, True)],
)
def test_what_is_beyond_is_the_offset_with_what_it_may_be_wrong_by(
    offset_s: float, uncertainty_s: float, beyond: bool
) -> None:
    assert ClockOffset(offset_s, uncertainty_s).is_beyond is beyond


def test_who_arms_after_the_announcement_is_refused(place: MeetingPlace) -> None:
    early = Worker(place, "a")
    eventually(lambda: place.armed(0))
    announce(place)
    late = Worker(place, "b")
    for worker in (early, late):
        worker.thread.join(20)
    assert early.starts[0].fault is None
    fault = late.starts[0].fault
    assert fault is not None
    assert fault.verdict is Verdict.LATE_START


def test_a_stranger_is_not_listened_to(place: MeetingPlace) -> None:
    told = place.environment()[VARIABLE].rsplit(":", 1)[0] + ":guessed"
    stranger = Meeting(told, "evil", SystemClock())
    with pytest.raises(MeetingFailed):
        stranger.agree(8)
    stranger.close()
    assert place.here() == set()


def test_a_worker_that_is_stopped_or_dies_while_it_waits_is_known_to_be_gone(place: MeetingPlace) -> None:
    worker = Worker(place, "a")
    eventually(lambda: place.armed(0) and place.here())
    worker.stop.set()
    worker.thread.join(20)
    assert isinstance(worker.error, MeetingFailed)
    worker.error.__traceback__ = None  # which holds the connection
    eventually(lambda: place.here() == set())


def test_a_place_that_is_closed_before_it_listens_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen on a busy machine: the loop was stopped while its server started, and the door stayed open."""
    go_on = threading.Event()
    real = asyncio.start_server

    async def slow(*args: Any, **more: Any) -> Any:
        await asyncio.to_thread(go_on.wait, 30)
        return await real(*args, **more)

    monkeypatch.setattr(asyncio, "start_server", slow)
    place = MeetingPlace("127.0.0.1", SystemClock())
    closing = threading.Thread(target=place.close)
    closing.start()
    go_on.set()
    closing.join(30)
    assert not place._thread.is_alive()
    assert place._loop.is_closed()


def test_a_coordinator_that_cannot_be_reached_is_told_with_what_to_do() -> None:
    place = MeetingPlace("127.0.0.1", SystemClock())
    told = place.environment()[VARIABLE]
    place.close()
    with pytest.raises(MeetingFailed, match=r"--meet ADDRESS, or run with --meet none"):
        Meeting(told, "a", SystemClock())


def test_a_coordinator_that_ends_is_told(place: MeetingPlace) -> None:
    other = MeetingPlace("127.0.0.1", SystemClock())
    worker = Worker(other, "a")
    eventually(lambda: other.armed(0))
    other.close()
    worker.thread.join(20)
    assert isinstance(worker.error, MeetingFailed)


def test_without_a_meeting_there_is_none() -> None:
    assert Meeting.of_environment({}, "a", SystemClock(), lambda: False) is None
    assert own_address(["127.0.0.1"]) == "127.0.0.1"
    assert own_address(["no such name.invalid"]) == "127.0.0.1"
