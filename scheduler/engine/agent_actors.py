"""The agents' actors in Ray: each found by its name, or started.

Ray has a new actor's name in its books before it makes it, and whoever asked for it has to say once more that it may.
Where he has lost his way into Ray between the two (his raylet died, and he joined anew), the name stays taken by an
actor that nobody will ever make: asking for it gives a handle that never answers, or, as the class that it is to be of
is forgotten with him, an error. Ray clears that up where it sees him die afterwards, and not where his raylet was dead
before. So an actor that is found in that state is put away, and another one is started.
"""

from __future__ import annotations

import logging
from typing import Any

import ray
from ray._private import state, worker
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from node_agent.agent import AgentActor
from node_agent.config import AgentConfig
from scheduler.engine.driver import NAMESPACE

log = logging.getLogger(__name__)

_NEVER_MADE = "DEPENDENCIES_UNREADY"
"""Ray's word for an actor that is in its books only. An agent's waits for nothing, so that its maker leaves this state
within milliseconds."""


def find_or_start(config: AgentConfig, ray_node_id: str) -> Any:
    """The handle of the agent's actor: that of its name, or else a new one on this Ray node. Blocks.

    Raises what Ray raises, among it ValueError where the name is still taken by one that is going.
    """
    name = f"agent:{config.host_name}"
    try:
        handle = ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return _start(name, config, ray_node_id)  # no such actor yet, or no more
    except Exception:
        if not _put_away(name):
            raise
        return _start(name, config, ray_node_id)
    if _state_of(handle._actor_id.hex()) == _NEVER_MADE and _put_away(name):
        return _start(name, config, ray_node_id)
    return handle


def _start(name: str, config: AgentConfig, ray_node_id: str) -> Any:
    return AgentActor.options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        max_restarts=0,  # we start it again ourselves, and know that we did
        num_cpus=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(ray_node_id, soft=False),
    ).remote(config)


def _state_of(actor_id: str) -> str:
    return str(state.actors(actor_id).get("State", ""))


def _put_away(name: str) -> bool:
    """Take the actor of that name, for which was just asked, out of Ray's books where it was never made.

    `ray.kill` takes a handle, and there may be none: hence by its number.
    """
    core: Any = worker.global_worker
    rows = state.actors(actor_state_name=_NEVER_MADE)
    named = [actor_id for actor_id, row in rows.items() if row["Name"] == name]
    ids = [actor_id for actor_id in named if _state_of(actor_id) == _NEVER_MADE]  # the last look before it goes
    for actor_id in ids:
        log.warning("%s: whoever began to start it lost his way into Ray; it is started anew", name)
        core.core_worker.kill_actor(ray.ActorID.from_hex(actor_id), True)
    return bool(ids)
