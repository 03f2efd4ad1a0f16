"""`python tests/survival/lost_starter.py HEAD NAME DIRECTORY`, with a service's environment: begin to start an agent's
actor when the way into Ray is dead already, leave it in Ray's books only, join Ray again and start it as the engine
does. Prints a word at each step; `made` when it lives. Standard input says that the raylet was killed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import ray
from ray._private import state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from node_agent.agent import AgentActor
from node_agent.config import AgentConfig
from scheduler.engine.agent_actors import find_or_start
from scheduler.engine.driver import NAMESPACE

WITHIN_S = 60.0


def join(head: str) -> str:
    """The Ray node through which it is joined."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            ray.init(address=head, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
            return str(ray.get_runtime_context().get_node_id())
        except Exception:
            ray.shutdown()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def lives(ray_node_id: str) -> bool:
    return any(row["NodeID"] == ray_node_id and row["Alive"] for row in ray.nodes())  # type: ignore[no-untyped-call]


@ray.remote(num_cpus=0, resources={"nobody has it": 1})
def never() -> None: ...


def begin(name: str, ray_node_id: str) -> None:
    AgentActor.options(
        name=f"agent:{name}",
        namespace=NAMESPACE,
        lifetime="detached",
        num_cpus=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(ray_node_id, soft=False),
    ).remote(never.remote())


def main(head: str, name: str, directory: Path) -> None:
    own = join(head)
    print("joined", flush=True)
    sys.stdin.readline()
    while lives(own):
        time.sleep(0.05)
    begin(name, own)
    ray.shutdown()
    own = join(head)
    (row,) = (row for row in state.actors().values() if row["Name"] == f"agent:{name}")
    print(row["State"], flush=True)
    config = AgentConfig(name, (), directory, directory)
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            actor = find_or_start(config, own)
            ray.get(actor.__ray_ready__.remote(), timeout=WITHIN_S)
            break
        except ValueError:  # its name is still taken by one that is going
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    print("made", flush=True)
    assert find_or_start(config, own) == actor
    ray.kill(actor)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
