"""How large a change is found after how many nights, and how many alarms a night are false? Asked of made-up fleets.

    python -m benchmarks.history.validation [--cards 10000] [--noise-sd 0.005] [-o json|md]

Found: some cards of a fleet become slower by so much at a known night and stay so. After each number of nights: the
share that a change point tells within three nights of where it is (at the discovery threshold of a card that is the
only one of the fleet), that an outlier rule told on any night since, and that either did. False: nothing changes in a
fleet; what is told each night, by noise that is normal, heavy-tailed or drifting. All figures are simulated."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import click
import numpy as np

from benchmarks.history.changes import FALSE_DISCOVERY_RATE, change_points
from benchmarks.history.findings import OutlierKind
from benchmarks.history.nights import with_groups
from benchmarks.history.outliers import outliers
from benchmarks.history.synthetic import Fleet, Noise, first_nights, made_up
from benchmarks.provenance import commit, iso_utc
from benchmarks.record import BENCH_SCHEMA, Case

SIZES = (0.02, 0.03, 0.05, 0.10)
SINCE = (1, 2, 3, 5, 7, 10, 14, 21, 28)
BEFORE = 60
CHANGED_OF_EACH = 50
NOISES: tuple[Noise, ...] = ("normal", "heavy", "drifting")
FALSE_NIGHTS = 10
# A change point further from the truth than this is not the same event.
NEAR_NIGHTS = 3
MUST_FALSE_ALARMS = 1.0
MUST_FOUND_5PCT_7_NIGHTS = 0.99

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Found:
    """Shares of the changed cards, 0 to 1."""

    size: float
    nights_since: int
    by_change_point: float
    by_outlier: float
    by_either: float


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """Means a night. `changes` are change points that were not told the night before."""

    noise: str
    changes: float
    group_changes: float
    slow_than_like: float
    slow_than_before: float

    @property
    def cards(self) -> float:
        """Of cards: what an operator would look at for nothing."""
        return self.changes + self.slow_than_like + self.slow_than_before


def detection(fleet: Fleet, *, seed: int, progress: Progress = lambda what, share: None) -> tuple[Found, ...]:
    whole = made_up(replace(fleet, nights=BEFORE + max(SINCE)), seed=seed)
    rng = np.random.default_rng(seed + 1)
    each = min(CHANGED_OF_EACH, fleet.cards // (8 * len(SIZES)))
    drawn = rng.choice(fleet.cards, size=(len(SIZES), each), replace=False)
    for size, cards in zip(SIZES, drawn, strict=True):
        whole.values[cards, BEFORE:] *= 1.0 - size
    told: set[str] = set()
    answer = []
    for since in range(1, max(SINCE) + 1):
        progress("found", since / max(SINCE))
        known = first_nights(whole, BEFORE + since)
        told |= {outlier.series.device for outlier in outliers(known)}
        if since not in SINCE:
            continue
        near_s = NEAR_NIGHTS * 86_400.0
        changed = {
            change.series.device
            for change in change_points(known, rate=FALSE_DISCOVERY_RATE / drawn.size)
            if abs(change.at_s - whole.at_s[BEFORE]) <= near_s and change.relative < 0
        }
        for size, cards in zip(SIZES, drawn, strict=True):
            names = {f"card-{card}" for card in cards.tolist()}
            by_change, by_outlier = len(names & changed), len(names & told)
            either = len(names & (changed | told))
            answer.append(Found(size, since, by_change / each, by_outlier / each, either / each))
    return tuple(answer)


def false_alarms(fleet: Fleet, *, seed: int, progress: Progress = lambda what, share: None) -> FalseAlarms:
    whole = made_up(replace(fleet, nights=fleet.nights), seed=seed)
    known_before: set[tuple[str, str]] = set()
    counts = {"changes": 0, "group_changes": 0, "slow_than_like": 0, "slow_than_before": 0}
    first = fleet.nights - FALSE_NIGHTS
    for night in range(first, fleet.nights + 1):
        progress(f"false, {fleet.noise}", (night - first) / (FALSE_NIGHTS + 1))
        known = with_groups(first_nights(whole, night))
        changes = change_points(known)
        # The first night only says what was there already.
        if night > first:
            new = [c for c in changes if (c.series.device, c.series.rack + c.series.model) not in known_before]
            counts["changes"] += sum(bool(c.series.device) for c in new)
            counts["group_changes"] += sum(not c.series.device for c in new)
            for outlier in outliers(known):
                if outlier.series.device:
                    like = outlier.kind is OutlierKind.SLOW_THAN_LIKE
                    counts["slow_than_like" if like else "slow_than_before"] += 1
        known_before = {(c.series.device, c.series.rack + c.series.model) for c in changes}
    return FalseAlarms(fleet.noise, **{name: count / FALSE_NIGHTS for name, count in counts.items()})


def validated(fleet: Fleet, *, seed: int, progress: Progress = lambda what, share: None) -> dict[str, Any]:
    """The answer in the one shape of benchmarks, with both tables beside the cases."""
    begun_s = time.perf_counter()
    found = detection(fleet, seed=seed, progress=progress)
    alarms = [
        false_alarms(replace(fleet, noise=noise), seed=seed + 2 + i, progress=progress)
        for i, noise in enumerate(NOISES)
    ]
    cases = []
    for each in found:
        must = MUST_FOUND_5PCT_7_NIGHTS if (each.size, each.nights_since) == (0.05, 7) else None
        ok = None if must is None else each.by_either >= must
        name = f"found_{each.size:.0%}_{each.nights_since}_nights".replace("%", "pct")
        cases.append(Case(name, each.by_either, "share (simulated)", must, must, ok))
    for alarm in alarms:
        must = MUST_FALSE_ALARMS if alarm.noise == "normal" else None
        ok = None if must is None else alarm.cards <= must
        cases.append(Case(f"false_alarms_{alarm.noise}", alarm.cards, "cards a night (simulated)", must, 0.1, ok))
    return {
        "schema": BENCH_SCHEMA,
        "provenance": {
            "commit": commit(),
            "generated_at": iso_utc(time.time()),
            "evidence": "simulated",
            "of": "the analysis of nights; the cards and their nights are made up",
            "cards": fleet.cards,
            "noise_sd": fleet.noise_sd,
            "common_sd": fleet.common_sd,
            "missing": fleet.missing,
            "nights_before": BEFORE,
            "changed_of_each_size": min(CHANGED_OF_EACH, fleet.cards // (8 * len(SIZES))),
            "seed": seed,
            "wall_s": round(time.perf_counter() - begun_s, 1),
        },
        "cases": [
            {"case": c.case, "value": c.value, "unit": c.unit, "must": c.must, "aim": c.aim, "ok": c.ok} for c in cases
        ],
        "found": [
            {
                "size": f.size,
                "nights_since": f.nights_since,
                "by_change_point": f.by_change_point,
                "by_outlier": f.by_outlier,
                "by_either": f.by_either,
            }
            for f in found
        ],
        "false_alarms": [
            {
                "noise": a.noise,
                "changes": a.changes,
                "group_changes": a.group_changes,
                "slow_than_like": a.slow_than_like,
                "slow_than_before": a.slow_than_before,
            }
            for a in alarms
        ],
        "peers": {},
    }


def as_markdown(answer: dict[str, Any]) -> str:
    """Both tables, as docs/nights.md has them."""
    about = answer["provenance"]
    lines = [
        f"Simulated: {about['cards']:,} cards, {about['noise_sd']:.1%} noise a card and night, {about['missing']:.0%} "
        f"of nights missing, {about['nights_before']} nights before the change, seed {about['seed']}.",
        "",
        "| slower by | " + " | ".join(f"{n} night{'s' * (n > 1)}" for n in SINCE) + " |",
        "|---|" + "---|" * len(SINCE),
    ]
    for size in SIZES:
        cells = [
            f"{f['by_either']:.0%} ({f['by_change_point']:.0%} / {f['by_outlier']:.0%})"
            for f in answer["found"]
            if f["size"] == size
        ]
        lines.append(f"| {size:.0%} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| noise | new change points of cards | of groups | slower than like | slower than before |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {a['noise']} | {a['changes']:g} | {a['group_changes']:g} | {a['slow_than_like']:g} | "
        f"{a['slow_than_before']:g} |"
        for a in answer["false_alarms"]
    ]
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--cards", type=click.IntRange(min=160, max=50_000), default=10_000, show_default=True)
@click.option("--noise-sd", type=click.FloatRange(min=0, max=0.2), default=0.005, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True)
@click.option("-o", "--output", type=click.Choice(["md", "json"]), default="md", show_default=True)
def main(cards: int, noise_sd: float, seed: int, output: str) -> None:
    """What the analysis of nights finds, and what it makes up, on simulated fleets. Exit code 1 where a must is
    missed."""
    answer = validated(Fleet(cards=cards, noise_sd=noise_sd), seed=seed)
    click.echo(json.dumps(answer, indent=2) if output == "json" else as_markdown(answer), nl=output == "json")
    sys.exit(any(case["ok"] is False for case in answer["cases"]))


if __name__ == "__main__":
    main()
