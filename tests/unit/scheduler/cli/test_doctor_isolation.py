"""`suanli doctor` says truly whether tenants are kept apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from scheduler.cli import doctor_isolation
from tests.fakes.control_groups import LIMITS
from tests.fakes.other_user import OTHER, as_root, others_directory, passable_place


def said(users: Mapping[str, str | None], home: Path) -> list[tuple[str, str]]:
    return [(finding.verdict, finding.found) for finding in doctor_isolation.users(users, home)]


@pytest.mark.parametrize(("user", "verdict"), [(None, "note"), ("studio", "bad")])
def test_single_user_mode(user: str | None, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_isolation, "why_single_user", lambda: "the agent runs as alice and not as root")
    ((found_verdict, text),) = said({"studio": user}, tmp_path)
    assert found_verdict == verdict
    assert "single-user mode" in text
    assert "alice" in text
    assert ("although tenants.yaml names accounts for studio" in text) == (user is not None)


@as_root
def test_users_of_their_own() -> None:
    with passable_place("suanli-d-") as place:
        assert said({"studio": OTHER}, place / "home" / "not yet made") == [
            ("ok", "jobs of studio run as Unix users of their own")
        ]


@as_root
def test_what_is_wrong_with_the_users() -> None:
    with passable_place("suanli-d-") as place:
        found = said({"a": OTHER, "b": OTHER, "c": "suanli-no-such", "d": "root", "e": None}, place)
        assert [verdict for verdict, _ in found] == ["note", "bad", "bad", "note"]
        for (_, text), words in zip(
            found,
            ["jobs of e run as root", "no Unix user suanli-no-such", "jobs of d run, is root", "a, b share uid"],
            strict=True,
        ):
            assert words in text


@as_root
def test_a_home_that_its_users_cannot_pass_through() -> None:
    with passable_place("suanli-d-") as place:
        closed = place / "closed"
        closed.mkdir(mode=0o700)
        ((verdict, text),) = said({"studio": OTHER}, closed)
        assert verdict == "bad"
        assert "the accounts of studio cannot pass through" in text
        assert said({"studio": OTHER}, others_directory(place / "open"))[0][0] == "ok"


def test_limits_are_tried_out_and_nothing_stays_behind() -> None:
    found = list(doctor_isolation.limits())
    kernel = LIMITS.memory and LIMITS.cpus
    assert found[0].verdict == ("ok" if kernel else "note")
    assert all(finding.mend for finding in found if finding.verdict != "ok")


def test_limits_that_nobody_enforces_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node_agent.launcher.cgroups.places", lambda *_: [])
    first, second = (finding.found for finding in doctor_isolation.limits())
    assert "four times a second" in first
    assert "nothing holds jobs to their CPUs" in second
    assert "this machine offers no control groups for memory or cpu" in first
