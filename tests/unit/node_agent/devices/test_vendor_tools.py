"""What vendors' tools print, a version each, becomes readings; and any bytes at all become readings or reasons."""

from __future__ import annotations

import contextlib
import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.devices.kernel_log import bus_id, fault_in
from node_agent.devices.packed import unpacked_device, unpacked_event, unpacked_row, unpacked_topology
from node_agent.devices.quantities import QUANTITIES, Group, Quantity, VendorHealth
from node_agent.devices.source import DeviceSourceError, Quality, Reading, Unavailable
from node_agent.devices.tool_run import ToolFailed, ToolRun
from node_agent.devices.tool_table import cards_in
from node_agent.devices.tool_values import measured
from node_agent.devices.vendor import VendorDevices, cards_of, readings_of
from node_agent.devices.vendor_file import VendorSpec, read_vendor_file
from tests.fakes.printing_tool import Prints

ROOT = Path(__file__).resolve().parents[4]
FIXTURES = ROOT / "tests" / "data" / "vendors"
FILES = sorted((ROOT / "configs" / "vendors").glob("*.yaml"))
U, M, T, P, C = (
    Quantity.UTILISATION_PERCENT,
    Quantity.MEMORY_USED_BYTES,
    Quantity.MEMORY_TOTAL_BYTES,
    Quantity.POWER_WATTS,
    Quantity.TEMPERATURE_CELSIUS,
)
MIB = 1 << 20


def vendor(name: str, fixture: str) -> VendorDevices:
    return VendorDevices(
        ROOT / "configs" / "vendors" / f"{name}.yaml", tool=Prints((FIXTURES / fixture).read_text()), host="n1"
    )


CASES: list[tuple[str, str, list[dict[Quantity, float | str]]]] = [
    (
        "ascend",
        "npu-smi-25.2.txt",
        [
            {U: 7, M: 3197 * MIB, T: 65536 * MIB, P: 91.3, C: 33, Quantity.VENDOR_HEALTH: VendorHealth.GOOD},
            {U: 0, M: 3190 * MIB, T: 65536 * MIB, P: 88.0, C: 35, Quantity.VENDOR_HEALTH: VendorHealth.ALARM},
        ],
    ),
    ("ascend", "npu-smi-26.txt", [{U: 12, P: 172.1, C: 36}, {U: 0, P: "the tool prints '-'", C: 37}]),
    (
        "cambricon",
        "cnmon-5.10.txt",
        [
            {U: 55, M: 1200 * MIB, T: 20638 * MIB, P: 107, Quantity.POWER_LIMIT_WATTS: 250, C: 28},
            {
                U: 0,
                M: "this version of cnmon does not print it",  # "xxxxx MiB": the cell cannot be told apart
                P: 54,
                C: 32,
                Quantity.ECC_UNCORRECTED_VOLATILE: "the tool prints 'N/A'",
            },
        ],
    ),
    (
        "hygon",
        "hy-smi-dcu.json",
        [
            {U: 3, M: 20413 * MIB, T: 65520 * MIB, P: 121, C: 44},
            {U: 0, M: 3 * MIB, P: "the tool prints 'N/A'", C: 41},
        ],
    ),
    ("hygon", "hy-smi-hcu.json", [{U: 15, M: 12058 * MIB, P: 164, C: 52, Quantity.MEMORY_TEMPERATURE_CELSIUS: 48}]),
    (
        "kunlun",
        "xpu-smi-515.txt",
        [
            {U: 62, M: 31058 * MIB, T: 98304 * MIB, P: 91, Quantity.POWER_LIMIT_WATTS: 400, C: 39},
            {U: 0, P: "the tool prints 'N/A/N/A'", C: 38, Quantity.ECC_UNCORRECTED_VOLATILE: 2},
        ],
    ),
    ("metax", "mx-smi-2.1.txt", [{U: 18, M: 914 * MIB, T: 65536 * MIB, P: 56, C: 37}, {U: 0, M: 842 * MIB, C: 36}]),
    ("moore-threads", "mthreads-gmi-2.4.json", [{U: 5, M: 512 * MIB, T: 49152 * MIB, P: 112.5, C: 45}]),
]


