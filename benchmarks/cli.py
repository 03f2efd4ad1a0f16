"""`python -m benchmarks run`: measure here (--local), or as the worker of a Suanli job (--worker). `check`: short
checks of a job's devices (benchmarks/checking).

Needs the standard library, NumPy, click, rich, and torch where there is one. stdout carries the answer and nothing
else; progress goes to stderr when that is a terminal. Ctrl-C and SIGTERM leave a valid partial record that says so.

Exit codes: 0 done; 1 a device that should count is invalid; 2 wrong usage; 130 stopped before the window was over.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.protocol import PRECISIONS, Verdict
from benchmarks.record import Answer, DeviceRecord, cases_of

if TYPE_CHECKING:
    from benchmarks.local_run import JobDevices, RunOptions
    from benchmarks.workloads.simulated import CardFigures

EXIT_INVALID = 1
EXIT_INTERRUPTED = 130


@click.group()
def main() -> None:
    """Measure sustained, verified GEMM rates."""


@main.command()
@click.option("--local", "where", flag_value="local", default=True, help="This machine's devices (the default).")
@click.option("--worker", "where", flag_value="worker", help="The devices of the Suanli job that this runs in.")
@click.option(
    "--window",
    "window_s",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds of the window. Under 600 the answer is labelled smoke.",
)
@click.option("--precision", type=click.Choice(PRECISIONS), help="Default: fp32 on a CPU, bf16 on an accelerator.")
@click.option(
    "--start-at",
    "start_at_s",
    type=float,
    metavar="EPOCH_S",
    help="Absolute start of the window; ready later than that counts zero.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Of operands and checks. Default: drawn, and recorded.")
@click.option("--card-peak-tflops", type=click.FloatRange(min=0), help="Catalogue peak of a simulated card.")
@click.option(
    "--card-achieved-tflops", type=click.FloatRange(min=0), help="Published achieved rate of a simulated card."
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def run(
    where: str,
    window_s: float,
    precision: str | None,
    start_at_s: float | None,
    seed: int | None,
    card_peak_tflops: float | None,
    card_achieved_tflops: float | None,
    output: str,
) -> None:
    """Run one window of GEMM and say what was achieved and verified."""
    from benchmarks.local_run import BadJobEnvironment, RunOptions, job_devices
    from benchmarks.workloads.simulated import CardFigures

    options = RunOptions(window_s=window_s, precision=precision, start_at_s=start_at_s, seed=seed)
    if where == "worker":
        try:
            job = job_devices(os.environ)
        except BadJobEnvironment as error:
            raise click.UsageError(str(error)) from None
        answer = _as_worker(job, CardFigures(card_peak_tflops, card_achieved_tflops), options)
        if job.result_file:
            _write_whole(Path(job.result_file), json.dumps(answer.to_json()))
    else:
        answer = measure_here(options)
    show(answer, output)
    sys.exit(exit_code(answer.devices))


@main.command()
@click.option("--worker", is_flag=True, required=True, help="The devices of the Suanli job that this runs in.")
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), default=3.0, show_default=True, help="Of each part."
)
@click.option("--part", "parts", multiple=True, help="products, memory or links; may be repeated. Default: all.")
def check(worker: bool, seconds: float, parts: tuple[str, ...]) -> None:
    """Check idle devices: products, memory and links, verified. Stopped, it ends soon and leaves no result."""
    from benchmarks.checking.program import PARTS, check_devices
    from benchmarks.local_run import BadJobEnvironment, job_devices

    if unknown := set(parts) - set(PARTS):
        raise click.UsageError(f"there is no part {min(unknown)}: one of {', '.join(PARTS)}")
    try:
        job = job_devices(os.environ)
    except BadJobEnvironment as error:
        raise click.UsageError(str(error)) from None
    with _stoppable() as stop:
        result = json.dumps(check_devices(job, parts or PARTS, seconds, stop.is_set))
    if stop.is_set():
        sys.exit(EXIT_INTERRUPTED)
    if job.result_file:
        _write_whole(Path(job.result_file), result)
    click.echo(result)


def measure_here(options: RunOptions) -> Answer:
    """`bench run --local`: this machine's devices, with progress and signals handled."""
    from benchmarks.local_run import run_here
    from benchmarks.provenance import provenance

    with _stoppable() as stop, progress_bars() as progress:
        devices = run_here(options, stop=stop, progress=progress)
    return Answer(provenance(window_s=options.window_s), cases_of(devices), devices)


def _as_worker(job: JobDevices, card: CardFigures, options: RunOptions) -> Answer:
    from benchmarks.local_run import run_as_job
    from benchmarks.provenance import provenance

    with _stoppable() as stop, progress_bars() as progress:
        devices = run_as_job(job, card, options, stop=stop, progress=progress)
    # A simulated job multiplied nothing: it loads no library and names none.
    about = provenance(window_s=options.window_s, with_library=not job.simulated)
    return Answer(about, cases_of(devices), devices)


def exit_code(devices: Sequence[DeviceRecord]) -> int:
    """See the head of this file. A CPU's or a simulated device's trouble is told but fails nothing."""
    if any(d.verdict is Verdict.INTERRUPTED for d in devices):
        return EXIT_INTERRUPTED
    return EXIT_INVALID if any(d.should_count() and not d.verified for d in devices) else 0


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set: windows then end between two batches. A second ctrl-C is the usual one."""
    stop = threading.Event()

    def asked(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, float], None]]:
    """A bar a device on stderr when that is a terminal; nothing otherwise."""
    if not sys.stderr.isatty():
        yield lambda device, share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}
        lock = threading.Lock()

        def progress(device: str, share: float) -> None:
            with lock:
                if device not in tasks:
                    tasks[device] = bars.add_task(device[:40], total=1.0)
                bars.update(tasks[device], completed=share)

        yield progress


def show(answer: Answer, output: str) -> None:
    """The answer on stdout: JSON, a rich table on a terminal, plain aligned text in a pipe."""
    if output == "json":
        click.echo(json.dumps(answer.to_json(), ensure_ascii=False, indent=2))
        return
    from benchmarks.tables import print_answer

    print_answer(answer, terminal=sys.stdout.isatty())


def _write_whole(path: Path, text: str) -> None:
    """Write beside and rename: a reader sees all of it or nothing."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
