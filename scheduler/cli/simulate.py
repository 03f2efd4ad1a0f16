"""`suanli simulate`: try policies, clusters and workloads in virtual time. Every figure is simulated, and says so."""

from __future__ import annotations

import click

from scheduler.cli.simulate_faults import faults
from scheduler.cli.simulate_packing import packing
from scheduler.cli.simulate_run import run


@click.group()
def simulate() -> None:
    """Try policies, clusters and workloads, or break the scheduler; every figure is simulated."""


simulate.add_command(packing)
simulate.add_command(run)
simulate.add_command(faults)
