"""The live view itself: panes, keys, and what arrives from the feed.

All that takes long happens elsewhere (the feed's thread, a thread for each order); here answers are put into panes, and
the lines that are on the screen are drawn. Only the terminal's own sixteen colours are used.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input, Static

from scheduler.cli.client import Client
from scheduler.cli.device_listing import SiteTotals
from scheduler.cli.top import orders
from scheduler.cli.top.answers import Jobs, Status
from scheduler.cli.top.device_pane import details, device_pane
from scheduler.cli.top.dialogs import HELP, AskReason, Box, ChooseColumn, Confirm, TypedWords
from scheduler.cli.top.feed import SOURCES, DeviceNews, Failed, Feed, News
from scheduler.cli.top.grid import Grid
from scheduler.cli.top.header import Condition, header_lines
from scheduler.cli.top.look import CSS, FEW_KEYS, KEYS
from scheduler.cli.top.node_pane import node_pane, without_devices
from scheduler.cli.top.pane import Pane
from scheduler.cli.top.queue_pane import left_out, queue_pane
from scheduler.cli.top.service_pane import service_pane
from scheduler.errors import Forbidden, SuanliError, Unavailable

SAID_FOR_S = 12.0
# So often the header's devices are asked for while another pane is looked at, in intervals of the feed.
DEVICES_EVERY_S = 10.0


class Arrived(Message):
    def __init__(self, news: News) -> None:
        super().__init__()
        self.news = news


class Said(Message):
    """What an order came to; `then` is called with it where somebody waits for the text."""

    def __init__(self, said: str | Exception, then: Callable[[str], None] | None) -> None:
        super().__init__()
        self.said = said
        self.then = then


class Top(App[int]):
    """`client` makes a connection of its own for whoever asks. The app's result is the command's exit code."""

    ENABLE_COMMAND_PALETTE = False
    ESCAPE_TO_MINIMIZE = False
    CSS = CSS
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+c,ctrl+q", "leave", show=False, priority=True)]

    def __init__(
        self,
        client: Callable[[], Client],
        *,
        every_s: float = 2.0,
        pane: str = "nodes",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self.failure: Exception | None = None
        """A bug of ours that ended it."""
        self.panes: dict[str, Pane[Any]] = {
            pane.name: pane for pane in (node_pane(), device_pane(), queue_pane(), service_pane())
        }
        self.grid = Grid(self.panes[pane])
        self.totals: SiteTotals | None = None
        self.status = Status()
        self.devices: DeviceNews | None = None
        self._client = client
        self._clock = clock
        self._feed = Feed(client(), self._deliver, every_s=every_s, panes=self.panes)
        self._every_s = every_s
        self._lost: dict[str, str] = {}
        self._paused = False
        self._said = Text()
        self._said_s = float("-inf")
        self._typing = ""
        self._sought = ""

    # -- beginning and end -----------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Static(id="header")
        yield Static(id="tabs")
        yield self.grid
        yield TypedWords(id="typed", compact=True, select_on_focus=False)
        yield Static(id="said")
        yield Static(id="keys")

    def _deliver(self, news: News) -> None:
        self.post_message(Arrived(news))

    def on_mount(self) -> None:
        self.grid.focus()
        self.set_interval(1.0, self._frame)
        self._frame()
        self._feed.start(self._wanted())

    def on_unmount(self) -> None:
        self._feed.end()

    def action_leave(self) -> None:
        self.exit(0)

    def _fatal_error(self) -> None:
        """A bug ends the view without a word on the screen; who runs it looks at `failure`."""
        self.failure = self._exception
        self._close_messages_no_wait()

    # -- news ------------------------------------------------------------------------------------------------------

    def on_arrived(self, message: Arrived) -> None:
        if not (self.screen_stack and self.screen_stack[0].query("#header")):
            return  # the view is being taken down, and this came on its last way
        news = message.news
        if isinstance(news, Failed):
            self._failed(news)
            return
        self._lost.pop(news.kind, None)
        match news.value:
            case DeviceNews() as told:
                self.devices, self.totals = told, told.totals
                more = "and more; this is not all" if told.listing.truncated else told.old
                self.panes["devices"].more = more
            case Jobs() as jobs:
                self.panes["queue"].more = left_out(jobs)
            case Status() as status:
                self.status = status
        for name, rows in news.rows.items():
            self.panes[name].take(rows, news.at_s)
        if self.devices is not None:
            self.panes["nodes"].more = without_devices(self.status.nodes, self.devices.nodes)
        self._frame()
        if news.kind == SOURCES[self.grid.pane.name]:
            self.grid.show()

    def _failed(self, news: Failed) -> None:
        error = news.error
        if not isinstance(error, SuanliError):
            raise error
        if isinstance(error, Unavailable):
            self._lost[news.kind] = error.message
        elif news.kind == "status" and isinstance(error, Forbidden):
            return  # a tenant sees its own work, not the service's
        for name, kind in SOURCES.items():
            if kind == news.kind:
                self.panes[name].problem = error.message
                if not isinstance(error, Unavailable) and self.grid.pane.name == name:
                    self._say(error.message, well=False)
        self._frame()
        self.grid.show()

    def _wanted(self) -> dict[str, float]:
        """The pane's own source first, each time; devices, of which the header tells too, now and then."""
        return {"devices": DEVICES_EVERY_S} | {SOURCES[self.grid.pane.name]: 0.0} | {"status": 0.0}

    # -- the lines around the table --------------------------------------------------------------------------------

    def _frame(self) -> None:
        width = self.size.width
        told_s = self.grid.pane.at_s
        age_s = None if told_s is None else max(0.0, self._clock() - told_s)
        condition = Condition(self._every_s, age_s, next(iter(self._lost.values()), ""), self._paused)
        lines = header_lines(width, self.totals, self.status.jobs, self.status.nodes, condition)
        header = self.screen_stack[0].query_one("#header", Static)
        if header.styles.height is None or header.styles.height.value != len(lines):
            header.styles.height = len(lines)
        header.update(Text("\n").join(lines), layout=False)
        self._line("#tabs", self._tabs())
        if self._clock() - self._said_s > SAID_FOR_S:
            self._said = self._standing_word()
        self._line("#said", self._said)
        self._line("#keys", Text(KEYS if width >= len(KEYS) else FEW_KEYS, "dim"))

    def _line(self, which: str, text: Text) -> None:
        text.truncate(self.size.width, overflow="ellipsis")
        text.no_wrap = True
        self.screen_stack[0].query_one(which, Static).update(text, layout=False)

    def _tabs(self) -> Text:
        text = Text()
        for number, pane in enumerate(self.panes.values(), start=1):
            here = pane is self.grid.pane
            text.append(f" {number} {pane.title} ", "bold reverse" if here else "dim")
            text.append(" ")
        pane = self.grid.pane
        if pane.rows:
            first = pane.top + 1
            last = min(len(pane.rows), pane.top + self.grid.page)
            text.append(f" {first:,}-{last:,} of {len(pane.rows):,}")
            if len(pane.rows) < len(pane.items):
                text.append(f" (filtered of {len(pane.items):,})", "yellow")
        if pane.more:
            text.append(f" {pane.more}", "yellow")
        return text

    def _standing_word(self) -> Text:
        pane = self.grid.pane
        if pane.wanted:
            return Text(f"filter: {pane.wanted}   (F4 changes it)", "yellow")
        return Text()

    def _say(self, text: str, *, well: bool = True) -> None:
        self._said = Text(text, "" if well else "bold red")
        self._said_s = self._clock()
        self._frame()

    def on_resize(self, _event: events.Resize) -> None:
        self.call_after_refresh(self._redraw)

    def _redraw(self) -> None:
        self._frame()
        self.grid.show()

    # -- keys that move --------------------------------------------------------------------------------------------

    def action_pane(self, step: int) -> None:
        names = list(self.panes)
        self.action_go(names[(names.index(self.grid.pane.name) + step) % len(names)])

    def action_go(self, name: str) -> None:
        self.grid.show(self.panes[name])
        wanted = self._wanted()
        self._lost = {kind: why for kind, why in self._lost.items() if kind in wanted}
        self._feed.want(wanted)
        self._said_s = float("-inf")
        self._frame()

    def action_move(self, rows: int) -> None:
        self.grid.move(rows)
        self._line("#tabs", self._tabs())

    def action_page(self, pages: int) -> None:
        self.grid.turn_page(pages)
        self._line("#tabs", self._tabs())

    def action_end(self, last: bool) -> None:
        self.grid.to_end(last=last)
        self._line("#tabs", self._tabs())

    def action_turn_round(self) -> None:
        self.grid.pane.turn_round()
        self.grid.show()

    def action_sort(self) -> None:
        pane = self.grid.pane

        def chosen(at: int | None) -> None:
            if at is not None:
                pane.sort_by(at)
                self._redraw()

        self.push_screen(ChooseColumn([field.title for field in pane.fields], pane.sort), chosen)

    def action_pause(self) -> None:
        self._paused = not self._paused
        self._feed.pause(self._paused)
        self._frame()

    def action_now(self) -> None:
        self._feed.now()

    def action_help(self) -> None:
        self.push_screen(Box("keys", HELP))

    # -- search and filter -----------------------------------------------------------------------------------------

    def action_search(self) -> None:
        self._type("search", "")

    def action_search_on(self) -> None:
        if self._sought and not self.grid.pane.find(self._sought, after=self.grid.pane.cursor + 1):
            self._say(f"nothing here has {self._sought!r}", well=False)
        self._redraw()

    def action_filter(self) -> None:
        self._type("filter", self.grid.pane.wanted)

    def _type(self, what: str, text: str) -> None:
        self._typing = what
        field = self.query_one("#typed", Input)
        field.placeholder = "search" if what == "search" else "filter"
        with self.prevent(Input.Changed):
            field.value = text
        field.add_class("open")
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        pane = self.grid.pane
        if event.input.id != "typed":
            return
        if self._typing == "filter":
            pane.filter(event.value.strip())
        else:
            self._sought = event.value.strip()
            if self._sought and not pane.find(self._sought, after=pane.cursor):
                self._say(f"nothing here has {self._sought!r}", well=False)
        self._redraw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input.id == "typed":
            self._stop_typing()

    def action_keep_typed(self) -> None:
        self._stop_typing()

    def action_forget_typed(self) -> None:
        if self._typing == "filter":
            self.grid.pane.filter("")
        self._stop_typing()

    def _stop_typing(self) -> None:
        self._typing = ""
        self.query_one("#typed", Input).remove_class("open")
        self.grid.focus()
        self.call_after_refresh(self._redraw)

    # -- orders ----------------------------------------------------------------------------------------------------

    def on_grid_opened(self, _event: Grid.Opened) -> None:
        self.action_details()

    def action_details(self) -> None:
        pane, row = self.grid.pane, self.grid.pane.chosen
        if row is None:
            return
        if pane.name == "nodes":
            box = Box(f"node {row.name}", "asking ...")
            self._look_up(box, lambda client: orders.node_details(client, row.name))
        elif pane.name == "devices":
            assert self.devices is not None
            box = Box(f"{row.node}:{row.index}", orders.pairs_text(details(self.devices.listing, row)))
        elif pane.name == "queue":
            box = Box(f"job {row.id}", "asking ...")
            self._look_up(box, lambda client: orders.job_details(client, row.id))
        else:
            box = Box(f"service {row['tenant']}/{row['name']}", "asking ...")
            self._look_up(box, lambda client: orders.service_details(client, row["tenant"], row["name"]))
        self.push_screen(box)

    def _look_up(self, box: Box, work: Callable[[Client], str]) -> None:
        self._order(work, box.tell)

    def _order(self, work: Callable[[Client], str], then: Callable[[str], None] | None = None) -> None:
        def done(said: str | Exception) -> None:
            self.post_message(Said(said, then))

        orders.in_background(lambda: work(self._client()), done)

    def on_said(self, message: Said) -> None:
        if message.then is not None:
            said = message.said if isinstance(message.said, str) else orders.told(message.said)[0]
            message.then(said)
            return
        text, well = orders.told(message.said)
        self._say(text, well=well)
        self._feed.now()

    def action_cancel(self) -> None:
        pane, row = self.grid.pane, self.grid.pane.chosen
        if row is None:
            return
        if pane.name == "queue":
            job_id, named = row.id, f"{row.id} ({row.name}) of {row.tenant}, which is {row.state}"
        elif pane.name == "devices" and len(row.jobs) == 1:
            job = row.jobs[0]
            job_id, named = job.id, f"{job.id} of {job.tenant}, which is on {row.node}:{row.index}"
        else:
            why = "the queue's pane" if not (pane.name == "devices" and row.jobs) else "the queue: several are here"
            self._say(f"a job is cancelled in {why}", well=False)
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self._say(f"cancelling job {job_id} ...")
                self._order(lambda client: orders.cancel(client, job_id))

        self.push_screen(
            Confirm(f"Cancel job {named}?\nIts processes are asked to go, and killed after their grace."), answered
        )

    def action_drain(self) -> None:
        pane, row = self.grid.pane, self.grid.pane.chosen
        if row is None:
            return
        if pane.name not in ("nodes", "devices"):
            self._say("a node is drained in the pane of nodes, or of devices", well=False)
            return
        node = row.name if pane.name == "nodes" else row.node

        def answered(reason: str | None) -> None:
            if reason:
                self._say(f"draining node {node} ...")
                self._order(lambda client: orders.drain(client, node, reason, now_s=time.time()))

        question = f"Drain node {node}?\nNothing new starts there; what runs there runs to its end. Why?"
        self.push_screen(AskReason(question), answered)
