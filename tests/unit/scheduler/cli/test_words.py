from __future__ import annotations

import pytest

from scheduler.cli import words
from tests.fakes.control_views import job_view, worker_view


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h00m"), (3900, "1h05m"),
        (86_399, "23h59m"), (86_400, "1d0h"), (200_000, "2d7h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (80 * 2**30, "80 GiB"), (2**40 * 1.5, "1.5 TiB")],
)
def test_sizes(size_bytes: float, text: str) -> None:
    assert words.size(size_bytes) == text


@pytest.mark.parametrize(("numbers", "text"), [([], ""), ([3], "3"), ([0, 1, 2], "0-2"), ([6, 0, 1, 3], "0-1,3,6")])
def test_ranges(numbers: list[int], text: str) -> None:
    assert words.ranges(numbers) == text


@pytest.mark.parametrize(
    ("workers", "text"),
    [
        ([], ""),
        ([worker_view(0, "a", [0]), worker_view(1, "a", [1])], "a:0-1"),
        ([worker_view(0, "a", [0], share_milli=250), worker_view(1, "a", [0], share_milli=250)], "a:0"),
        ([worker_view(0, "a", [])], "a"),
        ([worker_view(0, "a", [0], simulated=True)], "a:0 (simulated)"),
        ([worker_view(i, f"n{i}", [i]) for i in range(4)], "n0:0 n1:1 +2 nodes"),
        ([worker_view(i, f"n{i}", [0]) for i in range(3)], "n0:0 n1:0 +1 node"),
        ([worker_view(0, "a", [0], phase="exited"), worker_view(1, "b", [0])], "b:0"),
    ],
)
def test_places(workers: list[dict[str, object]], text: str) -> None:
    assert words.place(job_view(workers=workers)) == text


@pytest.mark.parametrize(
    ("view", "text"),
    [
        (job_view(workers_min=4, workers_max=4), "0/4"),
        (job_view(workers_min=1, workers_max=4, workers=[worker_view()]), "1/1-4"),
        (job_view(workers_min=1, workers_max=4, state="succeeded"), "1-4"),
    ],
)
def test_workers(view: dict[str, object], text: str) -> None:
    assert words.workers(view) == text


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"state": "pending", "reason": {"kind": "x", "text": "why"}}, "why"),
        ({"state": "running", "reason": None}, ""),
        ({"state": "succeeded", "reason": None, "cause": "succeeded", "detail": "d"}, ""),
        ({"state": "failed", "reason": None, "cause": "signal", "detail": "by 9"}, "signal: by 9"),
        ({"state": "failed", "reason": None, "cause": "signal", "detail": None}, "signal"),
        ({"state": "cancelled", "reason": None, "cause": "cancelled", "detail": "by olga"}, "by olga"),
        ({"state": "running", "reason": None, "cause": "cancelled", "detail": "by olga"}, "cancelled: by olga"),
    ],
)
def test_reasons(more: dict[str, object], text: str) -> None:
    assert words.reason(job_view(**more)) == text


@pytest.mark.parametrize(
    ("state", "est_start_s", "text"),
    [("pending", None, ""), ("pending", 100.2, "now"), ("pending", 50.0, "now"), ("pending", 220.0, "in 2m"),
     ("running", 220.0, "")],
)  # fmt: skip
def test_estimated_starts(state: str, est_start_s: float | None, text: str) -> None:
    assert words.estimated_start(job_view(state=state, est_start_s=est_start_s), 100.0) == text
