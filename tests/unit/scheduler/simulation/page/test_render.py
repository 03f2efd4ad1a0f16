"""The page of a simulated run: all that was asked for is on it, every text is escaped, nothing is loaded."""

import itertools
import random
import re
from functools import cache
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.simulation.page import render
from scheduler.simulation.page.words import LANGUAGES, Words, keys
from tests.fakes import simulated_documents
from tests.fakes.simulated_documents import CASES

VOID = {"meta", "br", "hr", "img", "link", "input"}
EVERY_CASE = [pytest.param(name, lang, id=f"{name}, {lang}") for name in CASES for lang in LANGUAGES]


class Page(HTMLParser):
    """What stands on a page: headings, ids, references, tables as lists of rows, and all of its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.labels: list[str] = []
        self.headings: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.texts: list[str] = []
        self._rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == [], "every element is closed"

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self.ids += [named["id"]] if "id" in named else []
        self.references += [named[name] for name in ("src", "href", "xlink:href", "data", "action") if name in named]
        assert not any(name.startswith("on") for name in named), "no script in an attribute"
        if tag == "svg" and named.get("role") == "img":
            self.labels.append(named["aria-label"])
        if tag == "div" and named.get("role") == "region":
            self._rows = self.tables.setdefault(named["aria-label"], [])
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} closes what it did not open"

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self._rows[-1][-1] = " ".join((self._rows[-1][-1] + " " + data).split())
        if {"h1", "h2", "h3"} & set(self.open):
            self.headings[-1] += data


@cache
def text_of(name: str, lang: str = "en") -> str:
    return render(CASES[name](), lang=lang)


@cache
def page_of(name: str, lang: str = "en") -> Page:
    return Page(text_of(name, lang))


def drawings(text: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


@pytest.mark.parametrize(("name", "lang"), EVERY_CASE)
def test_every_kind_of_document_gives_a_whole_page_that_loads_nothing(name, lang):
    text, page = text_of(name, lang), page_of(name, lang)
    style = text[text.index("<style>") : text.index("</style>")]
    assert page.references == []
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object", "foreignObject"})
    assert "@import" not in style
    assert re.findall(r"url\((?!#)", text) == []
    assert len(page.ids) == len(set(page.ids))
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(page.ids), "what is painted with is there"
    said = re.sub(r"\S*name\S*", "", page.text)
    assert not re.search(r"\b(nan|NaN|inf|None|Infinity|undefined)\b", said)
    for drawn in drawings(text):
        assert not re.search(r'="[^"]*\b(nan|inf)\b', ElementTree.tostring(drawn, "unicode"))


@pytest.mark.parametrize(("name", "lang"), EVERY_CASE)
def test_it_says_simulated_in_the_banner_on_every_sheet_and_in_every_chart(name, lang):
    words = Words(lang)
    text, page = text_of(name, lang), page_of(name, lang)
    assert page.texts.count(words("simulated")) >= 2, "the banner and the watermark"
    assert f'@top-center {{ content: "{words("simulated.sheet")}' in text
    assert text.count(f">{words('simulated.small')}</text>") == len(page.labels)
    assert all(label.startswith(words("simulated.small").capitalize()) for label in page.labels)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_sections_stand_in_the_order_in_which_one_decides(lang):
    words = Words(lang)
    page = page_of("compared", lang)
    sections = ("differences", "over_time", "waiting", "services", "fairness", "energy", "method")
    places = [page.headings.index(words(section)) for section in sections]
    assert places == sorted(places)
    drawn = ("used", "fragmentation", "waiting_devices", "waiting_jobs", "by_model", "by_site", "wait_class")
    assert {words(f"fig.{key}") for key in (*drawn, "wait_tenant", "share", "energy")} <= set(page.headings)
    assert {"airspace-detect", "ward-triage", "dailies-upscale"} <= set(page.headings)


@pytest.mark.parametrize("name", [name for name in CASES if name != "hostile names"])
def test_every_run_and_how_to_repeat_it_is_named(name):
    document, page = CASES[name](), page_of(name)
    for run in document["runs"]:
        assert any(run["name"] in row[0] for row in page.tables["What was run"])
    about = document["about"]
    for said in ("title", "cluster", "workload", "command", "version"):
        assert about[said] in page.text
    assert f"Seed : {about['seed']}" in page.text or f"Seed: {about['seed']}" in page.text
    assert (about["commit"] or "not known") in page.text


def test_a_partial_run_is_called_partial_wherever_it_is_named_and_is_not_judged():
    page = page_of("partial")
    assert page.text.count("PARTIAL") >= 2
    assert "stopped before its end" in page.text
    figures = page.tables["Differences at a glance"]
    assert "partial" in figures[0][2]
    assert not any(word in cell for row in figures for cell in row for word in ("better", "worse"))
    assert "not judged" in figures[1][2]
    assert "PARTIAL" not in page_of("compared").text


def test_differences_are_against_the_first_run_and_say_whether_they_are_better():
    document = CASES["compared"]()
    first, second = document["runs"]
    for run, mean, wait, lost, jain in ((first, 0.8, 100.0, 0.0, 0.9), (second, 0.85, 50.0, 7200.0, 0.9001)):
        run["utilisation"]["mean"] = mean
        run["wait_s"]["all"]["p95"] = wait
        run["preemptions"]["work_lost_device_s"] = lost
        run["fairness"]["jain"] = jain
    second["energy"]["kwh"] = None
    for run, p50 in ((first, 2.0), (second, 60.0)):
        run["completion_s"]["all"]["p50"] = p50
    rows = {row[0].split(" of ")[0]: row[1:] for row in Page(render(document)).tables["Differences at a glance"]}

    def row(title: str) -> list[str]:
        return next(cells for name, cells in rows.items() if name.startswith(title))

    assert row("Utilisation, mean") == ["80.0 %", "85.0 % ▲ +5.0 points better"]
    assert row("Wait, p95") == ["1 min 40 s", "50 s ▼ −50.0 % better"]
    assert row("Work lost") == ["0 device-hours", "2.00 device-hours ▲ +2.00 device-hours worse"]
    assert row("Fairness") == ["0.900", "0.900 = the same"]
    assert row("Completion, median") == ["2.0 s", "1 min ▲ × 30.0 worse"]
    assert row("Energy")[1] == "–"


def test_utilisation_is_not_judged_between_clusters_of_different_size():
    document = CASES["what if"]()
    for run, mean in zip(document["runs"], (0.9, 0.7), strict=True):
        run["utilisation"]["mean"] = mean
    page = Page(render(document))
    assert page.tables["Differences at a glance"][1][2] == "70.0 % ▼ −20.0 points not judged"
    assert "clusters of different size" in page.text
    document["runs"][1]["devices"] = document["runs"][0]["devices"]
    page = Page(render(document))
    assert page.tables["Differences at a glance"][1][2] == "70.0 % ▼ −20.0 points worse"
    assert "clusters of different size" not in page.text


def test_one_run_has_key_figures_and_nothing_to_compare_with():
    page = page_of("one run")
    assert "Key figures" in page.headings
    assert "Differences at a glance" not in page.tables
    assert "82.3 %" in page.text
    assert not any(word in page.text for word in ("better", "worse", "▲", "▼"))


def test_tables_hold_the_figures_of_the_document():
    document = CASES["one run"]()
    run = document["runs"][0]
    run["wait_s"]["by_class"]["normal"] = {
        "count": 12345,
        "mean": 1.0,
        "p50": 0.0,
        "p95": 11100.0,
        "p99": 103680.0,
        "max": None,
        "never": 3,
    }
    run["services"][0] |= {"attained": 0.99996, "requests": 1234567.0, "p99_ms": None}
    page = Page(render(document))
    waits = {row[0]: row[1:] for row in page.tables["Wait by priority class"]}
    assert waits["Normal"] == ["12,345", "0 s", "3 h 05 min", "1.2 d", "–", "3"]
    assert list(waits)[2:4] == ["Emergency rescue", "Low-altitude flight"], "highest class first"
    services = {row[0]: row[1:] for row in page.tables["Services"]}
    assert services["airspace-detect"][2:6] == ["100 ms", "1,234,567", "99.99 %", "–"]
    raw = {row[0]: row[1:] for row in page.tables["All figures as they stand in the JSON document"]}
    assert raw["wait_s.by_class.normal.p95"] == ["11100"]
    assert raw["partial"] == ["false"]
    assert raw["services.airspace-detect.p99_ms"] == ["–"]
    assert raw["fairness.tenants.hospital.weight"] == ["1"]
    assert not any("series" in path for path in raw)


def test_titles_are_those_of_the_language_and_names_stand_in_for_missing_ones():
    document = CASES["one run"]()
    assert "低空飞行" in Page(render(document, lang="zh")).text
    del document["titles"]["classes"]["low-altitude"]
    page = Page(render(document, lang="zh"))
    assert any(row[0] == "low-altitude" for row in page.tables[Words("zh")("fig.wait_class")])


def test_names_are_escaped_and_kept_whole_where_the_runs_are_listed():
    document = CASES["hostile names"]()
    text, page = text_of("hostile names"), page_of("hostile names")
    assert "script" not in page.tags
    assert "<script>alert('x')</script>" in page.text
    assert "\x00" not in text
    assert any(document["runs"][1]["name"] in row[0] for row in page.tables["What was run"])


def test_a_gap_breaks_the_line_and_a_point_alone_is_a_dot():
    document = simulated_documents.document(simulated_documents.run("easy", seed=1, services=0))
    series = document["runs"][0]["utilisation"]["series"]
    series["t_s"], series["used"] = [0, 60, 120, 180, 240, 300], [0.5, 0.5, None, 0.7, None, 0.0]
    used = next(svg for svg in drawings(render(document)) if "Utilisation." in svg.get("aria-label", ""))
    assert len([path for path in used.iter("path") if "line" in path.get("class", "")]) == 1
    assert len(list(used.iter("circle"))) == 2


def test_a_long_series_is_thinned_without_losing_its_peak():
    document = simulated_documents.document(simulated_documents.run("easy", seed=1, services=0))
    series = document["runs"][0]["utilisation"]["series"]
    series["t_s"] = [float(at) for at in range(20_000)]
    series["waiting_jobs"] = [100.0 if at == 9_999 else 10.0 for at in range(20_000)]
    waiting = next(svg for svg in drawings(render(document)) if "Jobs waiting." in svg.get("aria-label", ""))
    (path,) = (path for path in waiting.iter("path") if "line" in path.get("class", ""))
    heights = [float(point.split()[1]) for point in re.split("[ML]", path.get("d", ""))[1:]]
    top = min(float(rule.get("y1", "")) for rule in waiting.iter("line") if rule.get("class") == "grid")
    assert len(heights) <= 500
    assert min(heights) == top
    assert heights.count(top) == 1


def test_two_runs_share_a_chart_and_more_have_strips_with_the_first_behind_them():
    def ghosts(name: str) -> int:
        return text_of(name).count('class="line ghost"')

    assert ghosts("compared") == 0
    assert ghosts("four runs") > 0
    text = text_of("four runs")
    for slot in range(4):
        assert f'class="line s{slot}"' in text
        assert f'fill="url(#fill-{slot})"' in text


def test_of_many_services_the_worst_are_drawn_and_all_are_listed():
    document = simulated_documents.document(simulated_documents.run("easy", seed=1, services=9, points=20))
    for place, service in enumerate(document["runs"][0]["services"]):
        service |= {"name": f"service-{place}", "attained": 0.5 + place / 20}
    page = Page(render(document))
    assert [heading for heading in page.headings if heading.startswith("service-")] == [
        f"service-{n}" for n in range(6)
    ]
    assert len(page.tables["Services"]) == 10
    assert "the 6 services of 9" in page.text


@pytest.mark.parametrize(
    ("document", "lang", "says"),
    [
        (CASES["one run"]() | {"schema": "suanli/bench/1"}, "en", "schema is 'suanli/bench/1'"),
        (CASES["one run"]() | {"runs": []}, "en", "holds no run"),
        (CASES["one run"](), "fr", "not in 'fr'"),
    ],
)
def test_what_is_not_a_simulated_run_is_refused_with_the_reason(document, lang, says):
    with pytest.raises(ValueError, match=says):
        render(document, lang=lang)


def test_both_languages_have_the_same_places_for_values():
    english, chinese = Words("en"), Words("zh")
    for key in keys():
        assert sorted(re.findall(r"{\w+}", english(key))) == sorted(re.findall(r"{\w+}", chinese(key))), key


NUMBERS = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.integers(0, 10**12) | st.floats(0, 1)
NAMES = st.text(max_size=12) | st.sampled_from(["<b>", "&amp;", "'\"", "]]>", "</svg>", "\x00"])


@st.composite
def disturbed(draw):
    """A plausible document with numbers, nulls and texts of any kind in some places, lists cut short, keys too
    many, and parts that are missing. What goes in is drawn one by one, where it goes from a seed."""
    names = draw(st.lists(NAMES, min_size=1, max_size=3))
    numbers = itertools.cycle(draw(st.lists(NUMBERS, min_size=1, max_size=12)))
    texts = itertools.cycle(draw(st.lists(NAMES, min_size=1, max_size=6)))
    often = draw(st.sampled_from([0.02, 0.2, 0.7]))
    rng = random.Random(draw(st.integers(0, 2**32)))

    def disturb(value, depth=0):
        hit = rng.random() < often
        if isinstance(value, dict):
            items = {key: disturb(item, depth + 1) for key, item in value.items()}
            return items | {next(texts): next(numbers)} if hit and depth > 2 else items
        if isinstance(value, list):
            items = [disturb(item, depth + 1) for item in value]
            return items[: rng.randint(0, len(items))] if hit else items
        if isinstance(value, str):
            return next(texts) if hit else value
        return next(numbers) if hit and not isinstance(value, bool) else value

    runs = [disturb(simulated_documents.run(name, seed=1, points=6, services=1)) for name in names]
    document = simulated_documents.document(*[simulated_documents.run("any", seed=1, points=2)])
    document |= {"runs": runs, "about": disturb(document["about"])}
    for part in draw(st.sets(st.sampled_from(["titles", "classes"]))):
        del document[part]
    return document


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(document=disturbed(), lang=st.sampled_from(LANGUAGES))
def test_whatever_a_document_holds_the_page_is_whole_and_its_charts_are_xml(document, lang):
    text = render(document, lang=lang)
    text.encode("utf-8")
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    for drawn in drawings(text):
        for element in drawn.iter():
            for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "d"):
                assert "nan" not in element.get(name, "")
                assert "inf" not in element.get(name, "")
