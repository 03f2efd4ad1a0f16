"""How a run is stopped on its node: asked to save, terminated, killed; and what of its work the next attempt finds."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from node_agent.messages import (
    Checkpointed,
    Exited,
    Started,
    Stop,
)
from tests.fakes.agent_rig import Listener, alone, condition, key, on_agent, spec
from tests.fakes.processes import lives, number_in

ROOT = Path(__file__).parents[3]

TRAINING = """
import os, pathlib, time
from node_agent.checkpointing import checkpoints
with checkpoints() as c:
    pathlib.Path(os.environ["SUANLI_RESULT_FILE"]).with_name("up").touch()
    for step in range(100000):
        time.sleep(0.01)
        if c.requested:
            c.save(lambda directory: (directory / "state").write_text(str(step)), step)
        if c.should_exit:
            break
"""


def test_preemption_saves_first(place: Path) -> None:
    async def scene(a: Listener) -> None:
        (place / "train.py").write_text(TRAINING)
        changes = {"checkpoint_dir": str(place / "ckpt"), "env": (("PYTHONPATH", str(ROOT)),)}
        await a.perform([alone(key(), spec(sys.executable, str(place / "train.py"), **changes))])
        await a.until(Started)
        await condition((place / "state/runs/1/attempt-1/worker-0/up").exists, "the training loop")
        await a.perform([Stop(1, key(), True, 10.0, "preempted")])
        exited = await a.until(Exited)
        assert a.count(Checkpointed, key()) == 1
        assert exited.asked == "preempted"
        assert exited.checkpoint_dir == str(place / "ckpt" / "1" / "attempt-1")
        assert (Path(exited.checkpoint_dir) / "latest").exists()

    on_agent(place, scene)


@pytest.mark.parametrize("name", ["SIGUSR2", "SIGTERM"])
def test_preemption_asks_with_the_signal_that_the_job_wants(place: Path, name: str) -> None:
    async def scene(a: Listener) -> None:
        (place / "train.py").write_text(TRAINING)
        changes = {
            "checkpoint_dir": str(place / "ckpt"),
            "env": (("PYTHONPATH", str(ROOT)),),
            "checkpoint_signal": name,
        }
        await a.perform([alone(key(), spec(sys.executable, str(place / "train.py"), **changes))])
        await a.until(Started)
        await condition((place / "state/runs/1/attempt-1/worker-0/up").exists, "the training loop")
        await a.perform([Stop(1, key(), True, 10.0, "preempted", checkpoint_signal=name)])
        exited = await a.until(Exited)
        assert a.count(Checkpointed, key()) == 1
        assert exited.checkpoint_dir == str(place / "ckpt" / "1" / "attempt-1")

    on_agent(place, scene)


def test_a_run_that_has_saved_and_does_not_go_is_killed_before_its_grace_is_over(place: Path) -> None:
    """With everything that it has started, wherever that went."""

    async def scene(a: Listener) -> None:
        saves = "trap 'touch $SUANLI_CHECKPOINT_ACK' USR1; trap '' TERM"
        leaves = f"(setsid sh -c \"trap '' TERM; echo \\$\\$ >{place}/left; while :; do sleep 0.02; done\" &)"
        script = f"{saves}; {leaves}; echo x >{place}/up; while :; do sleep 0.02; done"
        await a.perform([alone(key(), spec(script, checkpoint_dir=str(place / "ckpt")))])
        await condition(lambda: (place / "up").exists() and number_in(place / "left"))
        left = number_in(place / "left")
        await a.perform([Stop(1, key(), True, 600.0, "preempted", kill_wait_s=0.3)])
        exited = await a.until(Exited)
        assert (exited.how, exited.code, exited.asked) == ("signal", 9, "preempted")
        assert a.count(Checkpointed, key()) == 1
        await condition(lambda: not lives(left))

    on_agent(place, scene)


def test_a_run_without_a_checkpoint_names_none(place: Path) -> None:
    async def scene(a: Listener) -> None:
        exited = await a.run(spec("true", checkpoint_dir=str(place / "ckpt")))
        assert exited.checkpoint_dir is None

    on_agent(place, scene)


def test_a_stubborn_run_is_killed_at_the_end_of_its_grace(place: Path) -> None:
    async def scene(a: Listener) -> None:
        script = f"trap '' TERM; echo x >{place}/up; while :; do sleep 0.02; done"
        await a.perform([alone(key(), spec(script))])
        await condition((place / "up").exists)
        await a.perform([Stop(1, key(), False, 0.3, "cancelled")])
        exited = await a.until(Exited)
        assert (exited.how, exited.code, exited.asked) == ("signal", 9, "cancelled")

    on_agent(place, scene)


def test_a_later_attempt_finds_what_a_lost_node_had_saved(place: Path) -> None:
    async def scene(a: Listener) -> None:
        saved = place / "ckpt" / "1" / "attempt-2"
        saved.mkdir(parents=True)
        (saved / "weights").touch()
        what = spec("echo $SUANLI_RESUME_FROM", checkpoint_dir=str(place / "ckpt"), resume_from=f"{place}/attempt-1")
        await a.run(what, key(attempt=3))
        assert (await a.host.read_log("1", 3, 0, "stdout", 0, 999)).data.decode() == f"{saved}\n"

    on_agent(place, scene)


def test_a_clock_that_is_set_kills_nobody_early(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(a: Listener) -> None:
        script = f"trap '' TERM; echo x >{place}/up; while [ ! -e {place}/go ]; do sleep 0.02; done; exit 5"
        await a.perform([alone(key(), spec(script))])
        await condition((place / "up").exists)
        stop = Stop(1, key(), False, 30.0, "cancelled")
        await a.perform([stop])
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 3600.0)
        await a.perform([stop])  # whatever comes now, the deadlines are looked at again
        assert not any(isinstance(event, Exited) for event in (await a.host.events(a.seq, 0.3)).events[1:])
        (place / "go").touch()
        assert (await a.until(Exited)).code == 5

    on_agent(place, scene)


def test_an_acknowledgement_is_a_file(place: Path) -> None:
    async def scene(a: Listener) -> None:
        ack = place / "state/runs/1/attempt-1/worker-0/checkpoint-ack"
        script = f"mkdir {ack}; echo x >{place}/up; exec sleep 300"
        await a.perform([alone(key(), spec(script, checkpoint_dir=str(place / "ckpt")))])
        await condition((place / "up").exists)
        await a.perform([Stop(1, key(), True, 0.5, "preempted")])
        assert (await a.until(Exited)).asked == "preempted"
        assert a.count(Checkpointed, key()) == 0

    on_agent(place, scene)
