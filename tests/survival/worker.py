"""A job that proves what ran: a file for each start of a process, another for each end.

    python worker.py MARKS [--lasts SECONDS] [--code N] [--steps]

Ends after that time, or when the test says so by MARKS/finish-JOB, whose text is the exit code. With --steps it counts
in steps of 10 ms, saves its count every tenth and when it is asked to, and goes on from there in the next attempt.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from node_agent.checkpointing import checkpoints


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("marks", type=Path)
    parser.add_argument("--lasts", type=float, default=float("inf"))
    parser.add_argument("--code", type=int, default=0)
    parser.add_argument("--steps", action="store_true")
    told = parser.parse_args()
    job = os.environ["SUANLI_JOB_ID"]
    name = f"{job}-{os.environ['RANK']}-{os.environ['SUANLI_ATTEMPT']}-{os.getpid()}"
    (told.marks / f"start-{name}").touch(exist_ok=False)
    until_s = time.monotonic() + told.lasts
    count = begun_at = 0
    with checkpoints() as checkpoint:
        resumed = checkpoint.resume() if told.steps else None
        if resumed is not None:
            count = begun_at = int((resumed / "count").read_text())
        finish = told.marks / f"finish-{job}"
        while time.monotonic() < until_s and not finish.exists():
            time.sleep(0.01)
            count += 1
            if told.steps and (checkpoint.requested or count % 10 == 0):
                checkpoint.save(partial(write_count, count=count), count)
    (told.marks / f"end-{name}").write_text(str(begun_at))
    return int(finish.read_text() or told.code) if finish.exists() else told.code


def write_count(directory: Path, count: int) -> None:
    (directory / "count").write_text(str(count))


if __name__ == "__main__":
    sys.exit(main())
