"""What does the report say in sentences and single figures? Shared by the page, Markdown, PDF and spreadsheets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.capacity import numbers
from benchmarks.capacity.arithmetic import GoalCapacity, Ratio, WhyNone
from benchmarks.capacity.audit import LogUsed
from benchmarks.capacity.report import CapacityReport
from benchmarks.capacity.trend import Trend
from benchmarks.capacity.words import Words

COMMAND = "suanli report verify capacity.json --log LOG"


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of evidence under a goal. `key` is its name in JSON and its pattern's. `pflops` None: there is no such
    figure, and `about` says why; else of how many cards it is and how much of the goal."""

    key: str
    name: str
    means: str
    pflops: float | None
    devices: int
    about: str

    @property
    def figure(self) -> str:
        return numbers.ABSENT if self.pflops is None else numbers.figure(self.pflops)


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure with its name and what it means, or why there is none (`value` None then)."""

    key: str
    name: str
    text: str
    means: str
    value: float | None
    unit: str


def parts(g: GoalCapacity, words: Words) -> tuple[Part, ...]:
    """Without the simulated, which never stands among them."""
    found = []
    for key, held in (("nominal", g.nominal), ("measured", g.measured), ("extrapolated", g.extrapolated)):
        about = _about(held.pflops, held.devices, held.why_none, g, words)
        found.append(Part(key, words(key), words(f"{key}.means"), held.pflops, held.devices, about))
    if g.estimate is not None:
        e = g.estimate
        said = words(
            "estimate.means",
            sampled=e.sampled,
            cards=e.cards,
            strata=e.strata,
            confidence=f"{100 * e.confidence:g}%",
            low=numbers.figure(e.low_pflops),
            high=numbers.figure(e.high_pflops),
        )
        about = _of_goal(e.pflops, e.cards, g, words)
        found.append(Part("estimate", words("estimate"), said, e.pflops, e.cards, about))
    return tuple(found)


def _about(pflops: float | None, devices: int, why: WhyNone | None, g: GoalCapacity, words: Words) -> str:
    return words(f"why.{why}") if pflops is None else _of_goal(pflops, devices, g, words)


def _of_goal(pflops: float, devices: int, g: GoalCapacity, words: Words) -> str:
    share = numbers.percent(pflops / g.goal.goal_pflops)
    return words("part.about", cards=words("cards", n=f"{devices:,}"), share=share)


def line_figure(part: Part, words: Words) -> str:
    """For the terminal."""
    if part.pflops is None:
        return words("line.no_figure", why=part.about)
    return words("line.figure", pflops=part.figure, devices=f"{part.devices:,}")


def headline_figure(g: GoalCapacity) -> str:
    return numbers.ABSENT if g.measured.pflops is None else numbers.figure(g.measured.pflops)


def headline_text(g: GoalCapacity, words: Words) -> str:
    """What stands beside the figure: of which goal it is, or that nothing was measured."""
    absent = g.measured.why_none is not None
    return words("achieved.none" if absent else "achieved", goal=numbers.goal_figure(g.goal.goal_pflops))


def simulated_text(g: GoalCapacity, words: Words) -> str:
    """The figure of simulated devices, and of how many."""
    figure = words("simulated.none")
    if g.simulated.pflops is not None:
        figure = words("simulated.figure", pflops=numbers.figure(g.simulated.pflops))
    counts = {"devices": f"{g.simulated.devices:,}", "installed": f"{g.simulated_installed:,}"}
    return f"{figure} · {words('simulated.devices', **counts)}"


def tiles(g: GoalCapacity, words: Words) -> tuple[Tile, ...]:
    made = [_tile(name, value, words, "share") for name, value in _shares(g)]
    made.append(_tile("lock", g.lock_pflops, words, "PFlops"))
    energy = _tile("energy", g.energy_joules, words, "J", cards=g.energy.cards if g.energy else 0, run=g.cards_run)
    if energy.value is not None:
        digits, unit = numbers.joules(energy.value)
        energy = Tile(energy.key, energy.name, f"{digits} {unit}", energy.means, energy.value, "J")
    return (*made, energy, _tile("per_watt", g.gflops_per_watt, words, "GFLOPS/W"))


def _shares(g: GoalCapacity) -> tuple[tuple[str, Ratio], ...]:
    return (("availability", g.availability), ("efficiency", g.efficiency), ("coverage", g.coverage))


def _tile(key: str, ratio: Ratio, words: Words, unit: str, **counts: int) -> Tile:
    if ratio.value is None:
        assert ratio.reason is not None, "an undefined ratio says why"
        absent = words("unread" if ratio.reason is WhyNone.ENERGY_NOT_READ else "undefined")
        return Tile(key, words(key), absent, words(f"why.{ratio.reason}"), None, unit)
    text = numbers.percent(ratio.value) if unit == "share" else numbers.figure(ratio.value)
    return Tile(key, words(key), text, words(f"{key}.means", **counts), ratio.value, unit)


def interval_text(g: GoalCapacity, words: Words) -> str:
    """Why nothing was measured where nothing was."""
    if g.measured.why_none is not None:
        return words(f"why.{g.measured.why_none}")
    if g.interval is None:
        return words("interval.none") if g.measured.devices else ""
    low, high = close_figures(g.interval.low_pflops, g.interval.high_pflops)
    return words("interval", low=low, high=high)


def close_figures(low: float, high: float) -> tuple[str, str]:
    """Two figures with enough digits to tell them apart."""
    said = numbers.figure(low), numbers.figure(high)
    for digits in range(4, 8):
        if said[0] != said[1] or low == high:
            break
        said = f"{low:,.{digits}g}", f"{high:,.{digits}g}"
    return said


def identity_text(g: GoalCapacity, words: Words) -> str:
    """R_nom x availability x efficiency = R_sus; empty where a factor is undefined or a verified card has no peak."""
    verified_unrated = any(m.verified and m.peak_tflops is None for m in g.models)
    if g.availability.value is None or g.efficiency.value is None or verified_unrated:
        return ""
    return words(
        "identity",
        nominal=numbers.figure(g.nominal.rate.pflops),
        availability=numbers.percent(g.availability.value),
        efficiency=numbers.percent(g.efficiency.value),
        measured=numbers.figure(g.measured.rate.pflops),
    )


def missing_text(g: GoalCapacity, words: Words) -> str:
    if g.missing_pflops <= 0:
        return words("reached")
    return words("missing", pflops=numbers.figure(g.missing_pflops))


def cards_needed_text(g: GoalCapacity, words: Words) -> str:
    told = [words("cards_needed.one", n=f"{m.cards:,}", model=m.model) for m in g.missing_cards]
    return words("cards_needed", list=words("separator.or").join(told)) if told else ""


def goal_line(g: GoalCapacity, words: Words) -> str:
    goal = g.goal
    precision = words.or_as_given("precision", goal.precision)
    return words("goal.line", pflops=numbers.goal_figure(goal.goal_pflops), precision=precision, due=goal.due)


def window_text(g: GoalCapacity, words: Words) -> str:
    window = g.window
    if window is None:
        return ""
    said = words(
        "window.line",
        label=words(f"short.{window.label}"),
        window=f"{window.window_s:g}",
        at=numbers.moment(window.start_at_s) if window.start_at_s else numbers.ABSENT,
        precision=window.precision,
        run=window.run,
        samples=f"{window.samples:,}",
        chance=numbers.ABSENT if window.detection_probability is None else numbers.chance(window.detection_probability),
    )
    stop = "。" if words.language == "zh" else "."
    return (
        said + stop
        if not window.passed_over
        else joined((said + stop, words("passed_over", n=window.passed_over)), words)
    )


def outlook_text(g: GoalCapacity, words: Words) -> str:
    trend = g.trend
    return words(f"outlook.{trend.outlook}", **_outlook_values(trend, g.goal.due, words))


def _outlook_values(trend: Trend, due: str, words: Words) -> dict[str, object]:
    slopes = (trend.slope_pflops_per_day, trend.slope_low, trend.slope_high)
    slope, low, high = (numbers.ABSENT if s is None else numbers.figure(s) for s in slopes)

    def day(at_s: float | None) -> str:
        return words("outlook.open_end") if at_s is None else numbers.date(at_s)

    return {
        "n": trend.nights,
        "needed": trend.needed_nights,
        "slope": slope,
        "low": low,
        "high": high,
        "due": due,
        "date": day(trend.projected_at_s),
        "earliest": day(trend.earliest_at_s),
        "latest": day(trend.latest_at_s),
        "horizon": day(trend.horizon_at_s),
    }


def nights_text(g: GoalCapacity, words: Words) -> str:
    """What the nights say of the goal, and how far they lay apart."""
    return joined((outlook_text(g, words), _range_text(g, words)), words)


def joined(sentences: Sequence[str], words: Words) -> str:
    """One after the other; between Chinese sentences there is no space."""
    return ("" if words.language == "zh" else " ").join(text for text in sentences if text)


def _range_text(g: GoalCapacity, words: Words) -> str:
    held = g.night_range
    if held is None:
        return ""
    low, high = close_figures(held.low_pflops, held.high_pflops)
    return words("night_range", n=held.nights, low=low, high=high, chance=numbers.percent(held.holds_next))


def log_text(log: LogUsed | None, words: Words) -> str:
    if log is None:
        return words("audit.no_log")
    return words(
        "audit.log",
        lines=f"{log.lines:,}",
        since=numbers.moment(log.since_s) if log.since_s > 0 else numbers.ABSENT,
        until=numbers.moment(log.until_s),
    )


def generated_text(report: CapacityReport, words: Words) -> str:
    at = numbers.moment(report.generated_at_s)
    return words("generated", at=at, host=report.provenance.get("host") or numbers.ABSENT)


def inventory_text(report: CapacityReport, words: Words) -> str:
    kept = words(f"inventory.{report.inventory_from}", at=numbers.moment(report.inventory_at_s))
    return joined((kept, words("times")), words)
