"""From which earlier attempt a run goes on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from node_agent.checkpointing import Checkpoints
from node_agent.execution.resume import holds_checkpoint, resume_from
from node_agent.messages import RunKey
from tests.fakes.agent_rig import spec


def whole(directory: Path) -> None:
    saved = Checkpoints(directory, None, None, writes=True, keep=2)
    saved.save(lambda into: (into / "state").write_text("x"), 5)


def torn(directory: Path) -> None:
    whole(directory)
    (directory / "step-0000000005" / "state").unlink()


def own_way(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "weights.bin").touch()
    (directory / "latest").write_text("global_step100")


def unfinished(directory: Path) -> None:
    (directory / ".step-0000000005.7").mkdir(parents=True)


def hostile(directory: Path) -> None:
    (directory / "step-0000000009").mkdir(parents=True)
    os.mkfifo(directory / "latest")
    os.mkfifo(directory / "step-0000000009" / "suanli-checkpoint.json")


MAKERS = {"whole": whole, "torn": torn, "own": own_way, "unfinished": unfinished, "empty": Path.mkdir}


@pytest.mark.parametrize(
    ("attempt", "saved", "told", "expected"),
    [
        (1, {}, None, None),
        (2, {}, None, None),
        (2, {1: "whole"}, None, 1),
        (2, {1: "own"}, None, 1),
        (2, {1: "torn"}, None, None),
        (2, {1: "unfinished"}, None, None),
        (4, {1: "whole", 2: "whole", 3: "torn"}, None, 2),
        (4, {1: "whole", 2: "own"}, 1, 2),
        (4, {1: "whole"}, 2, 2),
        (3, {1: "whole", 3: "whole", 4: "whole"}, None, 1),
        (12, {2: "whole", 10: "whole"}, 2, 10),
        (1, {1: "whole"}, None, None),
    ],
)
def test_the_newest_of_what_was_told_and_what_is_there(
    tmp_path: Path, attempt: int, saved: dict[int, str], told: int | None, expected: int | None
) -> None:
    job = tmp_path / "7"
    job.mkdir()
    for number, how in saved.items():
        MAKERS[how](job / f"attempt-{number}")

    def place(number: int | None) -> str | None:
        return None if number is None else str(job / f"attempt-{number}")

    asked = replace(spec("true"), checkpoint_dir=str(tmp_path), resume_from=place(told))
    assert resume_from(asked, RunKey("7", attempt, 0, "n1")) == place(expected)


def test_a_job_without_a_checkpoint_dir_is_told_what_the_service_says(tmp_path: Path) -> None:
    asked = replace(spec("true"), resume_from="/elsewhere/attempt-1")
    assert resume_from(asked, RunKey("7", 3, 0, "n1")) == "/elsewhere/attempt-1"


@pytest.mark.timeout(10)
def test_what_a_tenant_has_put_there_is_not_waited_for(tmp_path: Path) -> None:
    hostile(tmp_path / "a")
    assert holds_checkpoint(tmp_path / "a")  # entries of a job's own; nothing was read from them
    assert not holds_checkpoint(tmp_path / "absent")
