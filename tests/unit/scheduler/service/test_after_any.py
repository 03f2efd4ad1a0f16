"""Jobs that run once others have ended, however these did: cleaning up, reporting."""

from __future__ import annotations

import pytest

from scheduler.errors import BadInput
from tests.fakes.service_world import HOSPITAL, OPERATOR, STUDIO, World, spec


@pytest.mark.parametrize("how", ["succeeds", "fails", "is cancelled"])
@pytest.mark.parametrize("restarted", [False, True], ids=["", "restarted"])
def test_it_runs_however_the_other_ends(world: World, how: str, restarted: bool) -> None:
    before = world.one(devices=4)
    after = world.one(after_any=(before,))
    assert world.view(after)["reason"]["text"] == f"waits for job {before}"
    assert world.view(after)["after_any"] == [before]
    if restarted:
        world.restart()
    if how == "is cancelled":
        world.service.cancel(before, OPERATOR, reason="")
    else:
        world.engine.exit(before, code=3 if how == "fails" else 0)
    world.run()
    assert world.words(after) == "running"


def test_what_must_succeed_and_what_must_only_end(world: World) -> None:
    good, bad, other = world.one(), world.one(), world.one()
    both = world.one(after=(good,), after_any=(bad, good))
    strict = world.one(after=(good, bad), after_any=(other,))
    world.engine.exit(bad, code=1)
    world.run()
    assert world.words(both, strict) == "pending failed"
    world.engine.exit(good)
    world.run()
    assert world.words(both) == "running"
    # Those that have ended before it is submitted count the same.
    assert world.words(world.one(after=(good,), after_any=(bad,))) == "running"


def test_an_array_is_waited_for_whole_and_must_be_there(world: World) -> None:
    world.submit(spec(array_size=2))
    after = world.one(after_any=("1",), name="sweep")
    world.engine.exit("1.0", code=9)
    world.run().restart()
    assert world.words(after) == "pending"
    world.engine.exit("1.1")
    world.run()
    assert world.words(after) == "running"
    for by, before in ((STUDIO, "99"), (HOSPITAL, "1")):
        with pytest.raises(BadInput, match=f"no job {before} to run after") as refused:
            world.service.submit([spec(after_any=(before,), tenant=by.tenant)], by)
        assert refused.value.field == "after_any"


def test_it_is_submitted_anew_although_the_other_failed(world: World) -> None:
    before = world.one()
    after = world.one(after_any=(before,))
    world.engine.exit(before, code=1)
    world.run()
    world.engine.exit(after)
    world.run()
    (row,) = world.service.requeue_jobs([after], OPERATOR, reason="r", hold=False)["jobs"]
    world.run()
    assert world.words(row["new"]) == "running"
