"""How does the usage statement look? HTML (one self-contained page), Markdown, JSON, CSV and a spreadsheet.

All words come from words.py, all figures from UsageReport; the templates only place them. The page loads nothing.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from scheduler.billing.pflops import written
from scheduler.billing.plain import no_formula, one_line
from scheduler.billing.report.document import UsageReport, to_json
from scheduler.billing.report.words import Language, Words
from scheduler.billing.voucher_views import CSV_FIELDS, line_view
from scheduler.billing.vouchers import yuan
from scheduler.core.usage_book import Correction, Entry, RunLine, decimal_text

if TYPE_CHECKING:
    import jinja2

FORMATS = ("html", "md", "json", "csv", "xlsx")
SHOWN_JOBS = 40
"""Of one tenant on the page; the rest is counted there and listed in the files."""
SHOWN_LINES = 40
USAGE_FIELDS = (
    "entry",
    "of_month",
    "tenant",
    "job",
    "attempt",
    "worker",
    "name",
    "kind",
    "class",
    "site",
    "node",
    "devices",
    "models",
    "share_milli",
    "simulated",
    "from",
    "to",
    "device_seconds",
    "joules",
    "joules_at_least",
    "metered_device_seconds",
    "unmetered_device_seconds",
    "end",
    "cause",
    "requests",
    "answered",
)


def write_reports(
    made: UsageReport, out_dir: Path, lang: Language, *, formats: Sequence[str] = FORMATS
) -> tuple[Path, ...]:
    """usage.html, .md, .json, .csv, .xlsx as asked (with csv also vouchers.csv where there are contracts); each file is
    replaced whole. Returns their paths."""
    out_dir.mkdir(parents=True, exist_ok=True)
    contents: dict[str, bytes] = {}
    for form in formats:
        match form:
            case "html":
                contents["usage.html"] = html_text(made, lang).encode()
            case "md":
                contents["usage.md"] = markdown_text(made, lang).encode()
            case "json":
                contents["usage.json"] = json_text(made).encode()
            case "csv":
                contents["usage.csv"] = csv_text(made).encode("utf-8-sig")  # so that Excel sees the Chinese in it
                if made.vouchers is not None:
                    contents["vouchers.csv"] = vouchers_csv_text(made).encode("utf-8-sig")
            case "xlsx":
                from scheduler.billing.report.sheets import workbook_bytes

                contents["usage.xlsx"] = workbook_bytes(made, lang)
            case _:
                raise ValueError(f"format {form} is not one of {', '.join(FORMATS)}")
    for name, content in contents.items():
        beside = out_dir / f".{name}.{os.getpid()}"
        beside.write_bytes(content)
        os.replace(beside, out_dir / name)
    return tuple(out_dir / name for name in contents)


def json_text(made: UsageReport) -> str:
    """The same in every language."""
    return json.dumps(to_json(made), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def markdown_text(made: UsageReport, lang: Language) -> str:
    return _environment(made, lang, escape=False).get_template("usage.md.j2").render(r=made)


def html_text(made: UsageReport, lang: Language) -> str:
    return _environment(made, lang, escape=True).get_template("usage.html.j2").render(r=made)


def csv_text(made: UsageReport) -> str:
    """A line for each entry; a correction has two, as it was booked and as it is known. The same in every language."""
    out = io.StringIO()
    writer = csv.DictWriter(out, USAGE_FIELDS, lineterminator="\n", restval="")
    writer.writeheader()
    for entry in made.entries:
        writer.writerow(_csv_row(entry, "entry", made.month.name, made.zone))
    for correction in made.corrections:
        for word, inner in (("corrected: as booked", correction.before), ("corrected: as known", correction.after)):
            if inner is not None:
                writer.writerow(_csv_row(inner, word, correction.of_month, made.zone))
    return out.getvalue()


def _csv_row(entry: Entry, word: str, month: str, zone: str) -> dict[str, object]:
    if not isinstance(entry, RunLine):
        return {
            "entry": word,
            "of_month": month,
            "tenant": entry.tenant,
            "name": no_formula(entry.service),
            "kind": "requests",
            "simulated": entry.simulated,
            "requests": entry.requests,
            "answered": entry.answered,
        }
    return {
        "entry": word,
        "of_month": month,
        "tenant": entry.tenant,
        "job": entry.job_id,
        "attempt": entry.attempt,
        "worker": entry.worker,
        "name": no_formula(entry.name),
        "kind": entry.kind,
        "class": entry.priority_class,
        "site": entry.site or "",
        "node": entry.node,
        "devices": " ".join(map(str, entry.devices)),
        "models": "; ".join(no_formula(model) for model in entry.models),
        "share_milli": entry.share_milli,
        "simulated": entry.simulated,
        "from": moment(entry.from_ms, zone),
        "to": moment(entry.to_ms, zone),
        "device_seconds": decimal_text(entry.device_us, 6),
        "joules": "" if entry.millijoules is None else decimal_text(entry.millijoules, 3),
        "joules_at_least": entry.at_least,
        "metered_device_seconds": decimal_text(entry.metered_us, 6),
        "unmetered_device_seconds": decimal_text(entry.unmetered_us, 6),
        "end": entry.end,
        "cause": no_formula(entry.cause),
    }


def vouchers_csv_text(made: UsageReport) -> str:
    assert made.vouchers is not None
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    for year in made.vouchers.years:
        writer.writerows(line_view(line, made.zone) for line in year.lines)
    return out.getvalue()


# ---- how figures are written ---------------------------------------------------------------------------------------


def moment(at_ms: float, zone: str) -> str:
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone)).isoformat(timespec="milliseconds")


def device_seconds(us: int) -> str:
    """12,345.678: exact to the millisecond of a thousandth where there is more than that."""
    text = f"{Decimal(us).scaleb(-6):,.6f}"
    return text[:-3] if text.endswith("000") else text


def hours(us: int) -> str:
    return f"{Decimal(us) / Decimal(3_600 * 10**6):,.3f}"


def kwh(millijoules: int) -> str:
    return f"{Decimal(millijoules) / Decimal(3_600 * 10**6):,.3f}"


def pflops(value: Fraction) -> str:
    return f"{Decimal(written(value, 6)):,f}"


def cny(fen: int) -> str:
    return f"{Decimal(yuan(fen)):,}"


def described(entry: Entry | None, words: Words, zone: str) -> str:
    """One side of a correction."""
    if entry is None:
        return words("absent")
    if not isinstance(entry, RunLine):
        return words("requests_text", n=f"{entry.answered:,}")
    begin, end = (datetime.fromtimestamp(ms / 1000, ZoneInfo(zone)) for ms in (entry.from_ms, entry.to_ms))
    said = f"{begin:%m-%d %H:%M:%S} – {end:%m-%d %H:%M:%S}, {device_seconds(entry.device_us)}"
    return f"{said}, {words(f'end.{entry.end}')}"


def difference(correction: Correction) -> str:
    sides = [side.device_us if isinstance(side, RunLine) else 0 for side in (correction.before, correction.after)]
    change = sides[1] - sides[0]
    return f"{'+' if change > 0 else ''}{device_seconds(change)}"


def run_of(correction: Correction, words: Words) -> str:
    entry = correction.after or correction.before
    if isinstance(entry, RunLine):
        return words("run_text", job=entry.job_id, attempt=entry.attempt, worker=entry.worker)
    assert entry is not None
    return f"{entry.tenant}/{entry.service}"


def _environment(made: UsageReport, lang: Language, *, escape: bool) -> jinja2.Environment:
    import jinja2

    words = Words(lang)

    def cell(text: object) -> str:
        """Text inside a Markdown table: no pipe and no line break may end the cell."""
        return one_line(str(text)).replace("\\", "\\\\").replace("|", "\\|")

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "ds": device_seconds,
        "hours": hours,
        "kwh": kwh,
        "pflops": pflops,
        "cny": cny,
        "cell": cell,
        "line": one_line,
        "count": lambda n: f"{n:,}",
        "when": lambda s: datetime.fromtimestamp(s, ZoneInfo(made.zone)).strftime("%Y-%m-%d %H:%M:%S"),
        "day": lambda s: datetime.fromtimestamp(s, ZoneInfo(made.zone)).strftime("%Y-%m-%d"),
        "when_ms": lambda ms: datetime.fromtimestamp(ms / 1000, ZoneInfo(made.zone)).strftime("%m-%d %H:%M:%S"),
        "rate": lambda text: f"{Decimal(text):,.3f}",
        "amount": lambda value: f"{Decimal(written(value, 6)):,f}",
    }
    environment.globals |= {
        "w": words,
        "lang": lang,
        "described": lambda entry: described(entry, words, made.zone),
        "difference": difference,
        "run_of": lambda correction: run_of(correction, words),
        "shown_jobs": SHOWN_JOBS,
        "shown_lines": SHOWN_LINES,
    }
    return environment
