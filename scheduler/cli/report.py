"""`suanli report`: reports for the site. Each has a file of its own."""

from __future__ import annotations

import click

from scheduler.cli.report_capacity import capacity
from scheduler.cli.report_usage import usage
from scheduler.cli.report_verify import verify


@click.group()
def report() -> None:
    """Reports for the site, such as achieved capacity."""


report.add_command(capacity)
report.add_command(usage)
report.add_command(verify)
