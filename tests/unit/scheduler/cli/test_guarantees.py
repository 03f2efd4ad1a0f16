"""`up` and `doctor` warn where tenants are guaranteed more than there is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.cli.guarantees import warnings
from scheduler.schema.load import load_site, shipped_config
from scheduler.schema.model import SiteConfig, TenantShare
from tests.fakes.control_views import node_view


@pytest.fixture(scope="module")
def site() -> SiteConfig:
    """Two tenants that are guaranteed 6 devices each."""
    shipped = load_site(shipped_config())
    given = {
        name: replace(t, share=TenantShare(guaranteed_milli=6_000)) for name, t in list(shipped.tenants.items())[:2]
    }
    return replace(shipped, tenants={**shipped.tenants, **given})


@pytest.mark.parametrize(
    ("real", "simulated", "told"),
    [
        (12, 0, []),
        (12, 16, []),
        (8, 0, ["and 8 devices are installed"]),
        (0, 8, ["and 8 simulated devices are installed"]),
        (8, 8, ["and 8 devices are", "and 8 simulated devices are"]),
        (0, 0, []),  # nothing has joined yet
    ],
)
def test_guarantees_beyond_what_is_installed(site: SiteConfig, real: int, simulated: int, told: list[str]) -> None:
    nodes = [node_view("n1", devices=real), node_view("s1", devices=simulated, simulated=True)]
    found = warnings(site, nodes)
    assert [part in said for part, said in zip(told, found, strict=True)] == [True] * len(told)
    assert all(said.startswith("tenants are guaranteed 12 devices in all") for said in found)


def test_the_shipped_site_guarantees_nothing_that_could_be_missing() -> None:
    assert warnings(load_site(shipped_config()), [node_view("n1", devices=1)]) == []
