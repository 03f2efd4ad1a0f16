"""Sites, goals and hardware catalogue for a benchmark or a report: from a file, from the API, or as they were kept.

The API shows the catalogue's names; peaks are taken from its answer where it carries them, and otherwise from the
configuration named with --config or the one shipped with Suanli.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scheduler.errors import BadInput
from scheduler.schema.model import Card, Goal, Site


@dataclass(frozen=True, slots=True)
class SiteFacts:
    sites: Mapping[str, Site]
    goals: tuple[Goal, ...]
    catalogue: Mapping[str, Card]


def facts_from_file(path: Path) -> SiteFacts:
    """Raises BadInput with file, line and field."""
    from scheduler.schema.load import load_site

    site = load_site(path)
    return SiteFacts(site.sites, site.goals, site.catalogue)


def shipped_facts() -> SiteFacts:
    from scheduler.schema.load import shipped_config

    return facts_from_file(shipped_config())


def facts_from_api(answer: Mapping[str, Any]) -> SiteFacts:
    """GET /v1/config (or what was kept of it) as values. Raises BadInput where it is no such answer."""
    try:
        sites = {str(s["name"]): Site(str(s["name"]), str(s["title_en"]), str(s["title_zh"])) for s in answer["sites"]}
        goals = tuple(
            Goal(
                name=str(g["name"]),
                title_en=str(g["title_en"]),
                title_zh=str(g["title_zh"]),
                sites=tuple(str(s) for s in g["sites"]),
                goal_pflops=float(g["goal_pflops"]),
                precision=str(g["precision"]),
                due=str(g["due"]),
                source=str(g["source"]),
                is_context=bool(g["is_context"]),
            )
            for g in answer["goals"]
        )
        cards = tuple(_card(c) for c in answer["catalogue"] if "peak_tflops" in c)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"the configuration that the service gave cannot be read: {error!r}; give --config FILE"
        ) from error
    return SiteFacts(sites, goals, {c.model: c for c in cards} if cards else shipped_facts().catalogue)


def _card(entry: Mapping[str, Any]) -> Card:
    def numbers(name: str) -> dict[str, float]:
        return {str(k): float(v) for k, v in (entry.get(name) or {}).items() if v is not None}

    memory = entry.get("memory_bytes")
    bandwidth = entry.get("memory_bandwidth_tbps")
    return Card(
        model=str(entry["model"]),
        vendor=str(entry["vendor"]),
        memory_bytes=None if memory is None else int(memory),
        peak_tflops=numbers("peak_tflops"),
        memory_bandwidth_tbps=None if bandwidth is None else float(bandwidth),
        achieved_tflops=numbers("achieved_tflops"),
        confidence=str(entry.get("confidence", "")),
        source=str(entry.get("source", "")),
        flop_per_clock=numbers("flop_per_clock"),
    )
