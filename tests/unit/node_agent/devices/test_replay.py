"""What was recorded comes again: at its pace, with its faults and its silences, and never as a real device."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.devices.detect import detect
from node_agent.devices.nvml import NvmlDevices
from node_agent.devices.recording import Recorder, record
from node_agent.devices.replay import ReplayDevices
from node_agent.devices.source import (
    DeviceSourceError,
    Group,
    Quality,
    Quantity,
    Reading,
    Unavailable,
)
from node_agent.devices.visibility import hidden
from tests.fakes.fake_nvml import FakeCard, FakeNvml


def incident(path: Path) -> None:
    """Ten seconds of two cards, of which the first falls off the bus after five."""
    nvml = FakeNvml(FakeCard("GPU-a"), FakeCard("GPU-b"))
    source = NvmlDevices(nvml, drivers_list=path.parent / "none")
    with path.open("w") as out:
        recorder = Recorder(source, out)
        for second in range(10):
            nvml.cards[0].lost = second >= 5
            nvml.cards[1].milliwatts = 100_000 + 1000 * second
            recorder.step(5000.0 + second)
        out.write('{"events":[{"uuid":"GPU-a","kind":"xid","code":79,"text":"XID 79","at_s":5005.0,"heard":"driver"}],')
        out.write('"at_s":5005.0}\n')


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "incident.jsonl"
    incident(path)
    return path


def at(source: ReplayDevices, now_s: float, uuid: str) -> Reading | Unavailable:
    return source.read(now_s, (Group.FAST,))[uuid][Quantity.POWER_WATTS]


def clock(now_s: float) -> Callable[[], float]:
    return lambda: now_s


def test_an_incident_comes_again_at_its_own_pace(recording: Path) -> None:
    source = ReplayDevices(recording, clock=clock(90_000.0))
    first = at(source, 90_000.0, "GPU-b")
    assert first == Reading(100.0, "watts", 90_000.0, Quality.REPLAYED)
    assert isinstance(at(source, 90_004.5, "GPU-a"), Reading)
    lost = at(source, 90_006.0, "GPU-a")
    assert isinstance(lost, Unavailable)
    assert lost.reason.startswith("device lost")
    assert at(source, 90_007.5, "GPU-b") == Reading(107.0, "watts", 90_007.0, Quality.REPLAYED)
    assert at(source, 90_500.0, "GPU-b") == Reading(109.0, "watts", 90_500.0, Quality.REPLAYED)  # it stands still


def test_faults_come_once_when_it_is_their_time(recording: Path) -> None:
    source = ReplayDevices(recording, clock=clock(90_000.0))
    assert source.events(90_000.0) == []
    (event,) = source.events(90_008.0)
    assert (event.uuid, event.code, event.at_s) == ("GPU-a", 79, 90_005.0)
    assert source.events(90_009.0) == []


def test_in_a_loop_it_begins_again(recording: Path) -> None:
    source = ReplayDevices(recording, loop=True, clock=clock(90_000.0))
    assert source.lasts_s == 9.0
    assert isinstance(at(source, 90_000.0, "GPU-a"), Reading)
    source.events(90_008.0)
    assert isinstance(at(source, 90_008.0, "GPU-a"), Unavailable)
    assert isinstance(at(source, 90_010.0, "GPU-a"), Reading)
    assert len(source.events(90_016.0)) == 1


def test_nothing_that_was_played_back_is_real(recording: Path) -> None:
    source = ReplayDevices(recording, clock=clock(1.0))
    assert all(device.simulated for device in source.enumerate())
    assert source.visibility(source.enumerate()) == hidden()
    assert "played back from incident.jsonl" in source.topology().notes


def test_a_site_names_a_recording_among_its_sources(recording: Path) -> None:
    assert len(detect((f"replay:{recording}",)).enumerate()) == 2
    with pytest.raises(DeviceSourceError, match="cannot be read"):
        detect(("replay:/nowhere.jsonl",))


def test_recording_goes_on_for_as_long_as_it_is_told(tmp_path: Path) -> None:
    now = [100.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    source = NvmlDevices(FakeNvml(FakeCard("GPU-a")), drivers_list=tmp_path / "none")
    size = record(source, tmp_path / "r", 65.0, clock=lambda: now[0], sleep=sleep)
    lines = [json.loads(line) for line in (tmp_path / "r").read_text().splitlines()]
    assert size == (tmp_path / "r").stat().st_size
    counts = {group: sum(1 for line in lines if line.get("read") == group) for group in Group}
    assert counts == {Group.FAST: 65, Group.LINKS: 7, Group.CONDITION: 3, Group.EVENTS: 65}
    assert sum(1 for line in lines if "devices" in line) == 3


def test_a_recording_of_another_version_is_read_for_what_both_know(recording: Path) -> None:
    head, *rest = recording.read_text().splitlines()
    told = json.loads(head)
    told["groups"]["fast"][told["groups"]["fast"].index("power_watts")] = "power_of_the_future"
    told["groups"]["moods"] = ["joy"]
    recording.write_text("\n".join([json.dumps(told), *rest]) + "\n")
    source = ReplayDevices(recording, clock=clock(1.0))
    assert isinstance(at(source, 1.0, "GPU-b"), Unavailable)
    assert isinstance(source.read(1.0)["GPU-b"][Quantity.TEMPERATURE_CELSIUS], Reading)


def test_a_last_line_that_was_cut_off_is_lost_alone(recording: Path) -> None:
    recording.write_text(recording.read_text()[:-40])
    assert len(ReplayDevices(recording).enumerate()) == 2


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "has no device in it"),
        ("hello\n", "line 1: no recording"),
        ('{"recording":2}\n', "line 1: no recording: version 1 was expected, not '2'"),
        ('{"recording":1,"vendor":"x","groups":{}}\n[]\n', "line 2: no recording: a JSON object was expected"),
        ('{"recording":1,"vendor":"x","groups":{}}\n{"devices":[]}\n', "line 2: no recording: KeyError: 'at_s'"),
        ('{"recording":1,"vendor":"x","groups":{}}\n{"at_s":-1}\n', "a time of -1.0 cannot be"),
        (
            '{"recording":1,"vendor":"x","groups":{"fast":["power_watts"]}}\n{"at_s":1,"read":"fast","of":{"u":[]}}\n',
            "1 values were expected, not []",
        ),
        ('{"recording":1,"vendor":"x","groups":{}}\n{"at_s":1,"devices":[{"index":"a"}]}\n', "index cannot be 'a'"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_with_its_line(lines: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text(lines)
    with pytest.raises(DeviceSourceError) as caught:
        ReplayDevices(path)
    assert said in str(caught.value)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_a_recording_or_refused(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    if not (sound := path.with_suffix(".sound")).exists():
        incident(sound)
    text = sound.read_bytes()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 60)))
    path.write_bytes(text[:start] + data.draw(st.binary(max_size=20)) + text[end:])
    try:
        source = ReplayDevices(path)
    except DeviceSourceError:
        return
    for fields in source.read(1.0).values():
        assert all(isinstance(each, Reading | Unavailable) for each in fields.values())
