"""How the live view looks: where its parts stand, in the terminal's own sixteen colours, and the line of keys."""

from __future__ import annotations

FEW_KEYS = "h help  Tab pane  / search  \\ filter  > sort  k cancel  d drain  p pause  q quit"
KEYS = "F1 help  Tab pane  F3 search  F4 filter  F6 sort  Enter details  k cancel  d drain  p pause  F10 quit"

CSS = """
Screen { layout: vertical; background: ansi_default; color: ansi_default; }
#header { height: 3; }
#tabs, #said, #keys { height: 1; }
#typed { height: 1; display: none; }
#typed.open { display: block; }
Grid { height: 1fr; }
ModalScreen { align: center middle; background: transparent; }
.box { width: auto; max-width: 90%; height: auto; max-height: 90%; min-width: 40;
       border: round ansi_blue; padding: 0 1; background: ansi_default; color: ansi_default; }
.box Static { width: auto; max-width: 100%; }
.wide { width: 90%; }
.wide Static { width: 100%; }
#wrong { color: ansi_red; }
OptionList { height: auto; max-height: 20; width: 42; border: none; background: ansi_default; color: ansi_default; }
Input { background: ansi_default; color: ansi_default; border: none; height: 1; width: 60; max-width: 100%; }
"""
