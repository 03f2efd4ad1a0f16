"""The simulated night and the validation, small: their shape, and that what they say is labelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.history.simulated_night import answer, run
from benchmarks.history.synthetic import Fleet
from benchmarks.history.validation import SIZES, as_markdown, detection, false_alarms, validated


def test_a_small_night_goes_all_the_way(tmp_path: Path) -> None:
    told = run(240, 20, tmp_path, seed=1)
    assert (told["nights"], told["cards"]) == (21, 240)
    assert told["simulated_pflops"] > 0
    assert {"capacity.json", "capacity-en.md", "capacity-zh.html", "capacity-zh.xlsx"} <= set(told["reports"])
    made = answer(told, seed=1)
    assert made["provenance"]["evidence"] == "simulated"
    musts = {c["case"]: c["must"] for c in made["cases"] if c["must"] is not None}
    assert musts == {"simulated_night_s": 60.0, "simulated_night_peak_mib": 1024.0}
    text = (tmp_path / "out" / "capacity-en.md").read_text()
    assert "simulated" in text.lower()


def test_large_changes_are_found_and_calm_nights_are_calm() -> None:
    found = {(f.size, f.nights_since): f for f in detection(Fleet(cards=640, models=2), seed=3)}
    assert found[0.05, 7].by_either == 1.0
    assert found[0.10, 14].by_change_point > 0.9
    assert found[0.02, 28].by_either <= found[0.10, 28].by_either
    alarms = false_alarms(Fleet(cards=640, models=2, nights=40), seed=4)
    assert alarms.cards < 0.5
    assert alarms.group_changes == 0


@pytest.mark.nightly
def test_what_docs_say_of_ten_thousand_cards_is_so() -> None:
    made = validated(Fleet(), seed=7)
    assert [c["case"] for c in made["cases"] if c["ok"] is False] == []
    assert made["provenance"]["evidence"] == "simulated"
    assert as_markdown(made).count("%") > 9 * len(SIZES)
