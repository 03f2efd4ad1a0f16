"""`suanli devices`: what it shows of each device, in what order, and how it goes on being shown."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from node_agent.devices.replay import ReplayDevices
from scheduler.cli import devices as verb
from scheduler.cli import watching
from scheduler.cli.device_listing import natural, power_text, read_listing, totals, used_milli
from scheduler.cli.root import root
from scheduler.errors import Unavailable
from tests.fakes.device_site import DeviceSite, device_site, told_device
from tests.fakes.shell_words import rows
from tests.unit.scheduler.cli.test_root import on_terminal, run_verb

if TYPE_CHECKING:
    from tests.fakes.device_site import Json

LOST = "NVML: GPU is lost"


@pytest.fixture
def site(home: Path) -> Iterator[DeviceSite]:
    with device_site(home) as served:
        yield served


def run(*argv: str) -> Result:
    return CliRunner().invoke(root, ["devices", *argv], prog_name="suanli")


def out(*argv: str) -> str:
    result = run(*argv)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def job(job_id: str, share_milli: int = 0) -> Json:
    return {"id": job_id, "tenant": "film-studio", "share_milli": share_milli}


def mixed() -> list[Json]:
    """Two real nodes and a simulated one."""
    return [
        told_device("edge-10", 0, jobs=[job("7", 250), job("9", 500)], values={"power_watts": 300.0}),
        told_device("edge-2", 1, silent={"power_watts": LOST, "clock_megahertz": LOST, "energy_joules": LOST}),
        told_device("edge-2", 0, jobs=[job("4")], values={"ecc_uncorrected_volatile": 2.0}),
        told_device("sim-0", 0, simulated=True, quality="simulated", values={"power_watts": 450.0}),
    ]


# ---- the table ---------------------------------------------------------------------------------------------------


def test_devices_are_told_with_what_they_do_and_say(site: DeviceSite) -> None:
    site.devices = mixed()
    header, *told, real, simulated = rows(out())
    assert header == ["NODE", "DEV", "MODEL", "USE", "JOBS", "UTIL", "MEMORY", "POWER", "TEMP", "CLOCK", "NOTE"]
    assert [row[:2] for row in told] == [["edge-2", "0"], ["edge-2", "1"], ["edge-10", "0"], ["sim-0", "0"]]
    shown = ["97%", "61.2 GiB / 80 GiB", "612 W", "61 C", "1755 MHz"]
    assert told[0] == ["edge-2", "0", "H100 SXM", "schedulable", "4", *shown, "ecc uncorrected volatile: 2"]
    assert told[1][4:] == ["-", "97%", "61.2 GiB / 80 GiB", "-", "61 C", "-", "-"]
    assert told[2][4] == "7:0.25 9:0.5"
    assert told[3][2] == "H100 SXM (simulated)"
    assert real == ["real: 3 devices; 1.75 used; 912 W (2 of them tell)"]
    assert simulated == ["simulated: 1 device; 0 used; 450 W"]


def test_a_recording_that_plays_is_never_a_real_device(site: DeviceSite) -> None:
    site.devices = [told_device(quality="replayed")]
    assert "H100 SXM (replayed)" in out()
    assert "real:" not in out()


def test_each_dash_has_its_reason(site: DeviceSite) -> None:
    site.devices = mixed()
    told = rows(out("--node", "edge-2", "--why"))
    assert told[2][-1] == f"no power watts, clock megahertz: {LOST}"
    document = json.loads(out("-o", "json", "--node", "edge-2"))
    assert document["schema"] == "suanli/devices/1"
    bad = document["devices"][1]
    at = document["fields"].index("power_watts")
    assert (bad["values"][at], bad["unavailable"]["power_watts"]) == (None, LOST)
    assert document["totals"]["real"]["watts_of"] == 1
    assert document["totals"]["simulated"]["watts"] is None


def test_a_value_without_a_reason_is_a_dash_too(site: DeviceSite) -> None:
    site.devices = [told_device(values={"power_watts": None})]
    assert rows(out("--why"))[1][-1] == "no power watts: not told"
    assert rows(out())[-1] == ["real: 1 device; 0 used; power -"]


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        (["--node", "edge-2"], ["edge-2/0", "edge-2/1"]),
        (["--model", "A100"], []),
        (["--site", "dongyang-subnode", "--node", "sim-0"], ["sim-0/0"]),
        (["--sort", "power"], ["edge-2/0", "sim-0/0", "edge-10/0", "edge-2/1"]),
        (["--sort", "jobs"], ["edge-2/0", "edge-10/0", "edge-2/1", "sim-0/0"]),
    ],
)
def test_filters_and_orders(site: DeviceSite, argv: list[str], found: list[str]) -> None:
    site.devices = mixed()
    listed = json.loads(out("-o", "json", *argv))["devices"]
    assert [f"{told['node']}/{told['index']}" for told in listed] == found


def test_the_unhealthy_are_those_that_health_keeps_work_from_or_that_are_away(site: DeviceSite) -> None:
    lost = "XID 79; restart the node (fallen-off-bus)"
    site.devices = [
        told_device("a", 0),
        told_device("a", 1, use="cordoned", reason=lost),
        told_device("b", 0, use="no_multi_device", reason="XID 74"),
        told_device("c", 0, node_state="down", read_at_s=None),
        told_device("d", 0, node_state="drained"),
    ]
    told = rows(out("--unhealthy"))
    assert [row[3] for row in told[1:-1]] == ["cordoned", "no multi device", "down"]
    assert told[1][-1] == lost
    assert told[-1] == ["real: 3 devices, 3 not schedulable; 0 used; 1.84 kW"]
    assert [row[3] for row in rows(out())[1:-1]][-1] == "drained"


def test_named_fields_take_the_place_of_the_usual_ones(site: DeviceSite) -> None:
    site.devices = [told_device(values={"link_crc_errors": 3.0}, silent={"temperature_celsius": "none"})]
    header, row, _ = rows(out("--field", "link_crc_errors,temperature_celsius", "--field", "energy_joules"))
    assert header[5:] == ["LINK-CRC-ERRORS", "TEMPERATURE-CELSIUS", "ENERGY-JOULES", "NOTE"]
    assert row[5:] == ["3", "-", "123 MJ", "-"]
    assert "fields=link_crc_errors%2Ctemperature_celsius%2Cenergy_joules%2Cpower_watts" in site.asked[-1]


def test_old_readings_tell_their_age(site: DeviceSite) -> None:
    site.at_s = 1_800_000_000.0 + 95
    assert rows(out())[1][-1] == "read 1m ago"


def test_what_was_left_out_is_said(site: DeviceSite) -> None:
    site.truncated = True
    assert out().splitlines()[-1].startswith("there are more than these; narrow it down")


def test_a_name_cannot_steer_the_terminal(site: DeviceSite) -> None:
    site.devices = [told_device("磁\x1b[2J", 0, model="a\nb"), told_device("plain", 0)]
    text = out()
    assert "\x1b" not in text
    assert len(text.splitlines()) == 4


def test_reading_devices_loads_nothing_heavy(site: DeviceSite) -> None:
    assert run_verb("devices")[-2:] == ["code 0", "loaded"]


@pytest.mark.parametrize("columns", [80, 120])
def test_devices_fit_the_terminal(site: DeviceSite, columns: int) -> None:
    site.devices = [told_device("dongyang-h100-0", 7, simulated=True, use="cordoned", reason="a long reason " * 9)]
    lines = on_terminal(columns, "devices")
    assert max(len(line) for line in lines) <= columns
    assert "(simulated)" in " ".join(" ".join(lines).split())


# ---- what cannot be ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["--field", "power_watts,,"], 2, "--field: names of readings, separated by commas"),
        (["--sort", "colour"], 2, "'colour' is not one of"),
        (["-w", "0"], 2, "0 is not in the range"),
        (["-w", "soon"], 2, "soon"),
        (["--unhealthy", "record", "x"], 2, "--unhealthy is about the list of devices"),
    ],
)
def test_wrong_usage_is_said(site: DeviceSite, argv: list[str], code: int, said: str) -> None:
    result = run(*argv)
    assert result.exit_code == code
    assert said in result.stderr


def test_a_field_that_nobody_knows_is_refused_in_the_services_words(site: DeviceSite) -> None:
    site.refused["/v1/devices"] = (422, "bad_input", "fields: there is no reading 'colour'")
    result = run("--field", "colour")
    assert (result.exit_code, result.stderr) == (2, "suanli: fields: there is no reading 'colour'\n")


@pytest.mark.parametrize("body", [b"[]", b'{"devices": 3}', b"\xff", b'{"at_s": 1, "fields": [], "devices": [{}]}'])
def test_an_answer_of_another_version_is_told_as_such(body: bytes) -> None:
    with pytest.raises(Unavailable, match="another version"):
        read_listing(body)


def test_values_without_fields_are_refused() -> None:
    device = {key: value for key, value in told_device().items() if key != "told"} | {"values": [1.0]}
    body = json.dumps({"at_s": 1.0, "fields": [], "devices": [device], "truncated": False}).encode()
    with pytest.raises(Unavailable, match="not as many values"):
        read_listing(body)


# ---- sums and words ----------------------------------------------------------------------------------------------


def test_no_device_is_used_more_than_once() -> None:
    device = {key: value for key, value in told_device().items() if key != "told"} | {"values": []}
    device["jobs"] = [job("1", 700), job("2", 700)]
    listing = read_listing(json.dumps({"at_s": 1.0, "fields": [], "devices": [device], "truncated": False}).encode())
    assert used_milli(listing.devices[0]) == 1000
    assert totals(listing).real.watts is None


def test_numbers_in_names_count() -> None:
    names = ["n10", "n2", "10", "9", "n", "n2b"]
    assert sorted(names, key=natural) == ["9", "10", "n", "n2", "n2b", "n10"]


@pytest.mark.parametrize(("watts", "said"), [(0, "0 W"), (999.4, "999 W"), (7_030, "7.03 kW"), (1.31e6, "1.31 MW")])
def test_power_in_words(watts: float, said: str) -> None:
    assert power_text(watts) == said


# ---- again and again ---------------------------------------------------------------------------------------------


class Sleeps:
    """Instead of waiting: what happens meanwhile, in turn; then ctrl-C."""

    def __init__(self, *meanwhile: Any) -> None:
        self._meanwhile = list(meanwhile)

    def __call__(self, _seconds: float) -> None:
        if not self._meanwhile:
            raise KeyboardInterrupt
        self._meanwhile.pop(0)()


def watched(monkeypatch: pytest.MonkeyPatch, *meanwhile: Any) -> None:
    monkeypatch.setattr(watching.time, "sleep", Sleeps(*meanwhile))
    monkeypatch.setattr(watching.watch, "__kwdefaults__", {"sleep": watching.time.sleep})


def test_in_a_pipe_blocks_follow_one_another(site: DeviceSite, monkeypatch: pytest.MonkeyPatch) -> None:
    watched(monkeypatch, lambda: site.devices.append(told_device("later", 0)))
    first, second = out("-w").split("\n\n")
    assert "later" not in first
    assert rows(second)[1][0] == "NODE"
    assert "later" in second
    assert "\x1b" not in first + second


def test_watched_as_json_it_is_a_document_a_line(site: DeviceSite, monkeypatch: pytest.MonkeyPatch) -> None:
    watched(monkeypatch, lambda: None)
    assert [json.loads(line)["schema"] for line in out("-w", "5", "-o", "json").splitlines()] == [
        "suanli/devices/1"
    ] * 2


def test_a_service_that_is_away_is_asked_again(site: DeviceSite, monkeypatch: pytest.MonkeyPatch) -> None:
    watched(monkeypatch, site.gone, lambda: None, site.back)
    result = run("-w")
    assert result.exit_code == 0
    assert result.stdout.count("NODE") == 2
    assert len(result.stderr.splitlines()) == 2
    assert "Suanli service" in result.stderr or "the service" in result.stderr


def test_a_token_that_is_known_no_more_ends_it(site: DeviceSite, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = {"/v1/devices": (401, "unauthenticated", "the token is not known here")}
    watched(monkeypatch, lambda: site.refused.update(refusal))
    result = run("-w")
    assert (result.exit_code, result.stderr) == (3, "suanli: the token is not known here\n")


def test_ctrl_c_ends_it_without_a_word(site: DeviceSite) -> None:
    argv = [sys.executable, "-m", "scheduler.cli", "devices", "-w", "0.2"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
    assert process.stdout is not None
    while not process.stdout.readline().startswith(b"real"):
        pass
    process.send_signal(signal.SIGINT)
    _out, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, b"")


def test_on_a_terminal_one_screenful_takes_the_place_of_the_last(
    site: DeviceSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr(watching.shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((80, 12)))
    site.devices = [told_device("edge", index) for index in range(30)]
    wanted = verb.Wanted({}, None, False, "node", False, "table")
    body = json.dumps(site._listing({})).encode()
    watching.watch(2.0, lambda: body, lambda told: verb.show(wanted, told), in_place=True, sleep=Sleeps(lambda: None))
    first, second = capsys.readouterr().out.split(watching.HOME)[1:]
    for screen in (first, second):
        lines = screen.split("\r\n")
        assert len(lines) == 12
        assert re.match(r"2\d more lines: narrow it down", lines[-3])
        assert lines[-2].startswith("real: 30 devices")
        assert screen.endswith(watching.CLEAR_REST_OF_SCREEN)
    assert "ctrl-C ends it" in first


# ---- record ------------------------------------------------------------------------------------------------------


def test_a_recording_can_be_played_back(tmp_path: Path) -> None:
    path = tmp_path / "incident.jsonl"
    said = out("record", str(path), "--seconds", "0.05", "--source", "cpu")
    assert f'devices: ["replay:{path}"]' in said
    assert ReplayDevices(path).enumerate()
    assert run("record", str(path), "--source", "cpu").exit_code == 5
    assert "is there already" in run("record", str(path), "--source", "cpu").stderr
    out("record", str(path), "--seconds", "0.05", "--source", "cpu", "--replace")


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["{dir}"], 2, "is a directory"),
        (["{dir}/nowhere/r"], 2, "there is no directory"),
        (["{dir}/r", "--source", "gpu"], 6, "unknown device source 'gpu'"),
        (["{dir}/r", "--seconds", "0"], 2, "0 is not in the range"),
    ],
)
def test_what_cannot_be_recorded_is_said(tmp_path: Path, argv: list[str], code: int, said: str) -> None:
    result = run("record", *(part.format(dir=tmp_path) for part in argv))
    assert result.exit_code == code
    assert said in result.stderr
    assert not (tmp_path / "r").exists()


def test_ctrl_c_keeps_what_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    argv = [sys.executable, "-m", "scheduler.cli", "devices", "record", str(path), "--source", "cpu"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
    try:
        until = threading.Event()
        for _ in range(3_000):
            if path.exists() and b'"read"' in path.read_bytes():
                break
            until.wait(0.01)
        process.send_signal(signal.SIGINT)
        told, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, said) == (0, b"")
    assert b"to play it back" in told
    assert ReplayDevices(path).enumerate()
