"""The live view at work: keys, panes, orders, and a service that goes away. On a screen that nobody sees, against a
fake site; the last tests end the real command on a real terminal."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from textual.pilot import Pilot

from scheduler.cli.client import Client
from scheduler.cli.root import root
from scheduler.cli.top import orders, verb
from scheduler.cli.top.app import Arrived, Top
from scheduler.cli.top.dialogs import Box
from scheduler.cli.top.feed import Failed
from scheduler.errors import BadInput, Unavailable
from tests.fakes.control_views import job_view, worker_view
from tests.fakes.device_site import DeviceSite, device_site, large_site, told_device
from tests.fakes.service_views import service_view

Script = Callable[[Pilot[int], Top], Awaitable[None]]
PATIENCE_S = 20.0


@pytest.fixture
def site(home: Path) -> Iterator[DeviceSite]:
    with device_site(home) as served:
        served.devices = [
            told_device("edge-10", 0, values={"power_watts": 300.0, "utilisation_percent": 50.0}),
            told_device("edge-2", 0, jobs=[{"id": "7", "tenant": "film-studio", "share_milli": 0}]),
            told_device("edge-2", 1, use="cordoned", reason="XID 79", silent={"power_watts": "NVML: GPU is lost"}),
            told_device("sim-0", 0, simulated=True, quality="simulated"),
        ]
        running = job_view("7", name="磁材仿真", state="running", reason=None, workers=[worker_view(0, "edge-2", [0])])
        served.jobs = [running, job_view("8", name="waits"), job_view("9", name="waits-too")]
        served.services = [service_view("detect"), service_view("speak", state="starting", replicas_ready=0)]
        yield served


def view(script: Script, *, pane: str = "nodes", size: tuple[int, int] = (160, 40), every_s: float = 3600.0) -> Top:
    """Run the script once the pane has its rows. Nothing is asked again but by a key, unless `every_s` says so."""
    app = Top(Client.from_env, every_s=every_s, pane=pane)

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: bool(app.grid.pane.rows or app.grid.pane.problem))
            await script(pilot, app)

    asyncio.run(run())
    return app


async def until(pilot: Pilot[int], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, screen(pilot.app)
        await pilot.pause(0.005)


def screen(app: object) -> str:
    """The text that stands on the screen, line by line."""
    assert isinstance(app, Top)
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


def first_cells(app: Top) -> list[str]:
    pane = app.grid.pane
    return [pane.fields[0].cell(row) for row in pane.rows]


# ---- panes -------------------------------------------------------------------------------------------------------


def test_each_pane_shows_what_is_its_own(site: DeviceSite) -> None:
    async def script(pilot: Pilot[int], app: Top) -> None:
        assert first_cells(app) == ["edge-2", "edge-10", "sim-0"]
        shown = screen(app)
        assert "real       2 nodes, 3 devices" in shown
        await until(pilot, lambda: "simulated  1 node, 1 device " in screen(app))
        assert "1/2" in shown
        await pilot.press("tab")
        assert [(row.node, row.index) for row in app.grid.pane.rows] == [
            ("edge-2", 0),
            ("edge-2", 1),
            ("edge-10", 0),
            ("sim-0", 0),
        ]
        shown = screen(app)
        assert shown.count(" sim ") == 1
        assert "cordoned" in shown
        assert "XID 79" in shown
        await pilot.press("3")
        await until(pilot, lambda: app.grid.pane.at_s is not None)
        assert first_cells(app) == ["7", "8", "9"]
        await until(pilot, lambda: "1 running, 2 pending" in screen(app))
        names = {line.index("film-studio") for line in screen(app).splitlines() if "film-studio" in line}
        assert len(names) == 2  # columns of characters: the Chinese name has four fewer of them, and as many cells
        await pilot.press("t")
        await until(pilot, lambda: app.grid.pane.at_s is not None)
        assert first_cells(app) == ["detect", "speak"]
        await pilot.press("shift+tab")
        assert app.grid.pane.name == "queue"

    view(script)


def test_keys_sort_search_and_filter(site: DeviceSite) -> None:
    async def script(pilot: Pilot[int], app: Top) -> None:
        pane = app.grid.pane
        await pilot.press("greater_than_sign")
        assert [field.title for field in pane.fields][-4] == "POWER"
        await pilot.press("up", "up", "up", "up", "enter")
        assert [row.values[3] for row in pane.rows] == [612.0, 612.0, 300.0, None]
        await pilot.press("I")
        assert [row.values[3] for row in pane.rows] == [300.0, 612.0, 612.0, None]
        await pilot.press("f4", *"edge", "space", *"!co")
        assert len(pane.rows) == 2
        await pilot.press("enter")
        assert "filter: edge !co" in screen(app)
        assert "(filtered of 4)" in screen(app)
        await pilot.press("backslash", "escape")
        assert len(pane.rows) == 4
        await pilot.press("slash", *"si", "enter")
        assert pane.chosen.node == "sim-0"
        await pilot.press("slash", *"-2", "enter")
        found = [pane.chosen]
        await pilot.press("n")
        found.append(pane.chosen)
        await pilot.press("f3", "f3")
        found.append(pane.chosen)
        assert [row.node for row in found] == ["edge-2"] * 3
        assert found[0] is not found[1]
        await pilot.press(*"zz")
        assert "nothing here has 'zz'" in screen(app)

    view(script, pane="devices")


def test_the_field_keeps_letters_that_are_keys_elsewhere(site: DeviceSite) -> None:
    async def script(pilot: Pilot[int], app: Top) -> None:
        await pilot.press("f4", *"qkdp", "tab")
        assert app.is_running
        assert app.grid.pane.wanted == "qkdp"
        assert app.grid.pane.name == "nodes"
        assert "nothing here matches 'qkdp'" in screen(app)

    view(script)


def test_details_say_everything_with_the_reason_of_each_silence(site: DeviceSite) -> None:
    async def script(pilot: Pilot[int], app: Top) -> None:
        await pilot.press("down", "enter")
        await until(pilot, lambda: "NVML: GPU is lost" in screen(app))
        await pilot.press("escape", "1", "enter")
        await until(pilot, lambda: "address" in screen(app))
        assert "no readings" in screen(app)
        await pilot.press("q", "3")
        await until(pilot, lambda: app.grid.pane.at_s is not None)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "1 node: 0 of 2 devices free" in screen(app))
        await pilot.press("escape", "4")
        await until(pilot, lambda: app.grid.pane.at_s is not None)
        await pilot.press("enter")
        await until(pilot, lambda: "by its load, 0 to 4" in screen(app))
        await pilot.press("enter", "h")
        assert "stand still, and go on" in screen(app)
        site.refused["/v1/jobs/8/why"] = (404, "not_found", "there is no job 8")
        await pilot.press("escape", "3", "enter")
        await until(pilot, lambda: "there is no job 8" in screen(app))

    view(script, pane="devices")


def test_narrow_terminals_shed_columns(site: DeviceSite) -> None:
    async def script(pilot: Pilot[int], app: Top) -> None:
        lines = screen(app).splitlines()
        assert all(len(line) <= 60 for line in lines)
        titles = next(line for line in lines if line.startswith("NODE"))
        assert "KIND" in titles
        assert "CLOCK" not in titles
        await pilot.resize_terminal(200, 40)
        await until(pilot, lambda: "CLOCK" in screen(app))

    view(script, pane="devices", size=(60, 12))


def test_a_screen_with_no_room_at_all_ends_nothing(site: DeviceSite) -> None:
    async def script(pilot: Pilot[int], app: Top) -> None:
        await pilot.press("2", "greater_than_sign", "escape", "d", "escape", "end", "pageup", "slash", "x", "escape")
        await pilot.resize_terminal(1, 1)
        await pilot.press("tab", "home")
        assert app.is_running

    view(script, size=(20, 4))


# ---- orders ------------------------------------------------------------------------------------------------------


def test_a_job_is_cancelled_after_a_yes_and_not_before(site: DeviceSite) -> None:
    async def script(pilot: Pilot[int], app: Top) -> None:
        await pilot.press("down", "k")
        assert "Cancel job 8 (waits) of film-studio, which is pending?" in screen(app)
        await pilot.press("enter", "k", "escape", "k", "n")
        assert site.posted == []
        await pilot.press("k", "y")
        await until(pilot, lambda: "job 8 (waits): cancelled" in screen(app))
        assert site.posted == [("/v1/jobs/cancel", {"ids": ["8"], "reason": orders.REASON})]
        await until(pilot, lambda: "cancelled" in [row.state for row in app.grid.pane.rows])  # asked at once

    view(script, pane="queue")


def test_the_job_on_a_device_can_be_cancelled_there(site: DeviceSite) -> None:
    site.refused["/v1/jobs/cancel"] = (403, "forbidden", "a viewer cancels nothing")

    async def script(pilot: Pilot[int], app: Top) -> None:
        await pilot.press("end", "k")
        assert "a job is cancelled in the queue's pane" in screen(app)
        await pilot.press("home", "k", "y")
        await until(pilot, lambda: "a viewer cancels nothing" in screen(app))
        assert site.posted == []

    view(script, pane="devices")


def test_a_node_is_drained_with_a_reason_and_not_without(site: DeviceSite) -> None:
    async def script(pilot: Pilot[int], app: Top) -> None:
        await pilot.press("down", "d", "enter")
        assert "say why" in screen(app)
        await pilot.press("escape", "d", *"fan", "enter")
        await until(pilot, lambda: "node edge-10 is draining" in screen(app))
        assert site.posted == [("/v1/nodes/edge-10/drain", {"reason": "fan"})]
        await pilot.press("3", "d")
        await until(pilot, lambda: "a node is drained in the pane of nodes" in screen(app))

    view(script)


# ---- news --------------------------------------------------------------------------------------------------------


def test_a_service_that_goes_away_leaves_what_is_known_with_its_age(site: DeviceSite) -> None:
    async def script(pilot: Pilot[int], app: Top) -> None:
        site.gone()
        await until(pilot, lambda: "NO ANSWER, what is shown is" in screen(app))
        assert first_cells(app) == ["edge-2", "edge-10", "sim-0"]
        await pilot.press("down")
        assert app.is_running
        site.devices.append(told_device("new-0", 0))
        site.back()
        await until(pilot, lambda: "new-0" in screen(app) and "NO ANSWER" not in screen(app))

    view(script, every_s=0.1)


def test_a_service_that_was_never_there_is_waited_for(site: DeviceSite) -> None:
    site.gone()

    async def script(pilot: Pilot[int], app: Top) -> None:
        await until(pilot, lambda: "NO ANSWER, nothing is known yet" in screen(app))
        site.back()
        await until(pilot, lambda: "edge-10" in screen(app))

    view(script, every_s=0.1)


def test_what_arrives_after_the_end_is_dropped(site: DeviceSite) -> None:
    async def script(pilot: Pilot[int], app: Top) -> None:
        pass

    view(script).on_arrived(Arrived(Failed("devices", Unavailable("nobody answers"), 0.0)))


def test_what_is_refused_is_said_and_the_rest_is_shown(site: DeviceSite) -> None:
    site.refused["/v1/status"] = (403, "forbidden", "a tenant sees its own")
    site.refused["/v1/services"] = (403, "forbidden", "no services for you")

    async def script(pilot: Pilot[int], app: Top) -> None:
        assert "a tenant sees its own" not in screen(app)
        await pilot.press("4")
        await until(pilot, lambda: screen(app).count("no services for you") == 2)
        assert "NO ANSWER" not in screen(app)

    view(script)


def test_while_it_stands_still_nothing_is_asked(site: DeviceSite) -> None:
    async def script(pilot: Pilot[int], app: Top) -> None:
        await pilot.press("p")
        await until(pilot, lambda: "STANDS STILL" in screen(app))
        site.devices = [told_device("other", 0)]
        await pilot.press("r")
        await pilot.pause(0.05)
        assert first_cells(app) == ["edge-2", "edge-10", "sim-0"]
        await pilot.press("space")
        await until(pilot, lambda: first_cells(app) == ["other"])

    view(script)


def test_ten_thousand_devices_are_never_all_drawn(site: DeviceSite) -> None:
    large_site(site, jobs=0)

    async def script(pilot: Pilot[int], app: Top) -> None:
        grid = app.grid
        assert len(grid.pane.rows) == 10_000
        told_s, grid.drawn = grid.pane.at_s, 0
        await pilot.press("r")
        await until(pilot, lambda: grid.pane.at_s != told_s)
        await pilot.pause()
        assert 0 < grid.drawn <= 6 * grid.page
        grid.drawn = 0
        await pilot.press("end", "pageup")
        assert 0 < grid.drawn <= 6 * grid.page
        assert grid.pane.cursor == 9_999 - grid.page
        assert f"of {10_000:,}" in screen(app)

    view(script, pane="devices")


def test_a_bug_ends_it_and_is_handed_on(site: DeviceSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(orders, "job_details", broken)
    apps: list[Top] = []

    async def script(pilot: Pilot[int], app: Top) -> None:
        apps.append(app)
        await pilot.press("enter")
        await until(pilot, lambda: app.failure is not None)

    with pytest.raises(ZeroDivisionError):
        view(script, pane="queue")
    assert isinstance(apps[0].failure, ZeroDivisionError)


def test_what_came_to_be_known_after_the_box_was_closed_is_forgotten() -> None:
    box = Box("job 7", "asking ...")
    box.tell("it runs")


# ---- ends --------------------------------------------------------------------------------------------------------


def test_without_a_terminal_it_says_what_to_use(site: DeviceSite) -> None:
    result = CliRunner().invoke(root, ["top"], prog_name="suanli")
    assert result.exit_code == 2
    assert "`suanli devices`" in result.stderr


@pytest.mark.parametrize("term", ["", "dumb"])
def test_a_terminal_that_cannot_be_drawn_on_is_refused(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    for stream in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(f"sys.{stream}", Terminal())
    monkeypatch.setenv("TERM", term)
    with pytest.raises(BadInput, match="cannot be drawn on; `suanli devices`"):
        verb.need_terminal()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("how", "code"), [("q", 0), ("ctrl-c", 0), ("sigterm", 143)])
def test_it_gives_the_terminal_back(site: DeviceSite, how: str, code: int) -> None:
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    before = termios.tcgetattr(terminal)
    process = subprocess.Popen(
        [sys.executable, "-m", "scheduler.cli", "top"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "1"},
        start_new_session=True,
    )
    shown = b""
    try:
        while b"edge-10" not in shown:
            shown += os.read(controller, 65536)
        assert termios.tcgetattr(terminal) != before
        match how:
            case "q":
                os.write(controller, b"q")
            case "ctrl-c":
                os.write(controller, b"\x03")
            case _:
                process.send_signal(signal.SIGTERM)
        os.set_blocking(controller, False)
        deadline = time.monotonic() + PATIENCE_S
        while process.poll() is None and time.monotonic() < deadline:
            try:
                shown += os.read(controller, 65536)
            except BlockingIOError:
                time.sleep(0.005)
        assert process.wait(PATIENCE_S) == code
        try:
            shown += os.read(controller, 65536)
        except BlockingIOError:
            pass
        assert termios.tcgetattr(terminal) == before
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
        os.close(controller)
    assert b"\x1b[?1049h" in shown
    assert shown.rindex(b"\x1b[?1049l") > shown.rindex(b"\x1b[?1049h")
    assert b"Traceback" not in shown
