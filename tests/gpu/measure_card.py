"""Take one card's figures for the record: every precision and workload over 120 s, beside a bare loop and best shapes.

    python tests/gpu/measure_card.py [--window 120] [--out benchmarks/results]

Needs torch and pynvml, click, rich and PyYAML; neither Ray nor pydantic, and no installation. Writes MODEL-DATE.json
(the answers with their provenance) and MODEL-DATE.raw.jsonl (raw batches, from which every figure can be computed
again). With eleven windows of 120 s and the harness it takes some 30 minutes. Never run so far: there was no card.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
PRECISIONS = "bf16,fp16,fp8,tf32,fp32,fp64,int8"
OTHER = "bandwidth,attention,training,serving"


def answer_of(*argv: str) -> Any:
    """What a run says, also where a device was invalid: that is a result too."""
    command = [sys.executable, "-m", "benchmarks", *argv, "-o", "json"]
    print("+", " ".join(command), file=sys.stderr)
    done = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(done.stdout) if done.stdout.strip() else {"failed": done.returncode, "argv": argv}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--window", type=float, default=120.0)
    parser.add_argument("--out", type=Path, default=CHECKOUT / "benchmarks" / "results")
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    window = f"{told.window:g}"
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    raw = told.out / f"{stamp}.raw.jsonl"
    answers = {
        "gemm": answer_of(
            *("run", "--window", window, "--precision", PRECISIONS, "--best-shape", "--raw", str(raw.resolve()))
        ),
        "other": answer_of("run", "--window", window, "--workloads", OTHER, "--raw", str(raw.resolve())),
        "harness": answer_of("harness", "--window", str(min(60.0, told.window)), "--rounds", "3"),
    }
    devices = answers["gemm"].get("devices") or [{"model": "unknown"}]
    name = "".join(c if c.isalnum() else "-" for c in str(devices[0]["model"]))
    (told.out / f"{name}-{stamp}.json").write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n")
    if raw.exists():
        raw.rename(told.out / f"{name}-{stamp}.raw.jsonl")
    for device in devices:
        print(device.get("precision"), device.get("gflops"), device.get("verdict"), device.get("reason"))


if __name__ == "__main__":
    main()
