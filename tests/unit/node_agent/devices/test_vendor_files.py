"""A vendor's tool is described by a file: what a good one is enough for, and what is said of a bad one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.devices.quantities import Quantity
from node_agent.devices.source import DeviceSourceError, Quality, Reading, Unavailable
from node_agent.devices.vendor import VendorDevices
from node_agent.devices.vendor_file import read_vendor_file
from tests.fakes.printing_tool import Prints

GOOD: Mapping[str, Any] = {
    "vendor": "acme",
    "tool": "acme-smi 1",
    "command": ["acme-smi"],
    "format": "table",
    "header": [["ID", "Temp"]],
    "device": {"index": "ID"},
    "fields": {"temperature_celsius": {"from": "Temp", "unit": "C"}},
}


def written(directory: Path, found: object) -> Path:
    path = directory / "acme.yaml"
    path.write_text(json.dumps(found))  # JSON is YAML
    return path


def test_a_new_vendor_is_a_file(tmp_path: Path) -> None:
    source = VendorDevices(written(tmp_path, GOOD), tool=Prints("ID Temp\n0 41C\n1 N/A\n"), host="n1")
    assert [device.uuid for device in source.enumerate()] == ["acme-n1-0", "acme-n1-1"]
    read = source.read(1.0)
    warmth = read["acme-n1-0"][Quantity.TEMPERATURE_CELSIUS]
    assert isinstance(warmth, Reading)
    assert (warmth.value, warmth.unit, warmth.quality) == (41.0, "celsius", Quality.MEASURED)
    assert isinstance(read["acme-n1-0"][Quantity.POWER_WATTS], Unavailable)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vender": "x"}, "'vender' is not known; did you mean vendor"),
        ({"format": "xml"}, "format: 'xml' is not known; known are json, table"),
        ({"each": ["GPU"]}, "'each' is not known"),
        ({"command": "acme-smi -q"}, "command: expected a list of words"),
        ({"command": []}, "command: expected a list of words"),
        ({"header": []}, "header: expected a list of the header's rows"),
        ({"header": [[]]}, "header row 1: expected a list of names"),
        ({"fields": {}}, "fields: names no reading"),
        ({"fields": {"power_wats": {"from": "P", "unit": "W"}}}, "'power_wats' is not known; did you mean power_watts"),
        ({"fields": {"faults": {"from": "P", "unit": "count"}}}, "'faults' is not known"),
        ({"fields": {"power_watts": {"from": "P", "unit": "V"}}}, "'V' is no unit of watts; expected one of mw, w"),
        ({"fields": {"power_watts": {"from": "P", "unit": "MiB"}}}, "'MiB' is no unit of watts"),
        ({"fields": {"power_watts": {"from": "P"}}}, "fields.power_watts.unit: is missing"),
        ({"fields": {"power_watts": {"from": "P", "unit": "W", "part": 3}}}, "part: expected 1 or 2, not 3"),
        ({"fields": {"power_watts": 5}}, "fields.power_watts: expected names with values"),
        ({"device": {"idx": "ID"}}, "device: 'idx' is not known; did you mean index"),
        ({"deadline_s": 0}, "deadline_s: expected 1 to 60 seconds"),
        ({"deadline_s": True}, "deadline_s: expected 1 to 60 seconds"),
        ({"health": {"from": "H", "words": {"OK": "fine"}}}, "health.words.OK: 'fine' is not known"),
        ({"health": {"from": "H"}}, "health.words: is missing"),
        ({"models": [1]}, "models: expected names with values"),
        ({"vendor": ""}, "vendor: expected a word"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_place(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DeviceSourceError) as caught:
        read_vendor_file(written(tmp_path, {**GOOD, **change}))
    assert said in str(caught.value)
    assert "acme.yaml" in str(caught.value)


@pytest.mark.parametrize("key", ["vendor", "tool", "command", "device", "fields", "header"])
def test_what_is_missing_in_a_file_is_named(key: str, tmp_path: Path) -> None:
    with pytest.raises(DeviceSourceError, match=f"{key}: is missing"):
        read_vendor_file(written(tmp_path, {name: value for name, value in GOOD.items() if name != key}))


@given(data=st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_file_is_a_vendors_or_refused(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(data)
    with pytest.raises(DeviceSourceError):
        read_vendor_file(path)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceSourceError, match="cannot be read"):
        read_vendor_file(tmp_path / "none.yaml")
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * 70_000)
    with pytest.raises(DeviceSourceError, match="larger than 64 KiB"):
        read_vendor_file(big)
