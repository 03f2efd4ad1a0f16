"""The rule by which a run goes on from an earlier attempt's work, without files; `test_resume.py` has the files."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from node_agent.execution.resume_choice import attempt_number, newest_saved
from node_agent.messages import RunKey


@pytest.mark.parametrize(
    ("attempt", "told", "there", "hold", "expected"),
    [
        pytest.param(1, None, [1], [1], None, id="the first attempt has none before it"),
        pytest.param(1, "/else/where", [], [], "/else/where", id="what it was told it keeps"),
        pytest.param(2, None, [], [], None, id="nothing was saved"),
        pytest.param(2, None, [1], [1], "/ck/1/attempt-1", id="saved, and the service never heard of it"),
        pytest.param(3, None, [1, 2], [1], "/ck/1/attempt-1", id="what holds no checkpoint is passed over"),
        pytest.param(3, None, [1, 2], [1, 2], "/ck/1/attempt-2", id="the newest"),
        pytest.param(12, None, [2, 10], [2, 10], "/ck/1/attempt-10", id="by number and not by letter"),
        pytest.param(3, "/ck/1/attempt-1", [1, 2], [1, 2], "/ck/1/attempt-2", id="newer than what it was told"),
        pytest.param(4, "/ck/1/attempt-2", [1, 3], [1], "/ck/1/attempt-2", id="older than what it was told"),
        pytest.param(3, "/ck/1/attempt-2", [2], [2], "/ck/1/attempt-2", id="just what it was told"),
        pytest.param(2, "/else/where", [1], [1], "/ck/1/attempt-1", id="newer than what is no attempt's"),
        pytest.param(2, None, [1, 2, 3], [2, 3], None, id="neither its own nor a later one's"),
    ],
)
def test_the_newest_of_the_attempts_before_that_holds_a_checkpoint(
    attempt: int, told: str | None, there: Sequence[int], hold: Sequence[int], expected: str | None
) -> None:
    holding = {f"/ck/1/attempt-{number}" for number in hold}
    assert newest_saved(told, RunKey("1", attempt, 0, "n1"), "/ck/1", there, holding.__contains__) == expected


def test_no_more_is_looked_at_than_is_needed() -> None:
    """Each look is a file system's that may not answer."""
    looked: list[str] = []

    def holds(directory: str) -> bool:
        looked.append(directory)
        return directory.endswith("-3")

    assert newest_saved("/ck/1/attempt-1", RunKey("1", 5, 0, "n1"), "/ck/1", range(1, 8), holds) == "/ck/1/attempt-3"
    assert looked == ["/ck/1/attempt-4", "/ck/1/attempt-3"]


@pytest.mark.parametrize(
    ("directory", "number"),
    [
        ("/ck/1/attempt-7", 7),
        ("/ck/1/attempt-7/", 7),
        ("attempt-12", 12),
        ("/ck/attempt-7/step-3", None),
        ("/ck/attempt-x", None),
        ("/ck/attempt-", None),
        ("/ck/attempt--1", None),
        ("/ck/my-attempt-7", None),
        ("/ck/attempt-1234567890", None),
        ("", None),
    ],
)
def test_an_attempts_number_is_the_last_part_of_its_directorys_name(directory: str, number: int | None) -> None:
    assert attempt_number(directory) == number
