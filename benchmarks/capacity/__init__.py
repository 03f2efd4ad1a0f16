"""Achieved against goal: the arithmetic and the reports.

report = build(goals=..., sites=..., catalogue=..., nodes=..., history=..., generated_at_s=..., provenance=...)
write_all(report, Path("out"), languages=("en", "zh"), formats=("json", "html", "pdf"))
"""

from __future__ import annotations

from benchmarks.capacity.report import CapacityReport, build
from benchmarks.capacity.writing import write_all

__all__ = ["CapacityReport", "build", "write_all"]
