"""Configuration files: what the shipped ones say, and for each broken one the line that an operator reads."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from scheduler.core.packing.policies import PACKINGS as core_packings
from scheduler.schema.load import shipped_config
from scheduler.schema.model import NETWORKS, Listen, PolicySettings, SimulatedNodes, SiteConfig
from scheduler.schema.site_json import to_json
from scheduler.schema.site_models import PACKINGS

# ---- the shipped configuration -----------------------------------------------------------------------------------


def test_the_shipped_site(site: SiteConfig) -> None:
    assert (site.api, site.gateway) == (Listen("127.0.0.1", 7411), Listen("127.0.0.1", 7412))
    assert (site.node_site, site.device_sources, site.lease_s) == ("dongyang-subnode", ("nvml", "cpu"), 60.0)
    assert (site.logs.keep_s, site.logs.cap_bytes) == (14 * 86_400.0, 64 << 20)
    assert site.simulated_nodes == (
        SimulatedNodes(
            *("sim-h100", 4, "dongyang-subnode", "H100 SXM", "nvidia", 8, 80 * 10**9, 128_000, 1 << 40),
            racks=("sim-rack-1", "sim-rack-2"),
            devices_per_island=8,
        ),
        SimulatedNodes(
            *("sim-910b", 2, "edge-cloud", "Ascend 910B (Atlas 800T A2)", "huawei", 8, 64 * 10**9, 192_000, 1 << 40),
            racks=("sim-rack-3",),
            devices_per_island=4,
        ),
    )
    assert (site.ray.port, site.ray.object_store_memory_bytes) == (0, 100_000_000)
    assert site.ray.health_check == NETWORKS["lan"]
    assert (site.tls, site.store_url, site.node_name) == (None, None, None)


def test_the_goals_are_apart_and_the_citys_is_context(site: SiteConfig) -> None:
    goals = [(g.sites, g.goal_pflops, g.precision, g.due, g.is_context) for g in site.goals]
    assert goals == [
        (("dongyang-subnode",), 700, "dense 16-bit", "2029-03-15", False),
        (("edge-cloud",), 400, "dense 16-bit", "2029-03-15", False),
        (("dongyang-subnode", "edge-cloud"), 900, "dense 16-bit", "2027-12-31", True),
    ]
    assert all(g.source for g in site.goals)
    assert [s.title_zh for s in site.sites.values()] == ["浙中算力中心东阳子节点", "边缘云算力服务"]


def test_the_priority_classes_stand_in_their_order(site: SiteConfig) -> None:
    order = ["emergency", "low-altitude", "public-safety", "production", "normal", "best-effort"]
    assert list(site.priority_classes) == order
    assert sorted((c.priority for c in site.priority_classes.values()), reverse=True) == [
        c.priority for c in site.priority_classes.values()
    ]
    assert [c.name for c in site.priority_classes.values() if not c.may_preempt] == ["best-effort"]


def test_the_tenants(site: SiteConfig) -> None:
    assert list(site.tenants) == [
        "operations",
        "film-studio",
        "drone-operator",
        "magnet-factory",
        "hospital",
        "default",
    ]


def test_the_shipped_policy_is_the_default_and_its_shares_bind_nobody(site: SiteConfig) -> None:
    assert site.policy == PolicySettings()
    assert all(
        (tenant.share.guaranteed_milli, tenant.share.maximum_milli) == (0, None) for tenant in site.tenants.values()
    )
    assert {name: tenant.share.weight for name, tenant in site.tenants.items() if tenant.share.weight != 1} == {
        "drone-operator": 2.0,
        "hospital": 2.0,
    }


def test_the_packings_that_a_site_may_name_are_those_of_the_planner() -> None:
    assert set(PACKINGS) == set(core_packings)


@pytest.mark.parametrize(
    ("model", "fp16", "memory_gb"),
    [
        ("H100 SXM", 989.0, None),
        ("A100 SXM 80GB", 312.0, 80),
        ("Ascend 910B (Atlas 800T A2)", None, None),  # public figures contradict each other
        ("MetaX C500/C550", None, None),  # only a derived figure is known
    ],
)
def test_the_catalogue_holds_vendor_figures_or_nothing(
    model: str, fp16: float | None, memory_gb: int | None, site: SiteConfig
) -> None:
    card = site.catalogue[model]
    assert card.peak_tflops["fp16_bf16"] == fp16
    assert card.memory_bytes == (None if memory_gb is None else memory_gb * 10**9)
    assert set(card.peak_tflops) == {"fp16_bf16", "fp8", "fp64", "int8"}


def test_the_catalogue_says_no_more_than_the_given_facts(site: SiteConfig, repository: Path) -> None:
    given = repository.parent / "shared" / "data" / "hardware_catalogue.csv"
    if not given.is_file():
        pytest.skip("shared/data is not beside this checkout")
    columns = {
        "fp16_bf16": "fp16_bf16_dense_tflops",
        "fp8": "fp8_dense_tflops",
        "fp64": "fp64_tc_tflops",
        "int8": "int8_dense_tops",
    }
    with given.open(newline="") as file:
        facts = {row["card"]: row for row in csv.DictReader(file)}
    assert set(facts) == set(site.catalogue)
    for model, card in site.catalogue.items():
        for key, column in columns.items():
            peak, fact = card.peak_tflops[key], facts[model][column]
            assert peak is None or float(fact) == peak, (model, key)
            unsure = "derived" in facts[model]["confidence"] or "sparse" in facts[model]["note"]
            assert peak is not None or not fact or unsure, (model, key)
        bandwidth = facts[model]["mem_bw_tbps"]
        assert card.memory_bandwidth_tbps == (float(bandwidth) if bandwidth else None), model


def test_what_the_api_shows_is_json_without_secrets(site: SiteConfig) -> None:
    shown = json.loads(json.dumps(to_json(site)))
    assert [g["goal_pflops"] for g in shown["goals"]] == [700, 400, 900]
    (h100,) = [card for card in shown["catalogue"] if card["model"] == "H100 SXM"]
    assert (h100["vendor"], h100["peak_tflops"]["fp16_bf16"]) == ("nvidia", 989)
    assert shown["tenants"][1]["max_priority_class"] == "production"
    assert shown["tenants"][2]["weight"] == 2.0
    assert shown["tenants"][5]["limits"] == {"running_jobs": 5000, "queued_jobs": 20000, "queued_devices": None}
    assert shown["policy"]["packing"] == "default"
    assert "store" not in json.dumps(shown)
    assert str(site.path.parent) not in json.dumps(shown)


def test_the_shipped_files_are_found_from_anywhere(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped_config().samefile(repository / "configs" / "local.yaml")
