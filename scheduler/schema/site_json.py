"""What GET /v1/config shows of a site's configuration: names, titles, goals, shares and policy, as job files and
reports need them. No paths, no database URL, no Unix users.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from scheduler.schema.model import Card, SiteConfig, TenantShare


def to_json(site: SiteConfig) -> dict[str, Any]:
    return {
        "name": site.name,
        "time_zone": site.time_zone,
        "sites": [{"name": s.name, "title_en": s.title_en, "title_zh": s.title_zh} for s in site.sites.values()],
        "goals": [
            {
                "name": goal.name,
                "title_en": goal.title_en,
                "title_zh": goal.title_zh,
                "sites": list(goal.sites),
                "goal_pflops": goal.goal_pflops,
                "precision": goal.precision,
                "due": goal.due,
                "source": goal.source,
                "is_context": goal.is_context,
            }
            for goal in site.goals
        ],
        "priority_classes": [
            {
                "name": c.name,
                "priority": c.priority,
                "may_preempt": c.may_preempt,
                "title_en": c.title_en,
                "title_zh": c.title_zh,
            }
            for c in site.priority_classes.values()
        ],
        "tenants": [
            {
                "name": t.name,
                "title_en": t.title_en,
                "title_zh": t.title_zh,
                "max_priority_class": t.max_priority_class,
                **_share_json(t.share),
            }
            for t in site.tenants.values()
        ],
        "catalogue": [_card_json(card) for card in site.catalogue.values()],
        "policy": asdict(site.policy),
    }


def _share_json(share: TenantShare) -> dict[str, Any]:
    """As tenants.yaml writes it: devices, not thousandths."""

    def devices(milli: int | None) -> float | None:
        return None if milli is None else milli / 1000

    return {
        "weight": share.weight,
        "quota": {"guaranteed": devices(share.guaranteed_milli), "maximum": devices(share.maximum_milli)},
        "limits": {
            "running_jobs": share.max_running_jobs,
            "queued_jobs": share.max_queued_jobs,
            "queued_devices": devices(share.max_queued_milli),
        },
    }


def _card_json(card: Card) -> dict[str, Any]:
    """With its figures: a report is to use the site's own catalogue, not another that happens to lie near."""
    return {
        "model": card.model,
        "vendor": card.vendor,
        "memory_bytes": card.memory_bytes,
        "peak_tflops": dict(card.peak_tflops),
        "memory_bandwidth_tbps": card.memory_bandwidth_tbps,
        "achieved_tflops": dict(card.achieved_tflops),
        "confidence": card.confidence,
        "source": card.source,
    }
