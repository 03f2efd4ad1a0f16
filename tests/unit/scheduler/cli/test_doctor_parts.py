"""What `suanli doctor` says of the parts of an instance that is up."""

from __future__ import annotations

import os
from pathlib import Path

from scheduler.cli.doctor import _parts
from scheduler.cli.instance import Home, ProcessId, Started
from scheduler.cli.parts import PARTS

DEAD = ProcessId(os.getpid(), 1)  # another process of that number


def parts(home: Home, dead: set[str]) -> list[tuple[str, str]]:
    own = ProcessId.of(os.getpid())
    assert own is not None
    home.create()
    home.record(Started("", "", "", "", "", processes={name: DEAD if name in dead else own for name in PARTS}))
    return [(finding.verdict, finding.found + " -> " + finding.mend) for finding in _parts(home)]


def test_without_an_instance_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert _parts(Home(tmp_path / "none")) == []


def test_who_is_dead_and_who_brings_it_back(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert parts(home, set()) == [("ok", "ray, gateway, service, supervisor live -> ")]
    ((verdict, said),) = parts(home, {"gateway"})
    assert verdict == "note"
    assert "being started again" in said
    assert "gateway.log" in said
    both = parts(home, {"gateway", "supervisor"})
    assert [verdict for verdict, _ in both] == ["bad", "bad"]
    assert all("suanli up" in said for _, said in both)
