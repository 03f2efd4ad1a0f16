"""What an agent keeps of runs and tells of them beside events: logs, metrics, what their devices used."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from node_agent import housekeeping
from node_agent.execution.logs import NoSuchLog
from node_agent.messages import (
    Forget,
    Started,
)
from tests.fakes.agent_rig import Listener, alone, condition, key, on_agent, spec

# ---- logs ------------------------------------------------------------------------------------------------------------

CHATTER = "i=0; while [ $i -lt 4000 ]; do printf '%01023d\\n' $i; i=$((i+1)); done; echo the end >&2; exec sleep 300"


def test_a_log_is_capped_while_its_run_goes_on_writing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "CAP_PERIOD_S", 0.05)
    cap, run = 256 << 10, place / "state" / "runs" / "1" / "attempt-1" / "worker-0"

    def kept() -> int:
        beside = [each for each in run.iterdir() if "stdout" in each.name]
        return sum(each.stat().st_blocks * 512 for each in beside)

    async def scene(a: Listener) -> None:
        await a.perform([alone(key(), spec(CHATTER, log_cap_bytes=cap))])
        await a.until(Started)
        await condition(lambda: (run / "stderr").stat().st_size and kept() <= cap + 4096, "the cap")
        data, offset, skipped = b"", 0, 0
        while (chunk := await a.host.read_log("1", 1, 0, "stdout", offset, 1 << 20)).data:
            data, offset, skipped = data + chunk.data, chunk.next_offset, skipped + chunk.skipped
        assert (offset, len(data) + skipped) == (4000 * 1024, 4000 * 1024)
        assert skipped > 3 << 20
        assert data.startswith(b"0" * 1023 + b"\n")
        assert data.endswith(b"%01023d\n" % 3999)

    on_agent(place, scene)


def test_a_run_that_is_over_before_anybody_looked_is_capped_at_its_end(place: Path) -> None:
    run = place / "state" / "runs" / "1" / "attempt-1" / "worker-0"

    async def scene(a: Listener) -> None:
        await a.run(spec("head -c 3000000 /dev/zero | tr '\\0' x", log_cap_bytes=256 << 10))
        await condition(lambda: (run / "stdout").stat().st_blocks * 512 <= 256 << 10)

    on_agent(place, scene)


def test_files_of_forgotten_runs_are_removed_and_of_others_not(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "CAP_PERIOD_S", 0.05)
    monkeypatch.setattr(housekeeping, "RETENTION_PERIOD_S", 0.05)
    monkeypatch.setattr(housekeeping, "FIRST_RETENTION_S", 0.05)
    runs = place / "state" / "runs"

    async def scene(a: Listener) -> None:
        for job in ("1", "2"):
            await a.run(spec("echo hello", log_keep_s=0.2), key(job))
        await a.perform([Forget(1, key("1"))])
        await condition(lambda: not (runs / "1").exists(), "the end of what was kept")
        assert (await a.host.read_log("2", 1, 0, "stdout", 0, 100)).data == b"hello\n"
        with pytest.raises(NoSuchLog):
            await a.host.read_log("1", 1, 0, "stdout", 0, 100)

    on_agent(place, scene)


# ---- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_are_served_with_who_holds_each_device(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = place / "token"
    token.write_text("suanli_0123456789abcdef")
    token.chmod(0o600)
    monkeypatch.setenv("SUANLI_NODE_METRICS", "127.0.0.1:0")
    monkeypatch.setenv("SUANLI_NODE_METRICS_TOKEN", str(token))

    async def scene(a: Listener) -> None:
        await a.perform([alone(key(), spec("exec sleep 30", device_indices=(0,)))])
        await a.until(Started, key())
        assert a.host._door is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", a.host._door.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nAuthorization: Bearer suanli_0123456789abcdef\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        assert text.startswith("HTTP/1.1 200 OK")
        held = [line for line in text.splitlines() if 'job_id="1",tenant="studio"' in line]
        assert any(line.startswith("suanli_device_memory_used_bytes") for line in held)
        assert 'suanli_node_devices_found{node="s1"} 2.0' in text

    on_agent(place, scene)


def test_a_door_that_cannot_be_opened_is_a_note_and_stops_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUANLI_NODE_METRICS", "127.0.0.1:0")

    async def scene(a: Listener) -> None:
        hello = await a.hello(1)
        assert any("no metrics are served here" in note for note in hello.nodes[0].notes)

    on_agent(place, scene)


def test_a_runs_end_tells_what_its_devices_used(place: Path) -> None:
    async def scene(a: Listener) -> None:
        simulated = await a.run(spec("sleep 0.3", device_indices=(0, 1)), key("1", node="s1"))
        assert simulated.use is not None
        assert (simulated.use.devices, simulated.use.simulated) == (2, True)
        assert simulated.use.joules is not None
        assert simulated.use.joules > 0
        shared = await a.run(spec("true", share_milli=250), key("2", node="s1"))
        on_cpu = await a.run(spec("true"), key("3"))
        assert (shared.use, on_cpu.use) == (None, None)

    on_agent(place, scene)
