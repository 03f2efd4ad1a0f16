"""Jobs that must share no node: both ways, in one pass, with what runs, for each tenant by itself."""

from __future__ import annotations

import pytest

from tests.fakes.cluster_table import cluster

WEB = ("web",)


@pytest.mark.parametrize(
    ("runs", "waits", "started"),
    [
        ({"name": "web"}, {"apart_from": WEB}, False),
        ({"apart_from": WEB}, {"name": "web"}, False),
        ({"name": "web", "apart_from": WEB}, {"name": "web", "apart_from": WEB}, False),
        ({"name": "db"}, {"apart_from": WEB}, True),
        ({"apart_from": WEB}, {"name": "db"}, True),
        ({"name": "web"}, {"name": "web"}, True),
        ({"name": "web", "tenant": "u"}, {"apart_from": WEB}, True),
        ({"apart_from": WEB, "tenant": "u"}, {"name": "web"}, True),
        ({"name": "web"}, {"apart_from": ("db", "web")}, False),
        ({"name": "web", "stopping": True}, {"apart_from": WEB}, False),  # it is still there
    ],
)
def test_apart_from_what_runs(runs: dict[str, object], waits: dict[str, object], started: bool) -> None:
    table = cluster(nodes=1).run("r", "n0", 1, **runs)  # type: ignore[arg-type]
    table.submit("a", **waits).expect(started=int(started))  # type: ignore[arg-type]


@pytest.mark.parametrize("first", [{"name": "web"}, {"apart_from": WEB}])
def test_apart_from_what_starts_in_the_same_pass(first: dict[str, object]) -> None:
    second = {"apart_from": WEB} if "name" in first else {"name": "web"}
    table = cluster(nodes=2).run("r", "n1", 6).submit("a", **first).submit("b", **second)  # type: ignore[arg-type]
    table.expect(started="a b")
    assert (list(table.where("a")), list(table.where("b"))) == (["n1"], ["n0"])
    table = cluster(nodes=1).submit("a", **first).submit("b", **second).expect(started="a", waiting="b")  # type: ignore[arg-type]


def test_an_array_apart_from_itself_takes_a_node_each() -> None:
    table = cluster(nodes=3)
    for name in "abcd":
        table.submit(name, name="web", apart_from=WEB)
    table.expect(started="a b c", waiting="d")
    assert len({node for name in "abc" for node in table.where(name)}) == 3


def test_the_workers_of_one_job_may_stand_together() -> None:
    table = cluster(nodes=1).submit("a", workers=4, name="web", apart_from=WEB).expect(started="a")
    assert list(table.where("a")) == ["n0"]


def test_when_the_other_has_gone_it_starts() -> None:
    table = cluster(nodes=1).run("r", "n0", 1, name="web").submit("a", apart_from=WEB)
    table.expect(started="").gone("r").expect(started="a")


def test_a_job_that_must_be_apart_blocks_nobody_else() -> None:
    table = cluster(nodes=1).run("r", "n0", 1, name="web", ends_in=None).submit("a", apart_from=WEB, limit=None)
    table.submit("b", devices=7, limit=None).expect(started="b", waiting="a")
