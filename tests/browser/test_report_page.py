"""report.html in a real browser: on paper no column is cut, in the dark charts are dark, on a phone it fits."""

import re
from pathlib import Path

import pytest
from factory import make_run

from opbench.documents import read
from opbench.report import markdown
from opbench.report.dashboard.site import write_site
from opbench.schema import Run

DEFAULT = Path(__file__).parents[2] / "results" / "xeon-2core" / "default" / "run.json"
# A4 upright between the margins, in pixels of CSS.
PAPER = {"width": 703, "height": 1032}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return written(make_run(), tmp_path_factory.mktemp("report"))


def written(run, folder):
    path = folder / "report.html"
    path.write_bytes(markdown.report(run)[markdown.PAGE])
    return path


@pytest.fixture
def tab(chromium, report):
    complaints = []

    def start(**context):
        page = chromium.new_context(**context).new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(report.as_uri())
        return page

    yield start
    assert complaints == []


def sheets(page):
    """How many sheets it prints on."""
    return len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4", prefer_css_page_size=True)))


@pytest.mark.nightly
def test_it_prints_on_no_more_sheets_than_the_dashboard(chromium, browse, tmp_path, capsys):
    page = chromium.new_page()
    page.goto(written(read(DEFAULT, Run), tmp_path).as_uri())
    site = write_site(DEFAULT.parent, tmp_path / "site").page
    found = sheets(page), sum(sheets(browse(site).open(view).page) for view in ("overview", "compare", "proof"))
    with capsys.disabled():
        print(f"\nthe report prints on {found[0]} sheets, the same views of the dashboard on {found[1]}")
    assert 1 < found[0] <= found[1]


def test_no_column_is_cut_on_paper(tab):
    page = tab(viewport=PAPER)
    page.emulate_media(media="print")
    cut = page.evaluate(
        "[...document.querySelectorAll('table, pre, svg')].filter((one) => one.checkVisibility())"
        ".filter((one) => one.getBoundingClientRect().right > innerWidth + 1 ||"
        " one.tagName === 'PRE' && one.scrollWidth > one.clientWidth + 1).length"
    )
    assert cut == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER["width"]


def test_charts_follow_a_dark_ground(tab):
    ground = "getComputedStyle(document.querySelector('svg > rect')).fill"
    ink = "getComputedStyle(document.querySelector('svg text')).fill"
    light, dark = (tab(color_scheme=scheme) for scheme in ("light", "dark"))
    assert light.evaluate(ground) == "rgb(255, 255, 255)"
    assert dark.evaluate(ground) == dark.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark.evaluate(ink) == dark.evaluate("getComputedStyle(document.body).color")
    dark.emulate_media(media="print")
    assert dark.evaluate(ground) == "rgb(255, 255, 255)"


def test_a_phone_scrolls_tables_and_not_the_page(tab):
    page = tab(viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.querySelector('h1').getBoundingClientRect().top") < 60


def test_an_address_opens_what_is_folded(tab, report):
    page = tab()
    name = page.evaluate("document.querySelector('details.section h3').id")
    page.goto(f"{report.as_uri()}#{name}")
    page.wait_for_function("document.querySelector('details.section').open")
