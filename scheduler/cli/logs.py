"""`suanli logs`: what a job's workers wrote; several workers are merged line by line, each line with its rank.

A log belongs to (worker, attempt). Following a job goes on to the next attempt when the job is requeued or a replica is
restarted, and ends when the job has ended.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from scheduler.cli import words
from scheduler.cli.client import LOG_POLL_S, Client, job_path
from scheduler.cli.options import job_argument, output_option
from scheduler.cli.render import hint, show_json
from scheduler.errors import BadInput, NotFound

REFRESH_S = 2.0  # how often a follower looks for new workers and attempts while nothing is written
LONGEST_LINE_BYTES = 1024 * 1024  # a longer one is shown in pieces instead of being kept back
LINES_AT_ONCE = 1000


@dataclass(slots=True)
class Source:
    """One worker's log in one attempt, and how far it has been read."""

    worker: int
    attempt: int
    offset: int = 0
    unshown: bytes = b""  # read, not yet written out
    end: bool = False
    missing: NotFound | None = None
    _line_begun: bool = False

    def read(self, client: Client, job_id: str, stream: str) -> bool:
        """Add what is new to `unshown`; whether there was any. A log that does not exist is missing: it may come."""
        try:
            part = client.read_log(job_id, worker=self.worker, attempt=self.attempt, stream=stream, offset=self.offset)
        except NotFound as error:
            self.missing = error
            return False
        self.missing = None
        self.offset = part.next_offset
        if part.skipped:
            self.unshown += self._gap(part.skipped)
        self.unshown += part.data
        self._line_begun = bool(part.data) and not part.data.endswith(b"\n")
        self.end = part.end and not part.data
        return bool(part.data)

    def _gap(self, skipped_bytes: int) -> bytes:
        """A line of its own, wherever the log was cut."""
        return b"\n" * self._line_begun + f"[{words.size(skipped_bytes)} of this log were not kept]\n".encode()


@dataclass(frozen=True, slots=True)
class Choice:
    """What of the job's logs is wanted."""

    worker: int | None
    attempt: int | None
    stream: str

    def sources(self, view: words.View) -> Iterator[Source]:
        """The logs that the job has by now; of an ended job all that it can have."""
        placed = {worker["worker"]: worker["attempt"] for worker in view["workers"]}
        if not placed and view["attempt"]:
            placed = dict.fromkeys(range(view["workers_max"]), view["attempt"])
        for rank, attempt in sorted(placed.items()):
            if self.worker in (None, rank):
                yield Source(rank, self.attempt or attempt)


@click.command()
@job_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--worker", type=click.IntRange(min=0), help="Only this worker (rank).")
@click.option("--attempt", type=click.IntRange(min=1), help="An earlier attempt; the newest otherwise.")
@click.option("--stderr", is_flag=True, help="Standard error instead of standard output.")
@output_option
def logs(job_id: str, follow: bool, worker: int | None, attempt: int | None, stderr: bool, output: str) -> None:
    """Print what job ID (default: last) wrote."""
    if follow and output == "json":
        raise BadInput("-f writes as the job does and cannot be one JSON document; leave out -f or -o json")
    client = Client.from_env()
    view = client.get(job_path(job_id))
    choice = Choice(worker, attempt, "stderr" if stderr else "stdout")
    if follow:
        _follow(client, view, choice)
        return
    sources = _begin(client, view, choice)
    if output == "json":
        for source in sources:
            while source.read(client, view["id"], choice.stream):
                pass
        _show_json(view["id"], choice, sources)
    elif _prefixed(view, choice):
        _merge(client, view["id"], choice, sources)
    else:
        for source in sources:
            _write(source, prefixed=False, flush=True)
            while source.read(client, view["id"], choice.stream):
                _write(source, prefixed=False, flush=True)


def _begin(client: Client, view: words.View, choice: Choice) -> list[Source]:
    """Every log that there is, with its beginning unshown. Raises NotFound when there is none at all."""
    sources = list(choice.sources(view))
    if not sources:
        raise _no_log(view, choice)
    for source in sources:
        source.read(client, view["id"], choice.stream)
    found = [source for source in sources if source.missing is None]
    if not found:
        assert sources[0].missing is not None
        raise sources[0].missing
    return found


