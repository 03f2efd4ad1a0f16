"""What does a closed loop of so many callers reach at a URL? By `wrk` where it is installed, else by our own generator.

A Python generator becomes the bottleneck of anything that answers more than some 10,000 times a second, and it takes a
core from a small machine; so one run uses one generator for every system that it compares, and names it. What must not
hide slow answers (a service under more load than it can bear) is measured by an open loop instead: benchmarks/workloads
/http_mix.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.system.serving.answer import ClosedLoop
from benchmarks.workloads.http_mix import GeneratorFailed, Mix, RequestClass, mix_elsewhere

WARM_UP_S = 1.0
# The last line that it prints is the answer; percentiles come in microseconds.
_SCRIPT = """
wrk.method = "POST"
wrk.body = %s
wrk.headers["Content-Type"] = "application/json"
%s
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\n{"requests": %%d, "duration_us": %%d, "status": %%d, "broken": %%d, "p50_us": %%d, "p99_us": %%d}\\n',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Call:
    """What one request is: a POST of JSON. `token` as a bearer token."""

    url: str
    body: str
    token: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


Generate = Callable[[Call, int, float], ClosedLoop]
"""(call, clients, seconds): what a closed loop saw after a warm-up. Raises GeneratorFailed."""


def choose_generator() -> tuple[str, Generate]:
    """Its name for the answer, and itself."""
    if shutil.which("wrk") is None:
        return "suanli http_load (closed loop, one Python process)", by_http_load
    said = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False).stdout.split()
    return f"{' '.join(said[:2])} (closed loop, one thread)", by_wrk


def by_wrk(call: Call, clients: int, duration_s: float) -> ClosedLoop:
    with tempfile.TemporaryDirectory(prefix="wrk-") as directory:
        script = Path(directory) / "call.lua"
        script.write_text(lua_script(call))
        script.chmod(0o600)  # it holds the token
        _wrk(call, script, clients, min(WARM_UP_S, duration_s))
        told = _wrk(call, script, clients, duration_s)
    errors = told["status"] + told["broken"]
    answered = told["requests"] - told["status"]
    return ClosedLoop(
        clients,
        round(answered * 1e6 / told["duration_us"], 1),
        told["p50_us"] / 1e3 if answered else None,
        told["p99_us"] / 1e3 if answered else None,
        errors,
        "wrk",
    )


def _wrk(call: Call, script: Path, clients: int, duration_s: float) -> dict[str, int]:
    argv = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(duration_s))}s", "--timeout", "10s", "-s", str(script)]
    child = subprocess.Popen(
        [*argv, call.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = child.communicate(timeout=duration_s + 30)
    except BaseException as error:
        child.kill()
        child.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise GeneratorFailed("wrk did not end") from None
        raise
    last = (out.strip().splitlines() or [""])[-1]
    if child.returncode or not last.startswith("{"):
        said = (err.strip() or out.strip() or "nothing").splitlines()[-1]
        raise GeneratorFailed(f"wrk failed at {call.url}: {said[:200]}")
    told: dict[str, int] = json.loads(last)
    return told


def lua_script(call: Call) -> str:
    headers = [("Authorization", f"Bearer {call.token}")] if call.token is not None else []
    lines = [f"wrk.headers[{_lua(name)}] = {_lua(value)}" for name, value in (*headers, *call.headers)]
    return _SCRIPT % (_lua(call.body), "\n".join(lines))


def _lua(text: str) -> str:
    """A string of Lua: decimal escapes for whatever is not plain."""
    plain = "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03d}" for byte in text.encode())
    return f'"{plain}"'


def by_http_load(call: Call, clients: int, duration_s: float) -> ClosedLoop:
    def run(seconds: float) -> ClosedLoop:
        each = RequestClass("all", call.url, call.body, None, clients, call.headers)
        load = mix_elsewhere(Mix((each,), seconds, call.token, timeout_s=10.0))["all"].load
        return ClosedLoop(
            clients, round(load.requests_per_s, 1), load.p50_ms, load.p99_ms, load.sent - load.ok, load.generator
        )

    run(min(WARM_UP_S, duration_s))
    return run(duration_s)