@pytest.mark.parametrize(("name", "fixture", "expected"), CASES, ids=[fixture for _, fixture, _ in CASES])
def test_a_version_of_a_tool(name: str, fixture: str, expected: list[dict[Quantity, float | str]]) -> None:
    source = vendor(name, fixture)
    devices = source.enumerate()
    read = source.read(1000.0)
    found = [
        {q: m.value if isinstance(m, Reading) else m.reason for q, m in read[device.uuid].items() if q in wanted}
        for device, wanted in zip(devices, expected, strict=True)
    ]
    assert found == expected


def test_every_file_that_ships_has_a_fixture_and_says_that_it_was_never_run() -> None:
    assert {path.stem for path in FILES} == {name for name, _, _ in CASES}
    for path in FILES:
        spec = read_vendor_file(path)
        assert spec.seen_on == ""
    assert any("never run on its hardware" in note for note in vendor("metax", "mx-smi-2.1.txt").topology().notes)


def test_devices_are_named_as_the_catalogue_does_and_seen_by_number() -> None:
    devices = vendor("kunlun", "xpu-smi-515.txt").enumerate()
    assert [(d.uuid, d.model, d.vendor, d.visible_id, d.bus_id) for d in devices] == [
        ("kunlunxin-n1-00000000:03:00.0", "Kunlun P800", "kunlunxin", "0", "00000000:03:00.0"),
        ("kunlunxin-n1-00000000:16:00.0", "Kunlun P800", "kunlunxin", "1", "00000000:16:00.0"),
    ]
    assert devices[0].memory_bytes == 98304 * MIB
    assert [d.uuid for d in vendor("hygon", "hy-smi-dcu.json").enumerate()] == ["7100fa88669040a1", "7100fa88669040a2"]
    assert vendor("hygon", "hy-smi-hcu.json").enumerate()[0].model == "hygon"  # that version does not say


def test_the_chips_of_a_card_are_devices_of_their_own() -> None:
    devices = vendor("ascend", "npu-smi-26.txt").enumerate()
    assert [(d.index, d.visible_id, d.bus_id) for d in devices] == [
        (0, "0", "0000:9d:00.0"),
        (1, "1", "0000:9f:00.0"),
    ]


def test_a_table_without_bars_is_read_by_its_header_too() -> None:
    text = (FIXTURES / "hy-smi-table.txt").read_text()
    cards = cards_in(text, [[("DCU", "HCU"), ("Temp",), ("VRAM%",)]])
    assert [(card["hcu"], card["temp"], card["vram%"], card["hcu%"]) for card in cards] == [
        ("0", "50.0C", "31%", "3.0%"),
        ("1", "51.0C", "0%", "0.0%"),
    ]


def test_a_tool_that_fails_makes_what_was_there_unavailable_until_it_answers() -> None:
    tool = Prints((FIXTURES / "mx-smi-2.1.txt").read_text())
    source = VendorDevices(ROOT / "configs" / "vendors" / "metax.yaml", tool=tool, host="n1")
    first = source.enumerate()[0].uuid
    good, tool.text = str(tool.text), ToolFailed("mx-smi has not answered within 10 s")
    assert source.enumerate() == []
    measured_now = source.read(2000.0)[first][P]
    assert isinstance(measured_now, Unavailable)
    assert measured_now.reason == "mx-smi has not answered within 10 s"
    assert source.topology().expected == 2
    tool.text = good
    assert isinstance(source.read(3000.0)[first][P], Reading)


def test_a_card_that_is_not_listed_any_more_is_told_of() -> None:
    text = (FIXTURES / "hy-smi-dcu.json").read_text()
    tool = Prints(text)
    source = VendorDevices(ROOT / "configs" / "vendors" / "hygon.yaml", tool=tool, host="n1")
    source.enumerate()
    tool.text = json.dumps({"card0": json.loads(text)["card0"]})
    gone = source.read(2000.0)["7100fa88669040a2"][P]
    assert isinstance(gone, Unavailable)
    assert "does not list this card any more" in gone.reason
    topology = source.topology()
    assert (topology.found, topology.expected, topology.missing) == (1, 2, ("7100fa88669040a2",))


