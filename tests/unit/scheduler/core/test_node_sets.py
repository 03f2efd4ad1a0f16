"""Which sets of nodes have a node in common?"""

from __future__ import annotations

from random import Random

import numpy as np

from scheduler.core.node_sets import NodeSets


def test_whether_sets_meet_is_said_of_each_pair_whenever_they_came() -> None:
    random = Random(7)
    sets = [np.array([random.random() < 0.2 for _ in range(6)]) for _ in range(40)]
    node_sets, so_far = NodeSets(), []
    for nodes in sets:
        so_far.append(nodes)
        assert node_sets.of(nodes).nodes is nodes
        for one in so_far:
            others = random.sample(so_far, min(5, len(so_far)))
            among = sum(node_sets.of(other).bit for other in others)
            meet = sum(node_sets.of(other).bit for other in others if (one & other).any())
            assert node_sets.meeting(one, among) == meet
    assert len(node_sets) == len(sets)
