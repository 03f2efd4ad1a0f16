"""Where no energy of a run is known, its record says why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.core.usage_records import MeteredUse, UsageRecord
from scheduler.service.run_usage import usage_view

USE = MeteredUse(1, 9.0, 450.0, False, 50.0, None, None, False)
RUN = UsageRecord(
    "7", 1, 0, "studio", "batch", "batch", "n1", (0,), 0, 1000, 0, False, 100.0, 110.0, "seen", "exited", use=USE
)


@pytest.mark.parametrize(
    ("record", "of_cpus", "why"),
    [
        (RUN, (), None),
        (RUN, ("n1",), None),  # whatever it is by now
        (replace(RUN, use=None, devices=()), (), "it held no device; the energy of processors is not metered"),
        (replace(RUN, use=replace(USE, joules=None)), ("n1",), "CPU devices have no power meter"),
        (replace(RUN, use=None, share_milli=250), (), "of a shared device nobody can say whose the energy was"),
        (replace(RUN, use=None, end="unseen"), (), "nobody saw its end, and the node has not told since"),
        (replace(RUN, use=replace(USE, joules=None)), ("n2",), "its devices told no energy while it ran"),
    ],
)
def test_why_no_energy_is_known(record: UsageRecord, of_cpus: tuple[str, ...], why: str | None) -> None:
    view = usage_view(record, of_cpus)
    assert view["no_energy"] == why
    assert (view["use"] is None or view["use"]["joules"] is None) == (why is not None)