def test_one_output_answers_for_all_groups_of_a_round() -> None:
    asked = []

    class Counting(Prints):
        def output(self) -> str:
            asked.append(1)
            return super().output()

    tool = Counting((FIXTURES / "mx-smi-2.1.txt").read_text())
    source = VendorDevices(ROOT / "configs" / "vendors" / "metax.yaml", tool=tool)
    for at_s in (1000.0, 1000.1, 1001.0):
        source.read(at_s, (Group.FAST,))
        source.read(at_s, (Group.CONDITION,))
    assert len(asked) == 1
    source.read(1010.0)
    source.read(900.0)  # a clock that was set back does not keep what is old
    assert len(asked) == 3


def test_no_card_in_what_is_printed_is_an_error_to_whoever_opens_it() -> None:
    with pytest.raises(DeviceSourceError, match=r"prints no card that mx-smi 2\.1 would print"):
        VendorDevices(ROOT / "configs" / "vendors" / "metax.yaml", tool=Prints("No device found")).enumerate()


# ---- any bytes -------------------------------------------------------------------------------------------------------

SPECS = {path.stem: read_vendor_file(path) for path in FILES}
SOUND = {name: (FIXTURES / fixture).read_text() for name, fixture, _ in CASES}


def understood(spec: VendorSpec, text: str) -> None:
    """Readings or reasons, and no other exception than the one that tells what is wrong."""
    try:
        cards = cards_of(spec, text)
    except ToolFailed:
        return
    assert len(cards) <= 64
    for card in cards:
        for found in readings_of(spec, card, 1.0).values():
            assert isinstance(found, Unavailable) or found.value == found.value


@pytest.mark.parametrize("name", SPECS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_bytes_are_readings_or_reasons(name: str, data: st.DataObject) -> None:
    understood(SPECS[name], data.draw(st.binary(max_size=400)).decode("utf-8", "replace"))


@pytest.mark.parametrize("name", SPECS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_sound_output_with_a_piece_of_it_spoilt_is_readings_or_reasons(name: str, data: st.DataObject) -> None:
    text = SOUND[name]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    piece = data.draw(
        st.one_of(st.text(max_size=20), st.sampled_from(["|", "1e999", "-5", "9" * 400, "NaN", "\n", "{"]))
    )
    understood(SPECS[name], text[:start] + piece + text[end:])


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if spec.format == "json"])
@given(found=JSON, key=st.sampled_from(["HCU use (%)", "Index", "$key", "Utilization"]))
@settings(max_examples=60, deadline=None)
def test_any_json_is_readings_or_reasons(name: str, found: Any, key: str) -> None:
    understood(SPECS[name], json.dumps(found))
    understood(SPECS[name], json.dumps({"card0": {key: found}, "GPU": [{key: found, "Index": found}]}))


def test_nesting_without_end_is_a_reason() -> None:
    understood(SPECS["hygon"], "[" * 100_000)


@given(cell=JSON, unit=st.sampled_from(["%", "W", "MiB", "C", "MHz", "count"]), part=st.sampled_from([None, 1, 2]))
@settings(max_examples=200, deadline=None)
def test_any_cell_is_a_reading_or_a_reason(cell: Any, unit: str, part: int | None) -> None:
    for quantity in (U, M, P, C):
        found = measured(quantity, cell, unit, 1.0, part=part, quality=Quality.MEASURED)
        assert isinstance(found, Reading) or found.reason


