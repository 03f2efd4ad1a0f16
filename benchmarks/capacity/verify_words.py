"""What was done to a report, its log or its goals, in words? From where a recomputation differs.

A difference names a place and two values; whoever signs wants to know which of three things is another one: the
report's file, the log, or the goals and the catalogue. Where several were changed, each is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.capacity.verify import Verification

_OF_LOG = ("log.", "unreadable_history_lines")
_OF_FILE = "figures_sha256"
_OF_GOAL = (".goal_pflops", ".precision", ".due", ".sites", ".site", ".title_en", ".title_zh", ".source")


def in_words(document: Mapping[str, Any], found: Verification) -> tuple[str, ...]:
    """Sentences, the likeliest cause first; none where all agrees."""
    places = [difference.where for difference in found.differences]
    told = []
    if _OF_FILE in places:
        told.append("the report's file was changed after it was written: its digest is not that of what stands in it")
    if "log.sha256" in places:
        told.append(_log(document, found, [p for p in places if p != _OF_FILE and not p.startswith(_OF_LOG)]))
    if "unreadable_history_lines" in places:
        told.append("the log has another number of lines that cannot be read than when the report was written")
    if any(place.startswith("inputs.catalogue") for place in places):
        told.append("the catalogue has other peaks for installed models than the one that the report was made with")
    of_goals = [p for p in places if p.startswith(("goals.", "context."))]
    goals = sorted({p.split(".")[1] for p in of_goals if p.endswith(_OF_GOAL) or p.count(".") == 1})
    if goals and _OF_FILE not in places:
        told.append(f"the goals are not those that the report was made with: {', '.join(goals)}")
    if places and not told:
        told.append("the report states other figures than its log gives, and its digest was made to fit them")
    return tuple(told)


def _log(document: Mapping[str, Any], found: Verification, figures: list[str]) -> str:
    stated, lines = document["log"].get("lines"), found.lines
    if not isinstance(stated, int):
        return "the log is another one than the report was made from"
    if lines < stated:
        return (
            f"the log lacks {stated - lines} of the {stated} lines that the report was made from: dropped, made "
            "unreadable, or dated outside its period"
        )
    if lines > stated:
        return f"the log has {lines - stated} more lines in the report's period than the {stated} that it was made from"
    if figures:
        return f"a line of the log was changed: it has {stated} lines as before, and figures that rest on them differ"
    return (
        f"the log has the {stated} lines as before and gives the same figures, but its digest differs: lines stand in "
        "another order, or one was changed where no figure rests on it"
    )
