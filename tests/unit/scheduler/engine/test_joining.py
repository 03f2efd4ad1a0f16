"""What a machine says when it joins is what the engine makes of it."""

from __future__ import annotations

import pytest

from node_agent.devices.openers import DEFAULT_NAMES
from scheduler.engine.joining import is_label_word, joined_node, ray_labels


@pytest.mark.parametrize(
    ("rack", "labels", "text"),
    [
        (None, {}, "suanli-node=n7,suanli-site=edge"),
        (
            "r1",
            {"tier": "gold", "cooling": "liquid"},
            "suanli-node=n7,suanli-site=edge,suanli-rack=r1,suanli-label.tier=gold,suanli-label.cooling=liquid",
        ),
    ],
)
def test_labels_there_and_back(rack: str | None, labels: dict[str, str], text: str) -> None:
    assert ray_labels("n7", "edge", rack, labels) == text
    ray_sees = dict(pair.split("=") for pair in text.split(",")) | {"ray.io/node-id": "abc"}
    node = joined_node(ray_sees, "10.0.0.7")
    assert (node.name, node.site, node.address, node.rack) == ("n7", "edge", "10.0.0.7", rack)
    assert node.labels == tuple(sorted(labels.items()))
    assert node.source == DEFAULT_NAMES


@pytest.mark.parametrize(
    ("text", "fits"),
    [("gold", True), ("h100-8.v2_x", True), ("", False), ("a,b", False), ("-a", False), ("a" * 51, False)],
)
def test_what_ray_takes(text: str, fits: bool) -> None:
    assert is_label_word(text) is fits
