"""`python -m benchmarks run`: measure here (--local), or as the worker of a Suanli job (--worker). `check`: short
checks of a job's devices (benchmarks/checking).

Needs the standard library, NumPy, click, rich, and torch where there is one. stdout carries the answer and nothing
else; progress goes to stderr when that is a terminal. Ctrl-C and SIGTERM leave a valid partial record that says so.

Exit codes: 0 done; 1 a device that should count is invalid; 2 wrong usage; 130 stopped before the window was over.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.protocol import LONGEST_WINDOW_S, Verdict
from benchmarks.record import Answer, DeviceRecord, cases_of, is_invalid

if TYPE_CHECKING:
    from benchmarks.job_devices import JobDevices
    from benchmarks.local_run import Ran, RunOptions
    from benchmarks.workloads.simulated import CardFigures

EXIT_INVALID = 1
EXIT_INTERRUPTED = 130
# Of the 256 KiB that a job's result may have; raw lines that find no room go over the meeting, or are left out.
RAW_ROOM_BYTES = 160 * 1024


@click.group()
def main() -> None:
    """Measure what devices really deliver, verified and in one shared window."""


def measurement_options(command: Any) -> Any:
    """Those that `suanli bench run` has too."""
    for option in reversed(
        (
            click.option(
                "--window",
                "window_s",
                type=click.FloatRange(min=0, min_open=True, max=LONGEST_WINDOW_S),
                default=5.0,
                show_default=True,
                help="Seconds of the window that all devices share. Under 600 the answer is labelled smoke.",
            ),
            click.option(
                "--workloads",
                multiple=True,
                metavar="NAME,...",
                help="gemm (the default), bandwidth, attention, training, collective, serving; a window each. "
                "`NAME:PRECISION` in that precision alone.",
            ),
            click.option(
                "--precision",
                "precisions",
                multiple=True,
                metavar="NAME,...",
                help="fp64, fp32, tf32, bf16, fp16, fp8, int8. Default: fp32 on a CPU, bf16 on an accelerator.",
            ),
        )
    ):
        command = option(command)
    return command


@main.command()
@click.option("--local", "where", flag_value="local", default=True, help="This machine's devices (the default).")
@click.option("--worker", "where", flag_value="worker", help="The devices of the Suanli job that this runs in.")
@measurement_options
@click.option(
    "--start-at",
    "start_at_s",
    type=float,
    metavar="EPOCH_S",
    help="Absolute start of the window; ready later than that counts zero.",
)
@click.option("--best-shape", is_flag=True, help="After each GEMM window, look for the fastest of some shapes.")
@click.option(
    "--raw", type=click.Path(path_type=Path, dir_okay=False), help="Append each window's raw batches to this."
)
@click.option("--seed", type=click.IntRange(min=0), help="Of operands and checks. Default: drawn, and recorded.")
@click.option("--run", "run_name", hidden=True, help="The name of the run that this worker belongs to.")
@click.option("--card-peak-tflops", type=click.FloatRange(min=0), help="Catalogue peak of a simulated card.")
@click.option(
    "--card-achieved-tflops", type=click.FloatRange(min=0), help="Published achieved rate of a simulated card."
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def run(
    where: str,
    window_s: float,
    workloads: tuple[str, ...],
    precisions: tuple[str, ...],
    start_at_s: float | None,
    best_shape: bool,
    raw: Path | None,
    seed: int | None,
    run_name: str | None,
    card_peak_tflops: float | None,
    card_achieved_tflops: float | None,
    output: str,
) -> None:
    """Run each workload in one window and say what was achieved and verified."""
    from benchmarks.job_devices import BadJobEnvironment, job_devices
    from benchmarks.workloads.simulated import CardFigures

    if start_at_s is not None and not math.isfinite(start_at_s):
        raise click.UsageError(f"--start-at is a moment in epoch seconds, not {start_at_s}")
    options = replace(
        options_of(window_s, workloads, precisions), start_at_s=start_at_s, seed=seed, best_shape=best_shape
    )
    if run_name:
        options = replace(options, run=run_name)
    refuse_unwritable(raw)
    if where == "worker":
        try:
            job = job_devices(os.environ)
        except BadJobEnvironment as error:
            raise click.UsageError(str(error)) from None
        answer, ran = _as_worker(job, CardFigures(card_peak_tflops, card_achieved_tflops), options)
        if job.result_file:
            _write_whole(Path(job.result_file), json.dumps(answer.to_json() | raw_part(ran.raw_lines)))
    else:
        answer, ran = measure_here(options)
    show(answer, output)
    keep_raw(raw, ran.raw_lines)
    sys.exit(exit_code_of(answer))


@main.command()
@click.option("--worker", is_flag=True, required=True, help="The devices of the Suanli job that this runs in.")
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), default=3.0, show_default=True, help="Of each part."
)
@click.option("--part", "parts", multiple=True, help="products, memory or links; may be repeated. Default: all.")
def check(worker: bool, seconds: float, parts: tuple[str, ...]) -> None:
    """Check idle devices: products, memory and links, verified. Stopped, it ends soon and leaves no result."""
    from benchmarks.checking.program import PARTS, check_devices
    from benchmarks.job_devices import BadJobEnvironment, job_devices

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


@main.command()
@click.option("--window", "window_s", type=click.FloatRange(min=0.2, max=600), default=7.0, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1, max=100), default=3, show_default=True)
@click.option("--precision", metavar="NAME", help="Default: fp32 on a CPU, bf16 on an accelerator.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def harness(window_s: float, rounds: int, precision: str | None, output: str) -> None:
    """Set the verified rate of a window against a bare loop of the same products, in turns."""
    answer, holds = measure_harness(window_s, rounds, precision)
    show(answer, output)
    sys.exit(0 if holds else EXIT_INVALID)


def measure_harness(window_s: float, rounds: int, precision: str | None) -> tuple[Answer, bool]:
    """Raises click.UsageError for a precision that there is not, or not here."""
    from benchmarks.harness import run_harness
    from benchmarks.workloads.devices import UnsupportedPrecision

    options_of(window_s, (), (precision,) if precision else ())
    try:
        with progress_bars() as progress:
            return run_harness(
                precision, window_s=window_s, rounds=rounds, progress=lambda share: progress("harness", share)
            )
    except UnsupportedPrecision as error:
        raise click.UsageError(str(error)) from None


def options_of(window_s: float, workloads: Sequence[str], precisions: Sequence[str]) -> RunOptions:
    """Raises click.UsageError for what there is not."""
    from benchmarks.card_facts import shipped_cards
    from benchmarks.local_run import RunOptions
    from benchmarks.suite import asked

    try:
        found = asked(names_of("--workloads", workloads), names_of("--precision", precisions))
        return RunOptions(
            window_s=window_s, measurements=found.measurements, left_out=found.left_out, cards=shipped_cards()
        )
    except ValueError as error:  # BadMeasurement, or a window that is none
        raise click.UsageError(str(error)) from None


def names_of(flag: str, given: Sequence[str]) -> tuple[str, ...]:
    """Each once. Raises click.UsageError where a flag was given and names nothing: an empty shell variable would
    otherwise mean everything."""
    from benchmarks.suite import split_names

    names = tuple(dict.fromkeys(split_names(given)))
    if given and not names:
        raise click.UsageError(f"{flag} names nothing; leave it out, or name one or more")
    return names


def measure_here(options: RunOptions) -> tuple[Answer, Ran]:
    """`bench run --local`: this machine's devices, with progress and signals handled.

    Raises click.UsageError where nothing of what is asked can be done here.
    """
    from benchmarks.local_run import run_here

    with _stoppable() as stop, progress_bars() as progress:
        ran = run_here(options, stop=stop, progress=progress)
    if ran.records and all(r.verdict is Verdict.UNAVAILABLE for r in ran.records):
        raise click.UsageError("; ".join(dict.fromkeys(r.reason or "" for r in ran.records)))
    return _answer(options, ran, with_library=True), ran


def _as_worker(job: JobDevices, card: CardFigures, options: RunOptions) -> tuple[Answer, Ran]:
    from benchmarks.local_run import run_as_job
    from benchmarks.meeting import Meeting, MeetingFailed, own_node
    from benchmarks.starts import SystemClock

    with _stoppable() as stop, progress_bars() as progress:
        meeting = None
        if not job.simulated:
            try:
                meeting = Meeting.of_environment(os.environ, own_node(), SystemClock(), stop.is_set)
            except MeetingFailed as error:
                raise click.ClickException(str(error)) from None
        ran = run_as_job(job, card, options, stop=stop, progress=progress, starts=meeting)
        if meeting is not None:
            with _whatever_comes(MeetingFailed):
                for line in ran.raw_lines:
                    meeting.send_raw(line)
                ran = replace(ran, raw_lines=())
            meeting.close()
    # A simulated job multiplied nothing: it loads no library and names none.
    return _answer(options, ran, with_library=not job.simulated), ran


@contextmanager
def _whatever_comes(error: type[Exception]) -> Iterator[None]:
    try:
        yield
    except error:
        pass  # the raw lines go into the result then, as far as they find room


def _answer(options: RunOptions, ran: Ran, *, with_library: bool) -> Answer:
    from benchmarks.provenance import provenance

    about = provenance(window_s=options.window_s, with_library=with_library) | {"run": options.run}
    stopped = any(r.verdict is Verdict.INTERRUPTED for r in ran.records) or len(ran.records) == 0
    about["interrupted"] = stopped or ran.not_begun > 0
    if ran.not_begun:
        about["windows_not_begun"] = ran.not_begun
    if options.left_out:
        about["left_out"] = list(options.left_out)
    return Answer(about, cases_of(ran.records), ran.records)


def raw_part(lines: Sequence[str]) -> dict[str, Any]:
    """What of the raw lines goes into a job's result: all of them, or how many found no room."""
    if not lines:
        return {}
    if sum(len(line) for line in lines) <= RAW_ROOM_BYTES:
        return {"raw": list(lines)}
    return {"raw_left_out": len(lines)}


