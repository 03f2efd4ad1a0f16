"""Looking at the file system as another user, in one thread alone."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from node_agent.execution.accounts import (
    NoSuchAccount,
    acting_as,
    find_account,
    isolation_note,
    why_single_user,
)
from node_agent.regular_files import NotOwn, open_regular, read_bounded
from tests.fakes.other_user import OTHER, as_root, others_directory, passable_place

CAPABLE = "Name:\tx\nCapEff:\t000001ffffffffff\n"


def test_an_account_is_what_the_machine_says() -> None:
    root = find_account("root")
    assert (root.name, root.uid, root.home) == ("root", 0, "/root")
    assert root.gid in root.groups


def test_an_unknown_account_is_named() -> None:
    with pytest.raises(NoSuchAccount, match="there is no Unix user suanli-no-such"):
        find_account("suanli-no-such")


@pytest.mark.parametrize(
    ("euid", "status", "said"),
    [
        (0, CAPABLE, ""),
        (1000, CAPABLE, "and not as root"),
        (0, "CapEff:\t0000000000000000\n", "lacks CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_KILL, CAP_SETGID, CAP_SETUID"),
        (0, "CapEff:\t000001ffffffff7f\n", "lacks CAP_SETUID"),
    ],
)
def test_single_user_mode_says_why(
    euid: int, status: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "status").write_text(status)
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    assert said in why_single_user(tmp_path / "status")
    assert bool(said) == bool(why_single_user(tmp_path / "status"))


def test_the_note_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ("single-user mode" in isolation_note()) == bool(why_single_user())
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "single-user mode" in isolation_note()
    assert "not kept apart" in isolation_note()


def test_acting_as_nobody_else_changes_nothing() -> None:
    with acting_as(None):
        assert os.geteuid() == os.getuid()


@as_root
def test_one_thread_acts_as_another_user_and_the_rest_do_not() -> None:
    other, before = find_account(OTHER), (os.geteuid(), os.getegid(), os.getgroups())
    with passable_place("suanli-a-") as place:
        mine, theirs = place / "mine", others_directory(place / "theirs")
        mine.mkdir(mode=0o700)
        made, looked, may = threading.Event(), threading.Event(), []

        def look() -> None:
            with acting_as(other):
                may.extend(os.access(path, os.W_OK, effective_ids=True) for path in (mine, theirs))
                (theirs / "file").write_text("x")
                made.set()
                assert looked.wait(15)

        thread = threading.Thread(target=look)
        thread.start()
        assert made.wait(15)
        assert (os.geteuid(), os.getegid(), os.getgroups()) == before
        assert os.access(mine, os.W_OK, effective_ids=True)
        status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
        looked.set()
        thread.join()
        assert may == [False, True]
        assert ((theirs / "file").stat().st_uid, (theirs / "file").stat().st_gid) == (other.uid, other.gid)
        # real, effective, saved, file system: the tenant may not signal the thread, signal(7) and ptrace(2)
        assert f"Uid:\t0\t{other.uid}\t0\t{other.uid}" in status
        assert f"Groups:\t{' '.join(map(str, other.groups))} " in status


@as_root
def test_afterwards_the_thread_is_itself_again() -> None:
    before = (os.geteuid(), os.getegid(), os.getgroups())
    other, seen = find_account(OTHER), []

    def look() -> None:
        with acting_as(other):
            seen.append(os.geteuid())
            raise RuntimeError("meanwhile")

    with pytest.raises(RuntimeError, match="meanwhile"):
        look()
    assert seen == [other.uid]
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before


@as_root
def test_what_lies_in_another_user_s_directory_is_read_only_if_it_is_theirs() -> None:
    """Where the kernel lets users make hard links to any file, such a link must not make root read it to them."""
    with passable_place("suanli-a-") as place:
        theirs = others_directory(place / "theirs")
        secret = place / "secret"
        secret.write_text("root's")
        os.link(secret, theirs / "result")
        with pytest.raises(NotOwn, match="does not belong to the owner"):
            open_regular(theirs / "result", own=True)
        assert read_bounded(theirs / "result", 10) == b"root's"
        with acting_as(find_account(OTHER)):
            (theirs / "own").write_text("x")
        assert read_bounded(theirs / "own", 10, own=True) == b"x"
        assert read_bounded(secret, 10, own=True) == b"root's"
