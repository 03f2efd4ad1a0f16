"""A port chosen for somebody who listens on it later."""

from __future__ import annotations

from pathlib import Path

from scheduler.cli.instance import LEAST_PORT, free_port


def test_it_is_none_that_the_kernel_gives_to_connections() -> None:
    """Ray takes seconds to listen on it; any connection could have taken one of those meanwhile."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    drawn = {free_port("127.0.0.1") for _ in range(20)}
    assert len(drawn) > 1
    assert all(LEAST_PORT <= port < first for port in drawn)
