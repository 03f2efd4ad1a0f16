"""What the live view asks and tells in a box of its own: help, details, the column to sort by, and what needs a yes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from scheduler.cli.render import safe

HELP = """\
Tab t  Shift+Tab     the next pane, the one before        1 2 3 4   nodes, devices, queue, services
Up Down PgUp PgDn    move; Home End to the ends
/ F3                 search: type, Enter keeps it; n or F3 the next one
\\ F4                 filter: only rows with every word; !word: without it; Esc in the field clears it
> F6                 sort by a column; I turns the order round
Enter                everything about the row
k F9                 cancel a job (queue; devices: the job on it), after a yes
d                    drain a node (nodes, devices), after a reason
Space p              stand still, and go on
r F5                 ask at once
Ctrl+Z               to the shell; `fg` comes back
h ? F1               this page
q F10 Ctrl+C         leave

KIND: real, or sim and replay: simulated devices and recordings. Nothing of these is measured, and they are counted
apart. A dash is a reading that is not to be had; Enter says why. ILL: devices that health keeps work from, or whose
node does not answer. HOTTEST, POWER and UTIL of a node are over the devices that tell.
The cursor stays with the row that you moved it to; Home lets it stay on top instead."""


class Box(ModalScreen[None]):
    """A text to be read; scrolls."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,f10,enter", "close", "Close"),
        Binding("up", "by(-1)", show=False),
        Binding("down", "by(1)", show=False),
        Binding("pageup", "by(-10)", show=False),
        Binding("pagedown", "by(10)", show=False),
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title = title
        self._text = text

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="box wide") as box:
            box.border_title = safe(self._title).replace("[", r"\[")
            box.border_subtitle = "Esc closes"
            yield Static(Text(safe(self._text)), id="text")

    def tell(self, text: str) -> None:
        """What came to be known meanwhile."""
        self._text = text
        if self.is_mounted:
            self.query_one("#text", Static).update(Text(safe(text)))

    def action_by(self, lines: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)

    def action_close(self) -> None:
        self.dismiss(None)


class Confirm(ModalScreen[bool]):
    """A question that only `y` answers with yes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q,enter,f10", "answer(False)", "No"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Static(Text(safe(self._question) + "\n\ny: yes    n, Esc: no"))

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)


class AskReason(ModalScreen[str | None]):
    """A reason, which is the yes as well; None: no."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,f10", "leave", "No", priority=True)]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Static(Text(safe(self._question)))
            yield Input(placeholder="reason", max_length=500, compact=True)
            yield Static("", id="wrong")
            yield Static(Text("Enter: do it    Esc: leave it"))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        reason = event.value.strip()
        if reason:
            self.dismiss(reason)
        else:
            self.query_one("#wrong", Static).update("say why: whoever finds the node drained will want to know")

    def action_leave(self) -> None:
        self.dismiss(None)


class ChooseColumn(ModalScreen[int | None]):
    """The number of the column to sort by; None: as before."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,f10", "leave", "As before")]

    def __init__(self, titles: Sequence[str], at: int) -> None:
        super().__init__()
        self._titles = titles
        self._at = at

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Static("Sort by; the same once more turns it round")
            yield OptionList(*(Option(Text(title)) for title in self._titles), compact=True)

    def on_mount(self) -> None:
        columns = self.query_one(OptionList)
        columns.highlighted = self._at
        columns.focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_index)

    def action_leave(self) -> None:
        self.dismiss(None)


class TypedWords(Input):
    """The field of search and filter: arrows move the table's cursor meanwhile."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.forget_typed", show=False),
        Binding("tab,f4", "app.keep_typed", show=False),
        Binding("f3", "app.search_on", show=False),
        Binding("up", "app.move(-1)", show=False),
        Binding("down", "app.move(1)", show=False),
        Binding("pageup", "app.page(-1)", show=False),
        Binding("pagedown", "app.page(1)", show=False),
        Binding("f10", "app.leave", show=False),
    ]
