"""Outliers among equals and against a card's own nights; what of it becomes a flag."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.evidence import EvidenceKind
from benchmarks.history.analysis import findings_json, findings_of, flags
from benchmarks.history.columns import About
from benchmarks.history.energy import Floats
from benchmarks.history.findings import OutlierKind, Series
from benchmarks.history.nights import Nights, with_groups
from benchmarks.history.outliers import MIN_LIKE, MIN_OWN_NIGHTS, outliers

DAY_S = 86_400.0
LIKE, BEFORE = OutlierKind.SLOW_THAN_LIKE, OutlierKind.SLOW_THAN_BEFORE


def fleet(values: Floats, *, models: tuple[str, ...] = (), evidence: EvidenceKind = EvidenceKind.MEASURED) -> Nights:
    count = len(values)
    about = tuple(
        About(
            "here",
            models[i] if models else "m",
            f"r{i // 4}",
            f"node-{i // 4}",
            "accelerator",
            "GFLOP/s",
            "570",
            "",
            "",
            "1",
        )
        for i in range(count)
    )
    series = tuple(Series(evidence, "gemm", "bf16", a.site, a.model, a.rack, f"c{i}") for i, a in enumerate(about))
    at_s = DAY_S * np.arange(values.shape[1])
    runs = tuple(f"n{t}" for t in range(values.shape[1]))
    return Nights(evidence, at_s, runs, series, about, ("GFLOP/s",) * count, values)


def calm(cards: int = 32, count: int = 20, noise: float = 0.004) -> Floats:
    rng = np.random.default_rng(2)
    return 1000.0 * (1 + 0.01 * rng.normal(size=(cards, 1))) * (1 + noise * rng.normal(size=(cards, count)))


def told(nights: Nights) -> list[tuple[str, OutlierKind]]:
    return [(o.series.device, o.kind) for o in outliers(nights)]


def test_a_card_that_was_always_slow_is_slower_than_its_like_and_not_than_it_was() -> None:
    values = calm()
    values[5] *= 0.8
    (outlier,) = outliers(fleet(values))
    assert (outlier.series.device, outlier.kind, outlier.node) == ("c5", LIKE, "node-1")
    assert outlier.value / outlier.expected == pytest.approx(0.8, abs=0.05)
    assert outlier.score < -5


def test_a_little_slower_needs_a_second_night_and_much_slower_does_not() -> None:
    values = calm()
    values[5, -1] *= 0.96
    assert told(fleet(values)) == []
    values[5, -2] *= 0.96
    assert told(fleet(values)) == [("c5", BEFORE)]
    values[6, -1] *= 0.7
    assert ("c6", BEFORE) in told(fleet(values))


def test_the_second_night_may_come_after_one_that_is_missing() -> None:
    values = calm()
    values[5, [-1, -3]] *= 0.96
    values[5, -2] = np.nan
    assert told(fleet(values)) == [("c5", BEFORE)]


def test_a_night_that_is_slow_for_all_is_no_cards_doing() -> None:
    values = calm()
    values[:, -2:] *= 0.9
    assert told(fleet(values)) == []


def test_equals_that_are_tied_make_no_outlier_of_a_hair() -> None:
    values = np.full((16, 10), 1000.0)
    values[3, -1] = 985.0  # 1.5% less: under the least magnitude, however many robust deviations it is
    assert told(fleet(values)) == []
    values[3, -1] = 950.0
    assert told(fleet(values)) == [("c3", LIKE), ("c3", BEFORE)]


def test_too_few_equals_and_too_few_nights_say_nothing() -> None:
    values = calm(MIN_LIKE - 1, 20)
    values[0] *= 0.5
    assert told(fleet(values)) == []
    values = calm(32, MIN_OWN_NIGHTS)
    values[0, -1] *= 0.5
    assert told(fleet(values)) == [("c0", LIKE)]
    assert told(fleet(np.empty((0, 0)))) == []


def test_cards_of_other_models_are_no_equals() -> None:
    values = calm()
    values[16:] *= 3.0
    assert told(fleet(values, models=("slow",) * 16 + ("fast",) * 16)) == []


def test_faster_is_no_trouble() -> None:
    values = calm()
    values[5, -2:] *= 1.3
    assert told(fleet(values)) == []


def test_groups_are_levels_that_survive_who_was_there() -> None:
    values = calm(32, 20, noise=0.0)
    values[16:] *= 2.0
    values[16:, 10:] = np.nan  # half of the cards, the faster ones, were busy from then on
    every = with_groups(fleet(values, models=("a",) * 32))
    site = next(i for i, s in enumerate(every.series) if not s.model)
    assert np.ptp(every.values[site]) == pytest.approx(0.0, abs=1e-6)
    assert {(s.model, s.rack) for s in every.series if not s.device} == {("", ""), ("a", "")} | {
        ("a", f"r{r}") for r in range(8)
    }


# ---- flags -------------------------------------------------------------------------------------------------------


def fallen(evidence: EvidenceKind = EvidenceKind.MEASURED) -> Nights:
    values = calm(32, 40)
    values[5, 28:] *= 0.94
    return fleet(values, evidence=evidence)


ALL = {f"c{i}": f"node-{i // 4}" for i in range(32)}


def test_a_card_that_fell_is_a_flag_since_then() -> None:
    (flag,) = [f for f in flags([findings_of(fallen(), 600.0)], ALL) if f["rule"] == "slow_than_before"]
    assert (flag["device"], flag["unit"], flag["since_s"]) == ("c5", "GFLOP/s", 28 * DAY_S)
    assert flag["value"] / flag["expected"] == pytest.approx(0.94, abs=0.01)
    assert "6" in flag["text"]


def test_nothing_simulated_and_no_unknown_device_is_ever_flagged() -> None:
    found = findings_of(fallen(EvidenceKind.SIMULATED), 600.0)
    assert found.changes
    assert flags([found], ALL) == []
    assert flags([findings_of(fallen(), 600.0)], {}) == []


def test_a_change_of_the_whole_model_flags_no_card() -> None:
    values = calm(32, 40)
    values[:, 28:] *= 0.94
    found = findings_of(fleet(values), 600.0)
    assert len(found.changes) > 32
    assert {c.series.device for c in found.own_changes} == {""}
    assert flags([found], ALL) == []


def test_findings_are_json() -> None:
    document = findings_json(findings_of(fallen(), 600.0))
    assert (document["evidence"], document["nights"], document["cards"]) == ("measured", 40, 32)
    change = next(c for c in document["changes"] if c["device"] == "c5")
    assert change["relative"] == pytest.approx(-0.06, abs=0.01)
    assert "series" not in change


def test_outliers_are_of_like_software_only() -> None:
    values = calm()
    values[16:] *= 0.7
    nights = fleet(values)
    about = tuple(replace(a, driver="old") if i >= 16 and a else a for i, a in enumerate(nights.about))
    assert told(replace(nights, about=about)) == []
