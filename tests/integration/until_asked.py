"""A job's work that goes on until it is asked to save it and go; the attempt after that ends, and says from where it
went on. So no test has to hit the time in which it runs."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from node_agent.checkpointing import checkpoints


def main() -> None:
    count = 0
    with checkpoints() as checkpoint:
        resumed = checkpoint.resume()
        print("works", flush=True)
        while resumed is None:
            time.sleep(0.01)
            count += 1
            if checkpoint.requested:
                checkpoint.save(partial(write_count, count=count), count)
            if checkpoint.should_exit:
                while True:
                    signal.pause()  # the count is safe; SIGTERM follows
        before = json.loads((resumed / "count.json").read_text())
    Path(os.environ["SUANLI_RESULT_FILE"]).write_text(json.dumps({"resumed_from": before}))


def write_count(directory: Path, count: int) -> None:
    (directory / "count.json").write_text(json.dumps(count))


if __name__ == "__main__":
    main()