@pytest.mark.parametrize(
    ("cell", "unit", "expected"),
    [
        ("91.3", "W", 91.3),
        ("91 W", "W", 91.0),
        ("1500mW", "W", 1.5),
        ("-", "W", "the tool prints '-'"),
        ("N/A", "W", "the tool prints 'N/A'"),
        ("-1", "W", "the tool prints '-1', which cannot be"),
        ("12 C", "W", "the tool prints '12 C', which is not in watts"),
        ("about 5", "W", "the tool prints 'about 5', which is no number"),
        (True, "W", "the tool prints true"),
        ([1], "W", "the tool prints a list where a number was expected"),
        (float("nan"), "W", "the tool prints 'nan', which is no number"),
    ],
)
def test_what_a_cell_means(cell: object, unit: str, expected: float | str) -> None:
    found = measured(P, cell, unit, 1.0, quality=Quality.MEASURED)
    assert (found.value if isinstance(found, Reading) else found.reason) == expected


def test_a_share_of_more_than_all_is_none() -> None:
    found = measured(U, "655%", "%", 1.0, quality=Quality.MEASURED)
    assert isinstance(found, Unavailable)


@given(text=st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_line_of_the_kernel_is_a_fault_or_none(text: str) -> None:
    fault_in(text, 1.0)
    fault_in(f"NVRM: Xid (PCI:{text}): 79, x", 1.0)
    found = fault_in(f"NVRM: Xid (PCI:0000:3b:00): 79, {text}", 1.0)
    assert found is not None
    assert (found.kind, found.code, found.bus_id) == ("xid", 79, "0000:3b:00.0")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus.", ("xid", 79, "0000:3b:00.0")),
        ("NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.", ("lost", 79, "0000:3b:00.0")),
        ("nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 12028, Non-fatal", ("sxid", 12028, "0000:c1:00.0")),
        ("usb 1-1: new high-speed device", None),
    ],
)
def test_lines_of_the_kernel(line: str, expected: tuple[str, int, str] | None) -> None:
    found = fault_in(line, 1.0)
    assert (found and (found.kind, found.code, found.bus_id)) == expected
    assert bus_id("00000000:3B:00.0") == "0000:3b:00.0"


@given(found=JSON)
@settings(max_examples=200, deadline=None)
def test_any_packed_thing_is_unpacked_or_refused(found: Any) -> None:
    for unpack in (
        unpacked_device,
        unpacked_event,
        unpacked_topology,
        lambda row: unpacked_row(row, QUANTITIES[Group.EVENTS], 1.0, Quality.MEASURED),
    ):
        for candidate in (found, [found, found], {"uuid": found}):
            with contextlib.suppress(ValueError):
                unpack(candidate)


def test_a_spec_without_health_has_none() -> None:
    spec = replace(SPECS["ascend"], health=None)
    cards = cards_of(spec, SOUND["ascend"])
    assert Quantity.VENDOR_HEALTH not in readings_of(spec, cards[0], 1.0)


# ---- the command -----------------------------------------------------------------------------------------------------


def script(directory: Path, text: str) -> str:
    path = directory / "tool"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_command_that_hangs_is_asked_to_end_and_not_started_twice(tmp_path: Path) -> None:
    started = tmp_path / "started"
    tool = ToolRun([script(tmp_path, f"trap '' TERM\necho x >> {started}\nexec sleep 30\n")], 0.3)
    with pytest.raises(ToolFailed, match=r"has not answered within 0\.3 s"):
        tool.output()
    with pytest.raises(ToolFailed, match="has not ended for"):
        tool.output()
    assert started.read_text() == "x\n"
    hanging = tool._hanging
    assert hanging is not None
    hanging.kill()  # ours, and in no driver
    hanging.wait(5)
    tool.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo no driver; exit 9\n", "ended with 9: no driver"),
        ("yes | head -c 3000000\n", "printed more than 2 MiB"),
    ],
)
def test_a_command_that_fails_says_how(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match=said):
        ToolRun([script(tmp_path, text)], 5.0).output()


def test_a_command_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="cannot be run: No such file"):
        ToolRun([str(tmp_path / "none")], 5.0).output()


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    assert ToolRun([script(tmp_path, "printf '\\377a'\n")], 5.0).output() == "\ufffda"
