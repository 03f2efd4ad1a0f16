"""`python -m benchmarks.perf` (`make bench`): run our own hot paths, say what moved, and record the run.

Only a whole run that succeeded is recorded. What moved does not change the exit status: 0 when the benchmarks ran,
1 when one of them failed or the record could not be kept, 2 for a wrong option, 130 when interrupted.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import click

from benchmarks.perf import records
from benchmarks.perf.compare import NotARecord, Record, timings_of, told
from benchmarks.provenance import CHECKOUT, commit, iso_utc

OK, INTERRUPTED, NOTHING_CHOSEN = 0, 2, 5  # pytest.ExitCode
SUITES = Path(__file__).resolve().parent

Run = Callable[[Path, str], int]
"""Runs the benchmarks that match an expression ("": all), writes pytest-benchmark's JSON; pytest's exit code."""


def with_pytest(report: Path, matching: str) -> int:
    import pytest  # a developer's tool, which an installed Suanli does not have

    settings = CHECKOUT / "setup.cfg"
    arguments = [str(SUITES), "--benchmark-only", "--benchmark-quiet", f"--benchmark-json={report}", "-q"]
    arguments += ["-p", "no:cacheprovider", *(["-c", str(settings)] if settings.exists() else [])]
    return int(pytest.main([*arguments, *(["-k", matching] if matching else [])]))


@click.command()
@click.option("--against", default="", metavar="COMMIT", help="Compare with the last record of this commit.")
@click.option("-k", "matching", default="", metavar="EXPRESSION", help="Only these (as pytest's -k); not recorded.")
@click.option("--no-record", is_flag=True, help="Compare, and record nothing.")
@click.option(
    "--records",
    "root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".benchmarks"),
    show_default=True,
    help="Where records lie.",
)
def main(against: str, matching: str, no_record: bool, root: Path) -> None:
    """Time our own hot paths and compare with the last recorded run of this machine."""
    if find_spec("pytest") is None or find_spec("pytest_benchmark") is None:
        raise click.ClickException("pytest-benchmark is not installed here: make setup, or pip install 'suanli[dev]'")
    sys.exit(bench(with_pytest, root, against=against, matching=matching, record=not (no_record or matching)))


def bench(run: Run, root: Path, *, against: str = "", matching: str = "", record: bool = True) -> int:
    """The exit status. What is no figure goes to stderr."""
    machine, at_s, load, of_commit = records.this_machine(), time.time(), records.load(), commit()
    before = records.last(root, machine, of_commit=against, passed_over=_complain)
    if against and before is None:
        _complain(f"no record of commit {against} by this machine lies in {root}; nothing was run")
        return 1
    with tempfile.TemporaryDirectory(prefix="suanli-perf-") as directory:
        report = Path(directory) / "report.json"
        code = run(report, matching)
        if code == INTERRUPTED:
            _complain("interrupted: nothing is recorded")
            return 130
        if code == NOTHING_CHOSEN:
            _complain(f"no benchmark matches {matching!r}")
            return 1
        if code != OK:
            _complain(f"not all benchmarks ran (pytest: {code}): nothing is compared or recorded")
            return 1
        try:
            timings = timings_of(json.loads(report.read_bytes()))
        except (OSError, ValueError, NotARecord) as error:
            _complain(f"pytest-benchmark left no figures: {error}")
            return 1
    now = Record(machine, of_commit, iso_utc(at_s), load, records.versions(), timings)
    shown = before
    if before is not None and matching:  # what was not asked for is not gone
        kept = {name: timing for name, timing in before.timings.items() if name in timings}
        shown = replace(before, timings=kept)
    click.echo("\n" + "\n".join(told(shown, now)))
    if record:
        try:
            click.echo(f"recorded: {records.keep(root, now)}")
        except OSError as error:
            _complain(f"the record could not be kept: {error}")
            return 1
    return 0


def _complain(text: str) -> None:
    click.echo(text, err=True)


if __name__ == "__main__":
    main()
