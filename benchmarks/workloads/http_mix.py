"""What do callers of several classes get, when all call at once? Streams of requests side by side, each counted alone.

Each class has its own rate (open loop, Poisson; or a closed loop of `clients`), its own headers (a deadline, a
priority), its own objective and its own connections, of which it makes as many as it needs: no class waits for another
in the generator. `python -m benchmarks.workloads.http_mix` runs one mix that comes as JSON on its standard input, in a
process of its own, so that what is measured does not share an interpreter with whoever measures. Standard library only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.workloads.http_load import Due, Load, LoadResult, Record, exact_loop, target_of
from benchmarks.workloads.proportion import Proportion

MOST_CONNECTIONS = 480  # of all classes together: the exact timers need select(), which takes 1,024 descriptors
GRACE_S = 30.0
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class RequestClass:
    """`rate_per_s` None: a closed loop of `clients`. `slo_ms`: within it counts as good, from when a request was due.
    `starts_s`: so long after the others."""

    name: str
    url: str
    body: str
    rate_per_s: float | None = None
    clients: int = 1
    headers: tuple[tuple[str, str], ...] = ()
    slo_ms: float | None = None
    starts_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Mix:
    classes: tuple[RequestClass, ...]
    duration_s: float
    token: str | None = None
    seed: int = 0
    timeout_s: float = 5.0
    keep_records: bool = False


@dataclass(frozen=True, slots=True)
class ClassResult:
    """`good`: answered with 200, within the class's objective where it has one. `unexplained`: neither answered so nor
    refused in so many words. `good_per_s`: over the time in which requests were due. `records`: if asked for."""

    name: str
    load: LoadResult
    good: int
    unexplained: int
    good_per_s: float
    records: tuple[Record, ...] = ()

    @property
    def within(self) -> Proportion:
        return Proportion(self.good, self.load.sent)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(told: dict[str, Any]) -> ClassResult:
        records = tuple(Record(**record) for record in told["records"])
        return ClassResult(**{**told, "load": LoadResult(**told["load"]), "records": records})


@dataclass(slots=True)
class _Stream:
    """One class while it runs."""

    of: RequestClass
    keep: bool
    good: int = 0
    records: list[Record] = field(default_factory=list)

    def note(self, record: Record) -> None:
        in_time = self.of.slo_ms is None or record.latency_s * 1e3 <= self.of.slo_ms
        self.good += record.outcome == "ok" and in_time
        if self.keep:
            self.records.append(record)


def run_mix(mix: Mix) -> dict[str, ClassResult]:
    """All classes at once, in this process. Raises ValueError for numbers or URLs without sense, OSError where nobody
    listens."""
    if not mix.classes or len({each.name for each in mix.classes}) != len(mix.classes):
        raise ValueError("a mix needs classes, each of a name of its own")
    if mix.duration_s <= 0:
        raise ValueError("duration_s must be above 0")
    if any(each.clients < 1 or (each.rate_per_s is not None and each.rate_per_s <= 0) for each in mix.classes):
        raise ValueError("clients must be at least 1 and rate_per_s above 0")
    with asyncio.Runner(loop_factory=exact_loop) as runner:
        return runner.run(_run(mix))


async def _run(mix: Mix) -> dict[str, ClassResult]:
    most = MOST_CONNECTIONS // len(mix.classes)
    streams = [_Stream(each, mix.keep_records) for each in mix.classes]

    async def run(number: int, stream: _Stream) -> LoadResult:
        each = stream.of
        await asyncio.sleep(each.starts_s)
        due = Due(None, mix.duration_s - each.starts_s, each.rate_per_s, random.Random(mix.seed + number))
        target = target_of(each.url, mix.token, each.body.encode(), each.headers)
        most_clients = most if each.rate_per_s is not None else 0
        load = Load(target, due, mix.timeout_s, most_clients=most_clients, on_record=stream.note)
        return await load.run(min(each.clients, most))

    loads = await asyncio.gather(*(run(number, stream) for number, stream in enumerate(streams)))
    return {
        stream.of.name: ClassResult(
            stream.of.name,
            load,
            stream.good,
            load.sent - load.ok - load.explicit,
            stream.good / max(mix.duration_s - stream.of.starts_s, 1e-9),
            tuple(stream.records),
        )
        for stream, load in zip(streams, loads, strict=True)
    }


# ---- in a process of its own ---------------------------------------------------------------------------------------


class GeneratorFailed(Exception):
    """The generator's process ended without an answer; the message is its last words."""


class MixProcess:
    """A mix that runs elsewhere while this process does something to the service. `result()` waits for its end."""

    def __init__(self, mix: Mix) -> None:
        self._mix = mix
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.workloads.http_mix"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,  # ctrl-C is for whoever measures, who ends this one
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: `result` says why
            self._process.stdin.write(json.dumps(asdict(mix)))
            self._process.stdin.close()
        self._process.stdin = None

    def wait_started(self) -> None:
        """Until requests go out. Raises GeneratorFailed."""
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "started\n":
            self.result()

    def result(self) -> dict[str, ClassResult]:
        """Raises GeneratorFailed."""
        try:
            out, err = self._process.communicate(timeout=self._mix.duration_s + self._mix.timeout_s + GRACE_S)
        except subprocess.TimeoutExpired:
            self.end()
            raise GeneratorFailed("the load generator did not end") from None
        if self._process.returncode:
            raise GeneratorFailed((err.strip().splitlines() or ["the load generator said nothing"])[-1])
        told = json.loads(out.strip().splitlines()[-1])
        return {name: ClassResult.from_json(result) for name, result in told.items()}

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def mix_running(mix: Mix) -> Iterator[MixProcess]:
    """Its requests go out when the block begins; nothing of it is left when the block ends."""
    process = MixProcess(mix)
    try:
        process.wait_started()
        yield process
    finally:
        process.end()


def mix_elsewhere(mix: Mix) -> dict[str, ClassResult]:
    """`run_mix` in a process of its own. Raises GeneratorFailed."""
    with mix_running(mix) as process:
        return process.result()


def _mix_of(told: dict[str, Any]) -> Mix:
    def class_of(each: dict[str, Any]) -> RequestClass:
        return RequestClass(**{**each, "headers": tuple((name, value) for name, value in each["headers"])})

    return Mix(**{**told, "classes": tuple(class_of(each) for each in told["classes"])})


def main() -> int:
    mix = _mix_of(json.loads(sys.stdin.read()))
    print("started", flush=True)
    try:
        results = run_mix(mix)
    except (OSError, ValueError) as error:
        print(f"no load was sent: {error}", file=sys.stderr)
        return 1
    print(json.dumps({name: result.to_json() for name, result in results.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
