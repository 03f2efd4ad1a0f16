"""`python -m benchmarks.telemetry [SECONDS]`: the answer as JSON. Exit code 1 when a case misses what it must reach."""

from __future__ import annotations

import json
import sys

from benchmarks.telemetry.cases import run_telemetry
from benchmarks.telemetry.ingestion import SendersTooSlow
from benchmarks.telemetry.stub import CompilerMissing
from node_agent.devices.source import DeviceSourceError


def main(argv: list[str]) -> int:
    try:
        answer = run_telemetry(window_s=float(argv[0]) if argv else 30.0)
    except (CompilerMissing, DeviceSourceError, SendersTooSlow, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(answer.to_json()))
    return answer.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