def _merge(client: Client, job_id: str, choice: Choice, sources: Sequence[Source]) -> None:
    """A line of each in turn: lines carry no times, and the workers of a gang do the same at the same time."""
    turns = deque((f"[{source.worker}] ".encode(), _lines(client, job_id, choice, source)) for source in sources)
    out: list[bytes] = []
    while turns:
        rank, lines = turns.popleft()
        line = next(lines, None)
        if line is not None:
            out.append(rank + line + b"\n")
            turns.append((rank, lines))
        if len(out) >= LINES_AT_ONCE or not turns:
            click.echo(b"".join(out), nl=False)
            out.clear()


def _lines(client: Client, job_id: str, choice: Choice, source: Source) -> Iterator[bytes]:
    """Whole lines up to what is there now, and what of one is there."""
    while True:
        *lines, source.unshown = source.unshown.split(b"\n")
        yield from lines
        if len(source.unshown) > LONGEST_LINE_BYTES:
            yield source.unshown
            source.unshown = b""
        if not source.read(client, job_id, choice.stream):
            break
    *lines, rest = source.unshown.split(b"\n")  # a gap may have come without anything after it
    yield from lines
    if rest:
        yield rest


def _no_log(view: words.View, choice: Choice) -> NotFound:
    if not view["attempt"]:
        why = words.reason(view)
        return NotFound(f"job {view['id']} has not started and has no log yet" + (f": {why}" if why else ""))
    return NotFound(f"job {view['id']} has no worker {choice.worker}; it has {view['workers_max']}", field="worker")


def _follow(client: Client, view: words.View, choice: Choice) -> None:
    sources: list[Source] = []
    prefixed = _prefixed(view, choice)
    told = False
    while True:
        ended = view["state"] in words.ENDED
        for source in choice.sources(view):
            if all(known.worker != source.worker or known.attempt < source.attempt for known in sources):
                sources.append(source)
                if source.attempt > 1 and choice.attempt is None:
                    hint(f"--- worker {source.worker}, attempt {source.attempt} ---")
        if not sources and not told:
            told = True
            hint(f"job {view['id']} has not started; waiting")
        refresh_s = time.monotonic() + REFRESH_S
        while True:
            moved = False
            for source in sources:
                if not source.end:
                    moved = source.read(client, view["id"], choice.stream) or moved
                    _write(source, prefixed=prefixed, flush=source.end)
            if moved:
                continue
            over = all(source.end for source in sources)
            if ended or (over and sources and choice.attempt is not None):
                _finish(view, choice, sources, prefixed=prefixed)
                return
            time.sleep(LOG_POLL_S)
            if over or time.monotonic() > refresh_s:
                break
        view = client.get(job_path(view["id"]))


def _finish(view: words.View, choice: Choice, sources: list[Source], *, prefixed: bool) -> None:
    for source in sources:
        _write(source, prefixed=prefixed, flush=True)
    if not sources:
        raise _no_log(view, choice)
    if all(source.missing is not None for source in sources):
        assert sources[0].missing is not None
        raise sources[0].missing


def _prefixed(view: words.View, choice: Choice) -> bool:
    return choice.worker is None and view["workers_max"] > 1


def _write(source: Source, *, prefixed: bool, flush: bool) -> None:
    """One worker's output goes out as it is; of several, whole lines only, so that they do not run into each other."""
    if not prefixed:
        if source.unshown:
            click.echo(source.unshown, nl=False)
        source.unshown = b""
        return
    *lines, source.unshown = source.unshown.split(b"\n")
    if source.unshown and (flush or len(source.unshown) > LONGEST_LINE_BYTES):
        lines.append(source.unshown)
        source.unshown = b""
    if lines:
        rank = f"[{source.worker}] ".encode()
        click.echo(b"".join(rank + line + b"\n" for line in lines), nl=False)


def _show_json(job_id: str, choice: Choice, sources: list[Source]) -> None:
    parts = [
        {
            "worker": source.worker,
            "attempt": source.attempt,
            "stream": choice.stream,
            "text": source.unshown.decode("utf-8", "replace"),
        }
        for source in sources
    ]
    show_json("logs", {"job": job_id, "logs": parts})
