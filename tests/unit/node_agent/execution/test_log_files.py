"""A log that is cut in its middle while it is written: what is read of it is true, and no more is kept than may be."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.execution import capping
from node_agent.execution.capping import BLOCK_BYTES, cap_log, punch_hole
from node_agent.execution.log_files import read_end, read_log
from node_agent.execution.logs import RunPaths, read_chunk, tail
from tests.fakes.other_user import as_root, others_directory, passable_place
from tests.fakes.processes import eventually

CAP = 64 << 10


def used(path: Path) -> int:
    beside = [entry for entry in path.parent.iterdir() if entry.name.startswith(f".{path.name}.")]
    return sum(each.stat().st_blocks * 512 for each in (path, *beside))


def _no_hole(descriptor: int, offset: int, length: int) -> None:
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


@contextmanager
def file_system(kind: str) -> Iterator[None]:
    before = capping.punch_hole
    if kind == "without holes":
        capping.punch_hole = _no_hole
    try:
        yield
    finally:
        capping.punch_hole = before


KINDS = ("with holes", "without holes")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    with file_system(request.param):
        yield request.param


def numbered(first: int, count: int) -> bytes:
    return b"".join(b"%015d\n" % number for number in range(first, first + count))


def everything(path: Path, limit: int = 10_000) -> list[tuple[int, bytes]]:
    """What is left, from the start on: pieces with their places."""
    pieces, offset = [], 0
    while True:
        piece = read_log(path, offset, limit)
        if not piece.data:
            return pieces
        assert piece.start >= offset
        pieces.append((piece.start, piece.data))
        offset = piece.start + len(piece.data)


@settings(max_examples=60, deadline=None, database=None)
@given(
    st.sampled_from(KINDS),
    st.lists(st.one_of(st.integers(1, 2 * CAP), st.just("cap")), max_size=12),
    st.integers(3000, 2 * CAP),
)
def test_what_is_read_is_what_was_written_there(kind: str, steps: list[int | str], limit: int) -> None:
    with tempfile.TemporaryDirectory() as directory, file_system(kind):
        path, written = Path(directory) / "stdout", b""
        with open(path, "ab", buffering=0) as run:  # the run's own descriptor, open all the time
            for step in steps:
                if isinstance(step, int):
                    part = numbered(len(written) // 16, step // 16 + 1)
                    run.write(part)
                    written += part
                elif cap_log(path, CAP):
                    assert used(path) <= CAP + BLOCK_BYTES
                pieces = everything(path, limit)
                for start, data in pieces:
                    assert data == written[start : start + len(data)]
                end = pieces[-1] if pieces else (0, b"")
                assert end[0] + len(end[1]) == len(written) or kind == "without holes"
                assert read_log(path, 0, 1).end == len(written)
                last = read_end(path, 1000)
                assert last.data == written[last.start : last.start + len(last.data)]


def test_the_beginning_and_the_end_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "stdout"
    path.write_bytes(numbered(0, 100_000))
    assert cap_log(path, CAP) > 1_000_000
    (first, beginning), (second, ending) = everything(path, 1 << 20)
    assert first == 0
    assert len(beginning) == CAP // 4
    assert second + len(ending) == 1_600_000
    assert CAP // 2 <= len(ending) < CAP // 2 + BLOCK_BYTES
    assert used(path) <= CAP
    assert cap_log(path, CAP) == 0, "once is enough"


def test_a_log_within_its_cap_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "stdout"
    path.write_bytes(numbered(0, CAP // 16))
    assert cap_log(path, CAP) == 0
    assert [(start, len(data)) for start, data in everything(path, CAP)] == [(0, CAP)]
    assert list(tmp_path.iterdir()) == [path]


def test_without_holes_the_newest_part_is_put_beside_and_offsets_stay(tmp_path: Path) -> None:
    with file_system("without holes"):
        path = tmp_path / "stdout"
        path.write_bytes(numbered(0, 10_000))
        assert cap_log(path, CAP)
        with open(path, "ab") as run:
            run.write(numbered(10_000, 10))
        pieces = everything(path, 1 << 20)
        assert b"".join(data for _, data in pieces) == numbered(10_000 - CAP // 2 // 16, CAP // 2 // 16 + 10)
        assert pieces[0][0] == 160_000 - CAP // 2
        assert read_log(path, 160_000, 16).data == b"%015d\n" % 10_000


@pytest.mark.parametrize("over", [True, False])
def test_a_reader_is_told_how_much_was_not_kept(tmp_path: Path, over: bool, kind: str) -> None:
    paths = RunPaths(tmp_path)
    paths.stdout.write_bytes(numbered(0, 100_000))
    cap_log(paths.stdout, CAP)
    offset, got, skipped = 0, 0, 0
    while (chunk := read_chunk(paths, "stdout", offset, 10_000, over=over)).data:
        skipped, got, offset = skipped + chunk.skipped, got + len(chunk.data), chunk.next_offset
    assert (offset, got + skipped, chunk.end) == (1_600_000, 1_600_000, over)
    assert skipped > 1_500_000
    assert tail(paths.stdout, 1) == f"{99_999:015}"


def test_a_log_that_never_had_a_hole_says_nothing_of_any(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    paths.stdout.write_bytes(b"hello\n")
    chunk = read_chunk(paths, "stdout", 0, 100, over=True)
    assert (chunk.data, chunk.next_offset, chunk.end, chunk.skipped) == (b"hello\n", 6, True, 0)
    beyond = read_chunk(paths, "stdout", 10, 100, over=True)
    assert (beyond.data, beyond.next_offset, beyond.skipped) == (b"", 10, 0)


WRITER = """
import sys
out = open(sys.argv[1], "ab", buffering=0)
for number in range(400_000):
    out.write(b"%015d\\n" % number)
