"""`suanli bench harness`: what the protocol's arming, timing and verification cost of a device's rate."""

from __future__ import annotations

import click

from scheduler.cli.options import output_option


@click.command("harness")
@click.option(
    "--window",
    "window_s",
    type=click.FloatRange(min=0.2, max=600),
    default=7.0,
    show_default=True,
    help="Seconds of each window, and of the bare loop in turns with it.",
)
@click.option("--rounds", type=click.IntRange(min=1, max=100), default=3, show_default=True, help="Windows.")
@click.option("--precision", metavar="NAME", help="Default: fp32 on a CPU, bf16 on an accelerator.")
@output_option
@click.pass_context
def harness(context: click.Context, window_s: float, rounds: int, precision: str | None, output: str) -> None:
    """Set the verified rate of a window against a bare loop of the same products, in turns, on this machine.

    Exit code 1 when it is more than 2% below by more than chance, or a window was not valid.
    """
    from benchmarks.cli import measure_harness, show

    answer, holds = measure_harness(window_s, rounds, precision)
    show(answer, output)
    context.exit(0 if holds else 1)
