"""What an adapter costs that has nothing to drive here, and how a vendor's tool on the path becomes a source."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from node_agent.devices.collector import CollectedDevices
from node_agent.devices.detect import detect, probe
from node_agent.devices.openers import DEFAULT_NAMES, SourceAbsent, adapters
from node_agent.devices.source import DeviceSourceError, Quantity, Reading
from node_agent.nodes import NodeAgent, NodeConfig, readings_json
from tests.fakes.nvml_stub import stub_cards

ROOT = Path(__file__).resolve().parents[4]
FIXTURES = ROOT / "tests" / "data" / "vendors"

ABSENT = """
import subprocess, sys
started = []
real = subprocess.Popen.__init__
subprocess.Popen.__init__ = lambda self, *a, **k: started.append(a) or real(self, *a, **k)
from node_agent.devices.detect import probe
found = probe()
print(found.source.vendor, found.passed_over, started, sorted({"yaml", "pynvml", "json.tool"} & set(sys.modules)))
"""


def put(directory: Path, name: str, fixture: str) -> None:
    directory.mkdir(exist_ok=True)
    tool = directory / name
    tool.write_text(f"#!/bin/sh\nexec /bin/cat {FIXTURES / fixture}\n")
    tool.chmod(0o755)


def test_what_is_not_installed_costs_nothing_at_start(tmp_path: Path) -> None:
    """No process, none of the modules that adapters need, and no note for operators."""
    done = subprocess.run(
        [sys.executable, "-c", ABSENT],
        env={"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    if done.stdout.startswith("nvidia"):
        pytest.skip("this machine has NVIDIA's driver")
    assert done.stdout.strip() == "cpu () [] []"


def test_what_a_site_names_and_is_not_here_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = probe(("metax", "iluvatar", "cpu"))
    assert found.passed_over == (
        "metax: mx-smi is not installed here; on a node with such cards install their driver",
        "iluvatar: libixml.so is not installed here; on a node with such cards install their driver",
    )
    with pytest.raises(DeviceSourceError, match="unknown device source 'metaks'; known are ascend, cambricon, cpu"):
        probe(("metaks",))


def test_a_tool_on_the_path_is_asked_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "bin", "mx-smi", "mx-smi-2.1.txt")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    source = detect()
    try:
        assert isinstance(source, CollectedDevices)
        devices = source.enumerate()
        assert [(device.model, device.vendor) for device in devices] == [("MetaX C500/C550", "metax")] * 2
        assert source.visibility(devices[1:])["MACA_VISIBLE_DEVICES"] == "1"
        assert any("never run on its hardware" in note for note in source.topology().notes)
    finally:
        source.close()


def test_a_sites_own_file_goes_before_the_one_that_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = (ROOT / "configs" / "vendors" / "metax.yaml").read_text()
    own = tmp_path / "vendors"
    own.mkdir()
    (own / "metax.yaml").write_text(shipped.replace("[mx-smi]", "[own-smi]"))
    (own / "acme.yaml").write_text(shipped.replace("vendor: metax", "vendor: acme").replace("[mx-smi]", "[acme-smi]"))
    (own / "nvml.yaml").write_text(shipped)  # what is built in cannot be replaced
    (own / "Bad Name.yaml").write_text(shipped)
    monkeypatch.setenv("SUANLI_VENDORS", str(own))
    known = adapters()
    assert known["metax"].command == "own-smi"
    assert (known["acme"].vendor, known["acme"].command) == ("acme", "acme-smi")
    assert known["nvml"].library == "libnvidia-ml.so.1"
    assert set(known) == (set(DEFAULT_NAMES) - {"cpu"}) | {"acme"}


def test_a_mistake_in_a_sites_own_file_is_told_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme.yaml").write_text("vendor: acme\ncommand: [sh]\nformat: jsn\n")
    monkeypatch.setenv("SUANLI_VENDORS", str(tmp_path))
    with pytest.raises(DeviceSourceError, match="format: 'jsn' is not known; did you mean json"):
        detect(("acme",))


def test_every_adapter_says_what_it_needs() -> None:
    for name, adapter in adapters().items():
        assert (adapter.library is None) != (adapter.command is None), name
        assert adapter.tried == (name == "nvml")
    with pytest.raises(SourceAbsent):
        adapters()["iluvatar"].require()


def test_a_node_tells_what_its_driver_is_doing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = stub_cards(tmp_path, 2)
    for name, value in cards.environment().items():
        monkeypatch.setenv(name, value)
    # The loader took LD_LIBRARY_PATH when this process began; the sampler, which begins later, finds the stub by it.
    monkeypatch.setattr("node_agent.devices.nvml.library_there", lambda library: True)
    node = NodeAgent(NodeConfig("n1", "lab", "127.0.0.1", ("nvml",)))
    try:
        facts = node.facts()
        assert (facts.node, facts.sampling, facts.restarts) == ("n1", "sampling", 0)
        assert len(node.all_devices) == 2
        cards.event(1, 48)
        told = []
        while not told:
            told = list(node.events(0.0))
        assert [(event.uuid, event.code) for event in told] == [("GPU-00000001-stub", 48)]
        assert node.topology().versions["driver"] == "999.10.02-stub"
    finally:
        node.close()
        cards.close()


def test_what_a_device_never_has_is_not_told_to_the_service(tmp_path: Path) -> None:
    node = NodeAgent(NodeConfig("n1", "lab", "127.0.0.1", ("cpu",)))
    source = detect(("cpu",))
    fields = next(iter(readings_json(source.read(1.0)).values()))
    assert "power_watts" in fields  # always told, with the reason
    assert "ecc_uncorrected_volatile" not in fields
    assert set(fields) < {quantity.value for quantity in Quantity}
    assert isinstance(next(iter(source.read(2.0).values()))[Quantity.MEMORY_TOTAL_BYTES], Reading)
    node.close()
