"""Plausible documents of `suanli simulate run -o json` for tests of what reads them: no simulation is run.

simulated_documents.compared()["runs"][1]["name"]

Figures come from a seeded generator and are the same in every test run. CASES holds one of each kind.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

DAY_S = 86400.0
CLASSES = ("emergency", "low-altitude", "public-safety", "production", "normal", "best-effort")
TENANTS = ("drone-operator", "film-studio", "hospital", "magnet-factory")
MODELS = {"NVIDIA H100 80GB HBM3": 256, "Ascend 910B": 384, "NVIDIA L40S": 128}
SITES = {"dongyang": 512, "hengdian": 256}
TITLES = {
    "classes": {
        "emergency": {"en": "Emergency rescue", "zh": "应急救援"},
        "low-altitude": {"en": "Low-altitude flight", "zh": "低空飞行"},
        "public-safety": {"en": "Public safety and video analysis", "zh": "公共安全与视频分析"},
        "production": {"en": "Production", "zh": "生产任务"},
        "normal": {"en": "Normal", "zh": "普通任务"},
        "best-effort": {"en": "Best effort", "zh": "尽力而为"},
    },
    "tenants": {
        "drone-operator": {"en": "Drone operator", "zh": "低空飞行运营"},
        "film-studio": {"en": "Film studio", "zh": "影视制作"},
        "hospital": {"en": "Hospital", "zh": "医院"},
        "magnet-factory": {"en": "Magnetic materials factory", "zh": "磁性材料"},
    },
    "sites": {"dongyang": {"en": "Dongyang", "zh": "东阳"}, "hengdian": {"en": "Hengdian", "zh": "横店"}},
}

Document = dict[str, Any]


def run(
    name: str,
    *,
    seed: int,
    load: float = 0.82,
    end_s: float = 7 * DAY_S,
    points: int = 337,
    tenants: Sequence[str] = TENANTS,
    services: int = 3,
    models: dict[str, int] | None = None,
    partial: bool = False,
    added: Sequence[str] = (),
) -> Document:
    rng = random.Random(seed)
    models = models or MODELS
    devices = sum(models.values())
    t_s = [end_s * n / (points - 1) for n in range(points)]
    used = [_share(load + 0.12 * math.sin(2 * math.pi * at / DAY_S) + rng.gauss(0, 0.03)) for at in t_s]
    waiting = [max(0.0, (share - 0.75) * 4 * devices + rng.gauss(0, 12)) for share in used]
    jobs = 12345
    never = 812 if partial else 0
    return {
        "name": name,
        "policy": {"packing": "fgd", "backfill": name, "preemption": "on"},
        "added": list(added),
        "nodes": devices // 8,
        "devices": devices,
        "partial": partial,
        "simulated_s": end_s,
        "elapsed_s": rng.uniform(4, 20),
        "jobs": {
            "submitted": jobs,
            "succeeded": jobs - 300 - never,
            "ended_at_limit": 240,
            "refused": 60,
            "waiting": never // 2,
            "running": never - never // 2,
        },
        "makespan_s": None if partial else end_s * rng.uniform(1.01, 1.1),
        "utilisation": {
            "mean": sum(used) / len(used),
            "peak": max(used),
            "by_site": {site: _share(load + rng.gauss(0, 0.08)) for site in SITES},
            "by_model": {model: _share(load + rng.gauss(0, 0.1)) for model in models},
            "series": {
                "t_s": t_s,
                "used": used,
                "waiting_devices": waiting,
                "waiting_jobs": [round(devices_waited / 3) for devices_waited in waiting],
                "running_jobs": [round(share * devices / 3) for share in used],
            },
        },
        "wait_s": _grouped(rng, 240 * load**4, jobs, tenants, never),
        "completion_s": _grouped(rng, 5400, jobs, tenants, never),
        "slowdown": _grouped(rng, 1.4, jobs, tenants, never),
        "services": [_service(rng, index, t_s) for index in range(services)],
        "preemptions": {
            "count": 148,
            "work_lost_device_s": rng.uniform(2e5, 9e5),
            "by_class": {"production": 6, "normal": 41, "best-effort": 101},
        },
        "fragmentation": {
            "mean": 0.071 + rng.uniform(0, 0.02),
            "series": {
                "t_s": t_s,
                "share": [_share(0.08 + rng.gauss(0, 0.02)) if n % 90 < 80 else None for n in range(points)],
            },
        },
        "fairness": _fairness(rng, tenants, devices * end_s * load),
        "energy": {
            "kwh": rng.uniform(4.1e4, 5.2e4),
            "by_model": {model: count * rng.uniform(35, 60) for model, count in models.items()},
            "unknown_devices": 0,
            "basis": "power limit of the model times utilisation, idle at 15 % of it",
        },
    }


def document(*runs: Document, **about: Any) -> Document:
    said = {
        "title": "Does conservative backfill shorten the waits of production jobs?",
        "cluster": "dongyang-2026",
        "nodes": 96,
        "devices": 768,
        "devices_by_model": dict(MODELS),
        "devices_by_site": dict(SITES),
        "workload": "week-of-october.yaml",
        "jobs": 12345,
        "services": len(runs[0]["services"]) if runs else 0,
        "span_s": 7 * DAY_S,
        "seed": 42,
        "partial": any(one["partial"] for one in runs),
        "version": "0.1.0",
        "commit": "bdee93c",
        "generated_at": "2026-11-28T01:02:51+00:00",
        "elapsed_s": 31.7,
        "command": "suanli simulate run --workload week-of-october.yaml --cluster dongyang-2026 --seed 42 -o html",
        "notes": ["Run times are those of the trace; a job moved to another model keeps its run time."],
    }
    return {
        "schema": "suanli/simulate-run/1",
        "evidence": "simulated",
        "about": said | about,
        "runs": list(runs),
        "titles": TITLES,
        "classes": list(CLASSES),
    }


def one_run() -> Document:
    return document(run("easy", seed=1), title="How busy is the site in the week of October?")


def compared() -> Document:
    return document(run("easy", seed=1, load=0.86), run("conservative", seed=2, load=0.8))


def what_if() -> Document:
    more = MODELS | {"Ascend 910C": 128}
    new = run("with 16 nodes more", seed=4, load=0.7, models=more, added=["16 x ascend-910c-8 at dongyang"])
    return document(run("as it is", seed=3, load=0.9), new, title="What would 16 more nodes change?")


def partial() -> Document:
    return document(run("easy", seed=5), run("none", seed=6, end_s=2.4 * DAY_S, points=115, partial=True))


def four_runs() -> Document:
    loads = {"easy": 0.84, "conservative": 0.8, "slurm-like": 0.77, "none": 0.65}
    return document(*(run(name, seed=10 + n, load=load) for n, (name, load) in enumerate(loads.items())))


def no_services() -> Document:
    return document(run("easy", seed=7, services=0))


def one_tenant() -> Document:
    return document(run("easy", seed=8, tenants=("hospital",), services=1))


def hostile_names() -> Document:
    nasty = "<script>alert('x')</script>"
    long = "a-very-long-name-" * 20
    bad = run(f'{nasty} & "quoted" ]]> \x00\x0b', seed=9, tenants=(nasty, long), models={long: 8, nasty: 8})
    bad["services"][0]["name"] = nasty
    bad["policy"] = {nasty: long}
    good = run(long, seed=9, tenants=(nasty, "磁性材料" * 20), models={long: 8, nasty: 8})
    return document(bad, good, title=nasty + long, cluster=nasty, workload=long, command=nasty, notes=[nasty, long])


def short_run() -> Document:
    """Minutes rather than days, and points that stand alone."""
    one = run("easy", seed=12, end_s=420, points=15)
    one["utilisation"]["series"]["used"] = [
        value if n % 3 else None for n, value in enumerate(one["utilisation"]["series"]["used"])
    ]
    return document(one, span_s=300)


def nulls() -> Document:
    """Null wherever the document allows it, and nothing in every list and map that may be empty."""
    empty: Document = {"count": 0, "mean": None, "p50": None, "p95": None, "p99": None, "max": None, "never": 0}
    one = run("easy", seed=11, services=1)
    one |= {"makespan_s": None, "added": []}
    one["utilisation"] |= {"by_site": {}, "by_model": {}}
    one["utilisation"]["series"] = {
        "t_s": [],
        "used": [],
        "waiting_devices": [],
        "waiting_jobs": [],
        "running_jobs": [],
    }
    for group in ("wait_s", "completion_s", "slowdown"):
        one[group] = {"all": dict(empty), "by_class": {"normal": dict(empty)}, "by_tenant": {}}
    one["services"][0] |= {"p99_ms": None}
    one["services"][0]["series"]["attained"] = [None] * len(one["services"][0]["series"]["t_s"])
    one["preemptions"] = {"count": 0, "work_lost_device_s": 0.0, "by_class": {}}
    one["fragmentation"] = {"mean": None, "series": {"t_s": [0.0, 60.0], "share": [None, None]}}
    one["fairness"] = {
        "jain": None,
        "tenants": [{"tenant": "t", "weight": 0, "device_s": 0, "share": 0, "wait_p95_s": None}],
    }
    one["energy"] = {"kwh": None, "by_model": {}, "unknown_devices": 768, "basis": ""}
    nothing = document(one, json.loads(json.dumps(one)) | {"name": "again"}, commit=None, notes=[])
    del nothing["titles"], nothing["classes"]
    return nothing


CASES: dict[str, Callable[[], Document]] = {
    "one run": one_run,
    "compared": compared,
    "what if": what_if,
    "partial": partial,
    "four runs": four_runs,
    "no services": no_services,
    "one tenant": one_tenant,
    "hostile names": hostile_names,
    "short run": short_run,
    "nulls": nulls,
}


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))


def _quantiles(rng: random.Random, typical: float, count: int, never: int) -> Document:
    middle = typical * rng.uniform(0.6, 1.4)
    return {
        "count": count,
        "mean": middle * 2.2,
        "p50": middle,
        "p95": middle * rng.uniform(9, 14),
        "p99": middle * rng.uniform(20, 40),
        "max": middle * 70,
        "never": never,
    }


def _grouped(rng: random.Random, typical: float, count: int, tenants: Sequence[str], never: int) -> Document:
    return {
        "all": _quantiles(rng, typical, count, never),
        "by_class": {
            name: _quantiles(rng, typical * 4.0 ** (place - 3), count // 6, never // 6 if place > 3 else 0)
            for place, name in enumerate(CLASSES)
        },
        "by_tenant": {
            name: _quantiles(rng, typical, count // len(tenants), never // len(tenants)) for name in sorted(tenants)
        },
    }


def _service(rng: random.Random, index: int, t_s: Sequence[float]) -> Document:
    rate = [40 * (1.2 + math.sin(2 * math.pi * at / DAY_S - 2)) * (1 + index) for at in t_s]
    attained = [_share(1 - max(0.0, rng.gauss(0.002, 0.01)) - (0.2 if 100 < n < 106 else 0)) for n in range(len(t_s))]
    return {
        "name": ("airspace-detect", "ward-triage", "dailies-upscale")[index % 3] + ("" if index < 3 else f"-{index}"),
        "tenant": TENANTS[index % len(TENANTS)],
        "priority_class": CLASSES[1 + index % 4],
        "slo_p99_ms": (100.0, 250.0, 500.0)[index % 3],
        "requests": 1.8e7 * (1 + index),
        "attained": sum(attained) / len(attained),
        "p99_ms": (82.4, 190.0, 612.0)[index % 3],
        "replicas_mean": 3.4 + index,
        "series": {
            "t_s": list(t_s),
            "attained": [value if n % 120 < 112 else None for n, value in enumerate(attained)],
            "replicas": [float(math.ceil(per_s / 30)) for per_s in rate],
            "requests_per_s": rate,
        },
    }


def _fairness(rng: random.Random, tenants: Sequence[str], device_s: float) -> Document:
    parts = [rng.uniform(0.5, 2) for _ in tenants]
    whole = sum(parts)
    return {
        "jain": 0.91 + rng.uniform(0, 0.08),
        "tenants": [
            {
                "tenant": tenant,
                "weight": 2.0 if place % 2 else 1.0,
                "device_s": device_s * part / whole,
                "share": part / whole,
                "wait_p95_s": rng.uniform(600, 9000),
            }
            for place, (tenant, part) in enumerate(zip(tenants, parts, strict=True))
        ],
    }
