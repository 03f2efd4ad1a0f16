"""Achieved against goal: the arithmetic and the reports.

report = build(goals=..., sites=..., catalogue=..., nodes=..., history=..., generated_at_s=..., provenance=...)
write_reports(report, Path("out"), "en")
"""

from __future__ import annotations

from benchmarks.capacity.render import write_reports
from benchmarks.capacity.report import CapacityReport, build

__all__ = ["CapacityReport", "build", "write_reports"]
