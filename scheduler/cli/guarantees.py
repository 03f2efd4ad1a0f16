"""Are tenants guaranteed more than there is? A warning, never an error: nodes may be away for a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scheduler.schema.model import SiteConfig


def warnings(site: SiteConfig, nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences about `nodes` (views of /v1/nodes). Real and simulated devices are counted apart, as quotas are."""
    from scheduler.schema.policy import guaranteed_too_much

    found = []
    for simulated, what in ((False, "devices"), (True, "simulated devices")):
        installed = sum(len(node["devices"]) for node in nodes if node["simulated"] is simulated)
        said = guaranteed_too_much(site, installed=installed, what=what)
        if said is not None:
            found.append(said)
    return found
