"""Who is next: calls in pieces, methods of the model's own, and streams, in turns."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from node_agent.serving.batching import Answered, BatchLaw, BatchSettings, Failed
from node_agent.serving.wire import Refused
from node_agent.serving.work import MAX_STREAMS, Call, Line, Stream, Task


@dataclass(eq=False)
class Caller:
    closed: bool = False


def line(most: int = 4, max_waiting: int = 100) -> Line:
    return Line(BatchLaw(BatchSettings(max_batch=most)), max_waiting)


def call(*inputs: object, caller: Caller | None = None, deadline_s: float | None = None) -> Call:
    return Call(caller or Caller(), list(inputs), "json", 0.0, deadline_s)


def inputs_of(turn: object) -> list[list[object]]:
    assert isinstance(turn, list)
    return [piece.inputs for piece in turn]


def test_a_batch_is_what_fits_and_a_large_call_comes_in_pieces() -> None:
    waiting = line()
    for each in (call(1), call(2, 3), call(*range(10))):
        waiting.add_call(each)
    assert (waiting.waiting, waiting.inputs) == (5, 13)
    assert inputs_of(waiting.take(0.0)[0]) == [[1], [2, 3]]
    assert [inputs_of(waiting.take(0.0)[0]) for _ in range(3)] == [[[0, 1, 2, 3]], [[4, 5, 6, 7]], [[8, 9]]]
    assert waiting.take(0.0) == (None, [])
    assert waiting.inputs == 0


def test_a_call_is_answered_when_all_pieces_are_there_or_one_has_failed() -> None:
    waiting, whole, broken = line(), call(*range(6)), call(*range(6))
    for each in (whole, broken):
        waiting.add_call(each)
    assert not whole.take(1, Answered([4, 5]))
    assert whole.take(0, Answered([0, 1, 2, 3]))
    assert whole.all_outputs() == [0, 1, 2, 3, 4, 5]
    assert broken.take(0, Failed("no"))
    assert not broken.take(1, Answered([]))  # it has been answered
    assert inputs_of(waiting.take(0.0)[0]) == [[0, 1, 2, 3]]  # of the whole one; what is left of the broken one is void
    assert inputs_of(waiting.take(0.0)[0]) == [[4, 5]]
    assert waiting.take(0.0) == (None, [])


def test_who_has_gone_and_who_is_late_are_passed_over() -> None:
    waiting, gone, late, good = line(), Caller(closed=True), call(2, deadline_s=5.0), call(3)
    for each in (call(1, caller=gone), late, good):
        waiting.add_call(each)
    turn, told = waiting.take(6.0)
    assert (inputs_of(turn), told) == ([[3]], [late])


def test_too_many_are_refused() -> None:
    waiting = line(max_waiting=2)
    waiting.add_call(call(1))
    with pytest.raises(Refused) as refused:
        waiting.add_call(call(*range(5)))
    assert refused.value.status == 503
    waiting.add_task(Task(Caller(), dict, stream=False))
    with pytest.raises(Refused):
        waiting.add_task(Task(Caller(), dict, stream=False))


def test_streams_and_batches_take_turns() -> None:
    waiting = line(most=1)
    streams = [Stream(Caller(), iter([]), lambda: True) for _ in range(2)]
    waiting.streams.extend(streams)
    for number in range(3):
        waiting.add_call(call(number))
    order = ["stream" if isinstance(waiting.take(0.0)[0], Stream) else "batch" for _ in range(7)]
    assert order == ["stream", "batch", "stream", "batch", "stream", "batch", "stream"]


def test_a_stream_whose_caller_reads_slowly_waits_and_one_whose_caller_went_is_ended() -> None:
    waiting, slow, gone = (
        line(),
        Stream(Caller(), iter([]), lambda: False),
        Stream(Caller(True), iter([]), lambda: False),
    )
    waiting.streams.extend((slow, gone))
    assert waiting.take(0.0)[0] is gone
    waiting.streams.remove(gone)
    assert waiting.take(0.0)[0] is None


def test_so_many_streams_at_once_and_no_more() -> None:
    waiting = line()
    waiting.streams.extend(Stream(Caller(), iter([]), lambda: True) for _ in range(MAX_STREAMS))
    with pytest.raises(Refused):
        waiting.add_task(Task(Caller(), dict, stream=True))


def test_the_more_urgent_call_comes_first_and_equals_in_their_order() -> None:
    """The gateway lets a few requests of a lower class stand here: an urgent one is not to wait for two batches."""
    waiting = line(most=2)
    for number, priority in enumerate((1, 1, 5, 1, 5, 3)):
        waiting.add_call(Call(Caller(), [number], "json", 0.0, priority=priority))
    order = [inputs_of(waiting.take(0.0)[0]) for _ in range(3)]
    assert order == [[[2], [4]], [[5], [0]], [[1], [3]]]
    assert waiting.inputs == 0


def test_a_call_in_pieces_stays_together() -> None:
    waiting = line(most=2)
    waiting.add_call(Call(Caller(), [1, 2, 3], "json", 0.0, priority=1))
    waiting.add_call(Call(Caller(), [4, 5, 6], "json", 0.0, priority=2))
    assert [inputs_of(waiting.take(0.0)[0]) for _ in range(4)] == [[[4, 5]], [[6]], [[1, 2]], [[3]]]
