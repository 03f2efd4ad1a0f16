"""`python -m scheduler.engine.leaving HEAD RAY_NODE_ID`: tell the head that nothing of ours runs on that node any more.

To be said after the node's last process is gone. The engine then knows that its jobs have ended, without waiting for
the node's lease. A node's number in Ray is never used twice, so what is said stays true. Exit code 0: the head has it.
"""

from __future__ import annotations

import sys

MARKS = b"suanli"
"""The namespace, in the key-value table of Ray's GCS, of what nodes say of themselves."""


def mark_of(ray_node_id: str) -> bytes:
    return b"left:" + ray_node_id.encode()


def main(argv: list[str]) -> int:
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    head, ray_node_id = argv
    GcsClient(address=head).internal_kv_put(mark_of(ray_node_id), b"1", True, MARKS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
