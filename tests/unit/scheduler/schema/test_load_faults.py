"""What is wrong with a site's files is said with file, line and field, all at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node_agent.devices.openers import DEFAULT_NAMES
from scheduler.core.decisions import TenantPolicy
from scheduler.errors import BadInput
from scheduler.schema.doors import is_loopback
from scheduler.schema.load import load_site
from scheduler.schema.model import PolicySettings, SiteConfig, TenantShare
from scheduler.schema.policy import guaranteed_too_much, planner_policy
from tests.fakes.examples import examples

FILES = ("local.yaml", "sites.yaml", "priority_classes.yaml", "tenants.yaml", "policy.yaml", "health.yaml")


@pytest.fixture
def copy(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped files in a folder of their own, named `configs/...` in messages."""
    for name in (*FILES, "hardware_catalogue.csv"):
        (tmp_path / "configs").mkdir(exist_ok=True)
        shutil.copy(repository / "configs" / name, tmp_path / "configs" / name)
    monkeypatch.chdir(tmp_path)
    return Path("configs")


BAD: list[tuple[str, str, str, list[str]]] = [
    # file, what stands there, what to put instead, what the message (at that line) says
    (
        "tenants",
        "max_priority_class: low-altitude",
        "max_priority_class: low-altitud",
        [
            "tenants.drone-operator.max_priority_class: expected one of emergency, low-altitude, public-safety, ",
            "; got 'low-altitud' (did you mean low-altitude?)",
        ],
    ),
    ("tenants", "title_en: Hospital", "titel_en: Hospital", ["tenants.hospital.titel_en: unknown field", "title_en?"]),
    (
        "tenants",
        "title_en: Hospital",
        "unix_user: 'a b'\n    title_en: H",
        ["tenants.hospital.unix_user: expected a Unix"],
    ),
    (
        "tenants",
        "title_en: Hospital",
        "requests_per_s: 0\n    title_en: H",
        ["tenants.hospital.requests_per_s: expected requests a second: a number"],
    ),
    ("tenants", "hospital:", "Hospital:", ["tenants.Hospital: expected a name: lower-case letters"]),
    ("tenants", "hospital:", "film-studio:", ["tenants.film-studio: is given twice (first on line"]),
    (
        "priority_classes",
        "priority: 800",
        "priority: 1000",
        ["low-altitude.priority: 1000 is also the priority of emerg"],
    ),
    (
        "priority_classes",
        "priority: 800",
        "priority: high",
        ["low-altitude.priority: expected a whole number", "'high'"],
    ),
    ("priority_classes", "may_preempt: false", "may_preempt: true", ["best-effort.may_preempt: expected false"]),
    (
        "priority_classes",
        "may_preempt: false",
        "may_preempt: 'no'",
        ["best-effort.may_preempt: expected true or false"],
    ),
    (
        "sites",
        "sites: [edge-cloud]",
        "sites: [edge-clod]",
        ["goals[1].sites[0]: expected one of dongyang-subnode", "edge-cloud?"],
    ),
    ("sites", "sites: [edge-cloud]", "sites: []", ["goals[1].sites: expected at least one site"]),
    (
        "sites",
        "sites: [edge-cloud]",
        "sites: [edge-cloud, edge-cloud]",
        ["goals[1].sites[1]: 'edge-cloud' is listed twice"],
    ),
    ("sites", "goal_pflops: 400", "goal_pflops: 0", ["goals[1].goal_pflops: expected PFlops", "got 0"]),
    ("sites", "due: 2027-12-31", "due: 2027-13-31", ["goals[2].due: expected a date as YYYY-MM-DD; got '2027-13-31'"]),
    ("sites", "is_context: true", "is_context: 1", ["goals[2].is_context: expected true or false; got 1"]),
    ("local", "port: 7411", "port: 74110", ["api.port: expected a whole number from 0 to 65535; got 74110"]),
    ("local", "port: 7411", 'port: "7411"', ["api.port: expected a whole number from 0 to 65535; got '7411'"]),
    ("local", "port: 7412", "port: 7411", ["gateway.port: 7411 is also the port of api"]),
    (
        "local",
        "host: 127.0.0.1, port: 7411",
        "host: 0.0.0.0, port: 7411",
        ["api.host: '0.0.0.0' can be", "Beyond loopback: TLS."],
    ),
    (
        "local",
        "port: 7411}",
        "prot: 7411, port: 1}",
        ["api.prot: unknown field; expected one of host, port (did you mean port?"],
    ),
    (
        "local",
        "site: dongyang-subnode",
        "site: dongyang",
        ["node.site: expected one of", "(did you mean dongyang-subnode?)"],
    ),
    (
        "local",
        "site: edge-cloud",
        "site: cloud-edge",
        ["simulated_nodes[1].site: expected one of dongyang-subnode, edge-cloud"],
    ),
    ("local", "[nvml, cpu]", "[nvlm, cpu]", ["node.devices: expected a list of device sources", "nvml, cpu"]),
    (
        "local",
        "[nvml, cpu]",
        '["replay:"]',
        ["node.devices: expected a list", "or replay:PATH; each once, got replay:"],
    ),
    ("local", "[nvml, cpu]", "[cpu, cpu]", ["node.devices: expected a list", "each once, got cpu, cpu"]),
    ("local", "[nvml, cpu]", "[[nvml]]", ["node.devices: expected a list of device sources"]),
    (
        "local",
        "model: H100 SXM",
        "model: H100",
        ["simulated_nodes[0].model: expected a model of the hardware", "H100 SXM"],
    ),
    ("local", "count: 4", "count: 0", ["simulated_nodes[0].count: expected a whole number from 1", "got 0"]),
    ("local", "count: 4", "count: -4", ["simulated_nodes[0].count: expected a whole number from 1", "got -4"]),
    ("local", "cpus: 128", "cpus: 0", ["simulated_nodes[0].cpus: expected CPUs"]),
    (
        "local",
        "prefix: sim-910b",
        "prefix: sim-h100",
        ["simulated_nodes[1].prefix: 'sim-h100' is the prefix of simulated_nodes[0]"],
    ),
    ("local", "island: 4", "island: 3", ["simulated_nodes[1].island: expected devices of one island, a part of the 8"]),
    ("local", "rack: sim-rack-3", "rack: [Rack 3]", ["simulated_nodes[1].rack[0]: expected a name: lower-case"]),
    (
        "local",
        "devices: [nvml, cpu]",
        "expected_devices: -1",
        ["node.expected_devices: expected a whole number from 0 to 1024", "got -1"],
    ),
    (
        "local",
        "devices: [nvml, cpu]",
        "metrics: {listen: nine, token: t}",
        ["node.metrics.listen: expected a port, or an address and a port"],
    ),
    (
        "local",
        "devices: [nvml, cpu]",
        "metrics: {listen: ':9400', token: t}",
        ["node.metrics.listen: expected a port, or an address and a port"],
    ),
    ("local", "devices: [nvml, cpu]", "metrics: {listen: 9400}", ["node.metrics.token"]),
    (
        "local",
        "rack: sim-rack-3",
        "mig: [big]",
        ['simulated_nodes[1].mig[0]: expected a MIG profile such as "1g.10gb"'],
    ),
    (
        "local",
        "rack: sim-rack-3",
        "mig: [4g.20gb, 4g.20gb]",
        ["simulated_nodes[1].mig: expected instances that take at most the 7 compute slices", "4g.20gb, 4g.20gb: 8"],
    ),
    (
        "local",
        "rack: sim-rack-3",
        "mig: [3g.40gb, 3g.40gb]",
        ["simulated_nodes[1].mig: expected instances that take at most a card's 64 GB of memory", "3g.40gb: 80 GB"],
    ),
    (
        "local",
        "rack: sim-rack-3",
        "mig: [2c.3g.20gb, 2c.3g.20gb, 2g.20gb]",
        ["simulated_nodes[1].mig: expected instances that take at most the 7 compute slices", "2g.20gb: 8"],
    ),
    (
        "local",
        "rack: sim-rack-3",
        "labels: {gen: 4}",
        ["simulated_nodes[1].labels.gen: expected a label's value", "(4 in quotes); got 4"],
    ),
    ("local", "policy: policy.yaml", "policy: polcy.yaml", ["include.policy: expected the path of a file"]),
    ("policy", "packing: default", "packing: best", ["packing: expected one of default, fgd, best-fit", "best-fit?"]),
    ("policy", "backfill: easy", "backfill: eazy", ["backfill: expected one of easy, conservative, none", "easy?"]),
    ("policy", "starve_after: 24h", "starve_after: 1s", ["starve_after: expected a duration", "got '1s'"]),
    (
        "policy",
        "reservation_depth: 64",
        "reservation_depth: 0",
        ["reservation_depth: expected a whole number", "got 0"],
    ),
    ("policy", "tie_seed: 0", "tie_sed: 0", ["tie_sed: unknown field", "tie_seed?"]),
    ("tenants", "weight: 2", "weight: 0", ["tenants.drone-operator.weight: expected a weight: a number, above 0"]),
    (
        "tenants",
        "weight: 2",
        "quota: {guaranteed: 8, maximum: 4}",
        ["tenants.drone-operator.quota.maximum: expected at least guaranteed, which is 8; got 4"],
    ),
    (
        "tenants",
        "weight: 2",
        "quota: {guaranteed: 0.0001}",
        ["quota.guaranteed: expected a number of devices from 0 to 1000000, in steps of 0.001; got 0.0001"],
    ),
    (
        "tenants",
        "weight: 2",
        "quota: {max: 4}",
        ["quota.max: unknown field; expected one of guaranteed, maximum", "maximum?"],
    ),
    (
        "tenants",
        "limits: {queued_jobs: 20000}",
        "limits: {queued_jobs: 0}",
        ["film-studio.limits.queued_jobs: expected a whole number from 1 to 1000000; got 0"],
    ),
    ("local", "lease: 60s", "lease: 1s", ["lease: expected a duration", "from 5 s to 3600 s; got '1s'"]),
    ("local", "keep: 14d", "keep: 5s", ["logs.keep: expected a duration", "got '5s'"]),
    ("local", "cap: 64MiB", "cap: 1KiB", ["logs.cap: expected", "at least 64 KiB, or 0 for no cap", "got '1KiB'"]),
    ("local", "cap: 64MiB", "caps: 64MiB", ["logs.caps: unknown field", "cap?"]),
    ("local", "100MB\n", "1MB\n", ["ray.object_store_memory: expected at least 75MiB"]),
    (
        "local",
        "  network: lan",
        "  health_check: {failures: 0}",
        ["ray.health_check.failures: expected a whole", "got 0"],
    ),
    ("local", "network: lan", "network: man", ["ray.network: expected one of lan, wan; got 'man'"]),
    ("local", "tenants: tenants.yaml", "tenants: tennants.yaml", ["include.tenants: expected the path of a file"]),
    (
        "hardware_catalogue",
        "H100 SXM,nvidia,,989",
        "H100 SXM,nvidia,,many",
        ["H100 SXM.fp16_bf16_dense_tflops: expected a", "'many'"],
    ),
    (
        "hardware_catalogue",
        "H100 SXM,nvidia,,989",
        "H100 SXM,nvidia,,0",
        ["fp16_bf16_dense_tflops: expected a number above 0", "'0'"],
    ),
    ("hardware_catalogue", "H100 SXM,nvidia,,989", "H100 SXM,nvidia,989", ["expected 23 columns; got 22"]),
    ("hardware_catalogue", "H100 SXM,nvidia", "H100 SXM,", ["H100 SXM.vendor: required, and empty"]),
    ("hardware_catalogue", "H200 SXM,nvidia", "H100 SXM,nvidia", ["H100 SXM: is listed twice"]),
    ("hardware_catalogue", "A10,nvidia", "any,nvidia", ["any: any, none and cpu are words of a demand"]),
    (
        "hardware_catalogue",
        "model,vendor",
        "modle,vendor",
        ["modle: expected one of the columns", "(did you mean model?)"],
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "parts"), BAD, ids=[f"{r[0]}: {r[2][:40]}" for r in BAD])
def test_broken_configuration(name: str, old: str, new: str, parts: list[str], copy: Path) -> None:
    path = copy / (name + (".csv" if name == "hardware_catalogue" else ".yaml"))
    text = path.read_text()
    assert old in text
    line = text[: text.index(old)].count("\n") + 1
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(BadInput) as caught:
        load_site(copy / "local.yaml")
    wanted = f"{path}:{line}: "
    lines = [line for line in caught.value.message.splitlines() if line.startswith(wanted)]
    assert lines, f"no line begins with {wanted}: {caught.value.message}"
    for part in parts:
        assert any(part in line for line in lines), (part, lines)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_every_source_may_be_named_and_all_are_tried_where_none_is(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme.yaml").write_text("command: [acme-smi]\n")
    monkeypatch.setenv("SUANLI_VENDORS", str(tmp_path))
    change(copy / "local.yaml", "[nvml, cpu]", '[ascend, acme, "replay:/var/lib/incident.jsonl", cpu]')
    named = load_site(copy / "local.yaml").device_sources
    assert named == ("ascend", "acme", "replay:/var/lib/incident.jsonl", "cpu")
    change(copy / "local.yaml", '[ascend, acme, "replay:/var/lib/incident.jsonl", cpu]', "[cpu]")
    change(copy / "local.yaml", "  devices: [cpu]\n", "")
    assert load_site(copy / "local.yaml").device_sources == DEFAULT_NAMES


def refused(copy: Path) -> list[str]:
    with pytest.raises(BadInput) as caught:
        load_site(copy / "local.yaml")
    return caught.value.message.splitlines()


def test_faults_of_all_files_come_at_once(copy: Path) -> None:
    change(copy / "tenants.yaml", "max_priority_class: normal", "max_priority_class: norml")
    change(copy / "sites.yaml", "goal_pflops: 700", "goal_pflops: many")
    change(copy / "local.yaml", "count: 4", "count: 0")
    change(copy / "local.yaml", "port: 7411", "port: -1")
    assert sorted(line.split(":")[0] for line in refused(copy)) == ["configs/local.yaml", "configs/local.yaml"]
    # With the main file whole, the others' faults come together.
    change(copy / "local.yaml", "count: 0", "count: 4")
    change(copy / "local.yaml", "port: -1", "port: 7411")
    assert sorted(line.split(":")[0] for line in refused(copy)) == ["configs/sites.yaml", "configs/tenants.yaml"]


def test_what_tenants_are_due_reaches_the_planner(copy: Path) -> None:
    change(
        copy / "tenants.yaml",
        "weight: 2\n    limits: {queued_jobs: 20000}",
        "weight: 2.5\n    quota: {guaranteed: 8.25, maximum: 64}\n    limits: {running_jobs: 3, queued_devices: 0.5}",
    )
    site = load_site(copy / "local.yaml")
    assert site.tenants["drone-operator"].share == TenantShare(2.5, 8_250, 64_000, 3, None, 500)
    assert planner_policy(site).tenants["drone-operator"] == TenantPolicy(2.5, 8_250, 64_000, 3, None, 500)
    assert planner_policy(site).non_preempting == {100}
    assert guaranteed_too_much(site, installed=9, what="devices") is None
    assert guaranteed_too_much(site, installed=0, what="devices") is None
    assert guaranteed_too_much(site, installed=8, what="simulated devices") == (
        "tenants are guaranteed 8.25 devices in all, and 8 simulated devices are installed: "
        "not all guarantees can be kept at once"
    )


def test_a_site_without_a_policy_file_has_the_default_one(copy: Path) -> None:
    change(copy / "local.yaml", "  policy: policy.yaml\n", "")
    change(copy / "policy.yaml", "packing: default", "packing: fgd")
    assert load_site(copy / "local.yaml").policy == PolicySettings()
    change(copy / "local.yaml", "include:\n", "include:\n  policy: policy.yaml\n")
    change(copy / "policy.yaml", "min_run_before_preemption: 10m", "min_run_before_preemption: 0")
    loaded = load_site(copy / "local.yaml").policy
    assert (loaded.packing, loaded.min_run_before_preemption_s) == ("fgd", 0.0)


@pytest.mark.parametrize(
    ("memory", "mig"),
    [
        ("80GB", "[3g.40gb, 3g.40gb]"),
        ("80GB", "[1g.10gb, 1g.10gb, 1g.10gb, 1g.10gb, 1g.10gb, 1g.10gb, 1g.10gb+me]"),
        ("141GB", "[3g.71gb, 3g.71gb]"),  # its name rounds up
        ("80GB", "[1c.4g.40gb, 1c.4g.40gb, 2c.4g.40gb, 3g.40gb]"),  # parts of one instance
    ],
)
def test_instances_that_a_card_has_room_for(copy: Path, memory: str, mig: str) -> None:
    change(copy / "local.yaml", "device_memory: 64GB", f"device_memory: {memory}")
    change(copy / "local.yaml", "rack: sim-rack-3", f"mig: {mig}")
    assert load_site(copy / "local.yaml").simulated_nodes[1].mig_profiles == tuple(mig.strip("[]").split(", "))


def test_this_machines_node_has_a_rack_and_labels(copy: Path) -> None:
    change(copy / "local.yaml", "node:\n", "node:\n  rack: r1\n  labels: {tier: gold, cooling: liquid}\n")
    site = load_site(copy / "local.yaml")
    assert (site.node_rack, site.node_labels) == ("r1", (("cooling", "liquid"), ("tier", "gold")))


def test_a_class_that_job_files_count_on_must_be_there(copy: Path) -> None:
    change(copy / "priority_classes.yaml", "  normal:", "  ordinary:")
    lines = refused(copy)
    assert lines[0].startswith("configs/priority_classes.yaml:")
    assert "priority_classes.normal: required class, and not given" in lines[0]
    assert "tenants.default.max_priority_class: expected one of" in lines[1]


def test_two_goals_of_one_name(copy: Path) -> None:
    change(copy / "sites.yaml", "name: city-900", "name: edge-cloud-400")
    assert "goals[2].name: 'edge-cloud-400' is the name of an earlier goal" in refused(copy)[0]


def test_a_simulated_card_needs_memory_from_somewhere(copy: Path) -> None:
    change(copy / "local.yaml", "    device_memory: 80GB\n", "")
    assert (
        "simulated_nodes[0].device_memory: required, because the catalogue gives no memory for H100" in refused(copy)[0]
    )
    change(copy / "local.yaml", "model: H100 SXM", "model: A100 SXM 80GB")
    assert load_site(copy / "local.yaml").simulated_nodes[0].device_memory_bytes == 80 * 10**9


def test_this_machine_may_not_be_named_as_a_simulated_one(copy: Path) -> None:
    change(copy / "local.yaml", "node:\n", "node:\n  name: sim-h100-3\n")
    assert "node.name: 'sim-h100-3' is also the name of a simulated node of simulated_nodes[0]" in refused(copy)[0]
    change(copy / "local.yaml", "sim-h100-3", "sim-h100-4")
    assert load_site(copy / "local.yaml").node_name == "sim-h100-4"


def test_a_database_url_is_not_echoed(copy: Path) -> None:
    change(copy / "local.yaml", "lease: 60s", "store: mysql://suanli:hunter2@db/jobs\nlease: 60s")
    lines = refused(copy)
    assert "store: expected a URL" in lines[0]
    assert "hunter2" not in lines[0]


def test_beyond_loopback_there_is_tls(copy: Path) -> None:
    change(copy / "local.yaml", "host: 127.0.0.1, port: 7411", "host: 0.0.0.0, port: 7411")
    change(copy / "local.yaml", "lease: 60s", "tls: {cert: site.crt, key: site.key}\nlease: 60s")
    assert [line.split(": ")[1] for line in refused(copy)] == ["tls.cert", "tls.key"]
    (copy / "site.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    (copy / "site.key").write_text("not a key\n")
    assert "tls.key: expected a PEM file (-----BEGIN ...); configs/site.key is none" in refused(copy)[0]
    (copy / "site.key").write_text("-----BEGIN PRIVATE KEY-----\n")
    loaded = load_site(copy / "local.yaml")
    assert loaded.tls is not None
    assert (loaded.tls.cert, loaded.api.host) == (copy / "site.crt", "0.0.0.0")


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_loopback(host: str, answer: bool) -> None:
    assert is_loopback(host) is answer


def test_a_file_that_is_no_yaml_is_named(copy: Path) -> None:
    (copy / "tenants.yaml").write_text("tenants: [\n")
    assert refused(copy)[0].startswith("configs/tenants.yaml:2: is not valid YAML")
    (copy / "local.yaml").write_text("")
    assert refused(copy) == ["configs/local.yaml:1: expected a mapping of fields (name: value); the file says nothing"]
    (copy / "local.yaml").unlink()
    assert refused(copy) == ["configs/local.yaml: there is no such file; check the path"]


@settings(
    max_examples=examples(30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    name=st.sampled_from([*FILES, "hardware_catalogue.csv"]),
    cut=st.integers(0, 3000),
    drop=st.integers(0, 40),
    put=st.text(alphabet=st.one_of(st.sampled_from('a: -[]{},"\n01.'), st.characters(codec="utf-8")), max_size=8),
)
def test_any_damage_gives_a_site_or_bad_input(
    name: str, cut: int, drop: int, put: str, copy: Path, repository: Path
) -> None:
    whole = (repository / "configs" / name).read_text()
    (copy / name).write_text(whole[:cut] + put + whole[cut + drop :])
    said = ""
    try:
        assert isinstance(load_site(copy / "local.yaml"), SiteConfig)
    except BadInput as error:
        said = error.message
    finally:
        (copy / name).write_text(whole)
    assert all(line.startswith("configs/") for line in said.splitlines())


def test_what_is_said_of_the_health_check_goes_before_the_networks_profile(copy: Path) -> None:
    change(copy / "local.yaml", "  network: lan", "  network: wan\n  health_check: {failures: 2}")
    check = load_site(copy / "local.yaml").ray.health_check
    assert (check.period_s, check.timeout_s, check.failures) == (3.0, 10.0, 2)
