"""Does an MPS daemon hold a job to its share here? The same matrix product alone, with all and with a quarter of the
SMs: `python -m tests.gpu.mps_probe`. It starts a daemon of its own in a directory of its own, and ends it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile

WORK = """
import time, torch
a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
for _ in range(5): a @ a
torch.cuda.synchronize(); before = time.perf_counter()
for _ in range(50): a @ a
torch.cuda.synchronize()
print(50 * 2 * 8192**3 / (time.perf_counter() - before) / 1e12)
"""


def tflops(environment: dict[str, str]) -> float | str:
    done = subprocess.run(
        [sys.executable, "-c", WORK],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return float(done.stdout) if done.returncode == 0 else done.stderr.strip()[-300:]


def main() -> None:
    found: dict[str, object] = {"without_mps": tflops({})}
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        found["mps"] = "nvidia-cuda-mps-control is not on this machine"
    else:
        with tempfile.TemporaryDirectory(prefix="mps") as directory:
            pipes = {"CUDA_MPS_PIPE_DIRECTORY": directory, "CUDA_MPS_LOG_DIRECTORY": directory}
            subprocess.run([control, "-d"], env=os.environ | pipes, check=True)
            try:
                for percent in ("100", "25"):
                    share = pipes | {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": percent}
                    found[f"mps_{percent}_percent"] = tflops(share)
            finally:
                subprocess.run([control], input="quit\n", text=True, env=os.environ | pipes, check=False)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
