"""How do the workers of a gang find each other with torch.distributed? The variables that it and torchrun read. Pure.

A worker is one process with devices of its own, so a program that calls init_process_group finds itself alone on its
"node": LOCAL_RANK 0 of LOCAL_WORLD_SIZE 1, and GROUP_RANK (torchrun's word for the node) is its rank. A worker whose
command is torchrun is a node of torchrun's, and starts a process for each of its devices: torchrun takes its options
from PET_<OPTION> where its command line is silent (torch.distributed.argparse_util).
"""

from __future__ import annotations

from node_agent.messages import LaunchSpec, RunKey

# What a job may set itself: with how many processes a worker goes, and how the rendezvous is called.
OPEN = frozenset({"PET_NPROC_PER_NODE", "PET_RDZV_ID"})
ROLE = "default"  # torchrun's own word for a role that nobody named


def rendezvous(spec: LaunchSpec, key: RunKey, devices: int, master_addr: str, master_port: int) -> dict[str, str]:
    """`master_addr` and `master_port` are worker 0's. Of a service each replica is a world of its own."""
    size, rank = str(spec.world_size), str(key.worker if spec.world_size > 1 else 0)
    return {
        "RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "GROUP_RANK": rank,
        "GROUP_WORLD_SIZE": size,
        "ROLE_NAME": ROLE,
        "ROLE_RANK": rank,
        "ROLE_WORLD_SIZE": size,
        "MASTER_ADDR": master_addr,
        "MASTER_PORT": str(master_port),
        "PET_NNODES": size,
        "PET_NODE_RANK": rank,
        "PET_NPROC_PER_NODE": str(max(1, devices)),
        "PET_MASTER_ADDR": master_addr,
        "PET_MASTER_PORT": str(master_port),
        "PET_RDZV_ID": f"{key.job_id}-{key.attempt}",
    }


NAMES = frozenset(
    {
        *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE"),
        *("ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
        *("PET_NNODES", "PET_NODE_RANK", "PET_NPROC_PER_NODE", "PET_MASTER_ADDR", "PET_MASTER_PORT", "PET_RDZV_ID"),
    }
)
OURS = NAMES - OPEN