"""


def test_a_run_that_writes_all_the_time_loses_its_middle_alone(tmp_path: Path) -> None:
    """By holes: every line that is left is whole and in its place, whenever it was cut."""
    path = tmp_path / "stdout"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
    try:
        eventually(path.exists)
        while writer.poll() is None:
            cap_log(path, CAP)
            everything(path, 1 << 20)
        assert writer.wait(15) == 0
    finally:
        writer.kill()
    cap_log(path, CAP)
    pieces = everything(path, 1 << 20)
    for start, data in pieces:
        assert data == numbered(start // 16, len(data) // 16 + 2)[start % 16 :][: len(data)]
    assert pieces[0][0] == 0
    assert pieces[-1][0] + len(pieces[-1][1]) == 400_000 * 16
    assert used(path) <= CAP + BLOCK_BYTES


def test_what_is_no_log_is_left_alone(tmp_path: Path) -> None:
    assert cap_log(tmp_path / "none", CAP) == 0
    secret = tmp_path / "secret"
    secret.write_bytes(numbered(0, 10_000))
    (tmp_path / "link").symlink_to(secret)
    os.link(secret, tmp_path / "second name")
    assert cap_log(tmp_path / "link", CAP) == 0
    assert cap_log(tmp_path / "second name", CAP) == 0
    assert secret.read_bytes() == numbered(0, 10_000)


@pytest.mark.timeout(20)
def test_a_fifo_holds_up_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "stdout")
    done = threading.Event()

    def look() -> None:
        try:
            cap_log(tmp_path / "stdout", CAP)
        except OSError:
            pass  # it is said, and passed over
        done.set()

    threading.Thread(target=look, daemon=True).start()
    assert done.wait(10)


@as_root
def test_another_user_s_file_is_not_cut_and_what_is_put_beside_is_the_tenant_s() -> None:
    with passable_place("suanli-c-") as place:
        theirs = others_directory(place / "theirs")
        path = theirs / "stdout"
        path.write_bytes(numbered(0, 10_000))
        with pytest.raises(OSError, match="does not belong"):
            cap_log(path, CAP)
        owner = theirs.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
        with file_system("without holes"):
            assert cap_log(path, CAP)
        assert {entry.stat().st_uid for entry in theirs.iterdir()} == {owner.st_uid}
        assert b"".join(data for _, data in everything(path)) == numbered(10_000 - CAP // 32, CAP // 32)


def test_a_hole_is_where_it_was_punched_and_the_size_stays(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb+") as file:
        file.write(b"x" * (1 << 20))
        file.flush()
        try:
            punch_hole(file.fileno(), 0, 1 << 19)
        except OSError as error:
            pytest.skip(f"this file system knows no holes: {error}")
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 1 << 19
        assert os.fstat(file.fileno()).st_size == 1 << 20
