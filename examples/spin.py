"""Best-effort filler: a real process that does little, for a long time, and loses nothing when it must go.

    python -m examples.spin --seconds 60

Counts steps of 20 ms until `--seconds` of them are done, over all its attempts. Asked for a checkpoint (SIGUSR1) it
saves its count and stops working; its next attempt goes on from there. Leaves {"count", "resumed_from"} in
SUANLI_RESULT_FILE. Imports next to nothing, so that it starts in some 50 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

if not __package__:  # run as a file from a checkout: the checkout's root holds node_agent
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from node_agent.checkpointing import checkpoints

STEP_S = 0.02
COUNT_FILE = "count.json"


def main() -> int:
    parser = argparse.ArgumentParser(description="Count steps of 20 ms; save the count when asked.")
    parser.add_argument("--seconds", type=float, default=10.0, help="work in all, over all attempts (default 10)")
    arguments = parser.parse_args()
    if arguments.seconds < 0:
        parser.error("--seconds must not be negative")
    target = round(arguments.seconds / STEP_S)
    with checkpoints() as checkpoint:
        resumed = checkpoint.resume()
        count = read_count(resumed) if resumed is not None else 0
        start = count
        print(f"counting from {count} to {target}", flush=True)
        while count < target:
            time.sleep(STEP_S)
            count += 1
            if checkpoint.requested:
                checkpoint.save(partial(write_count, count=count), count)
                print(f"saved at {count}", flush=True)
            if checkpoint.should_exit:
                while True:
                    signal.pause()  # the count is safe; SIGTERM follows
    print(f"done at {count}", flush=True)
    if result_file := os.environ.get("SUANLI_RESULT_FILE"):
        Path(result_file).write_text(json.dumps({"count": count, "resumed_from": start}), encoding="utf-8")
    return 0


def write_count(directory: Path, count: int) -> None:
    (directory / COUNT_FILE).write_text(json.dumps({"count": count}), encoding="ascii")


def read_count(directory: Path) -> int:
    return int(json.loads((directory / COUNT_FILE).read_text(encoding="ascii"))["count"])


if __name__ == "__main__":
    sys.exit(main())