def refuse_unwritable(path: Path | None) -> None:
    """Before the windows, not after them. Raises click.UsageError."""
    if path is None:
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise click.UsageError(f"--raw: {path} cannot be written: {error.strerror or error}") from None


def keep_raw(path: Path | None, lines: Sequence[str]) -> None:
    if path is None:
        return
    from benchmarks.raw_batches import append_lines

    try:
        append_lines(path, lines)
    except OSError as error:
        raise click.ClickException(
            f"--raw: {path} could not be written: {error.strerror or error}; the figures stand, and nobody can compute "
            "them again"
        ) from None


def exit_code_of(answer: Answer) -> int:
    """130 also where it was stopped between two windows: each of them is whole, and some are missing."""
    return EXIT_INTERRUPTED if answer.provenance.get("interrupted") else exit_code(answer.devices)


def exit_code(devices: Sequence[DeviceRecord]) -> int:
    """See the head of this file. A CPU's or a simulated device's trouble is told but fails nothing."""
    if any(d.verdict is Verdict.INTERRUPTED for d in devices):
        return EXIT_INTERRUPTED
    return EXIT_INVALID if any(is_invalid(d) for d in devices) else 0


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
    """The answer on stdout: JSON, a rich table on a terminal, plain aligned text in a pipe. Raises
    click.ClickException where stdout does not take it; a reader that has gone is click's own affair."""
    from benchmarks.tables import print_answer

    try:
        if output == "json":
            click.echo(json.dumps(answer.to_json(), ensure_ascii=False, indent=2))
        else:
            print_answer(answer, terminal=sys.stdout.isatty())
    except BrokenPipeError:
        raise
    except OSError as error:
        with suppress(OSError, ValueError):  # else Python would try again as it ends, and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.ClickException(f"the answer could not be written: {error.strerror or error}") from None


def _write_whole(path: Path, text: str) -> None:
    """Write beside and rename: a reader sees all of it or nothing."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
