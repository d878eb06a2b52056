"""report.html: the report in one file, inert, self-contained, the same bytes every time."""

import re
from html.parser import HTMLParser

import pytest
from factory import make_case, make_record, make_run
from hostile import EVIL, make_hostile_run

from opbench import documents
from opbench.report import markdown
from opbench.report.page import POLICY, inlined, page

VOID = {"meta", "br", "hr", "img", "link"}


class Elements(HTMLParser):
    """Every element with its attributes, the texts, and whether each is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def files():
    return markdown.report(make_run())


@pytest.fixture(scope="module")
def parsed(files):
    return Elements(files["report.html"].decode())


def small_run():
    return make_run([make_record(make_case()), make_record(make_case("carafe[cpu]"), ratio=3.0)])


def test_every_element_is_closed_in_order(parsed):
    assert parsed.open == []


def test_every_chart_and_every_table_of_the_markdown_is_in_it(files, parsed):
    tags = [tag for tag, _ in parsed.found]
    text = files["report.md"].decode()
    assert tags.count("svg") == len([name for name in files if name.endswith(".svg")]) > 10
    assert tags.count("table") == len(re.findall(r"^\| ---", text, re.MULTILINE))
    assert "img" not in tags


def test_a_chart_has_a_name_for_who_does_not_see_it(parsed):
    labels = [attributes["aria-label"] for tag, attributes in parsed.found if tag == "svg"]
    assert all(labels)
    assert len(set(labels)) == len(labels)


def test_nothing_is_fetched_and_nothing_runs(parsed):
    policies = [a["content"] for tag, a in parsed.found if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [POLICY]
    assert "default-src 'none'" in POLICY
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in parsed.found}
    for _, attributes in parsed.found:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
        assert attributes.get("href", "#").startswith("#")


def test_every_link_of_the_navigation_has_a_target(parsed):
    targets = {attributes["id"] for _, attributes in parsed.found if "id" in attributes}
    links = [attributes["href"].removeprefix("#") for tag, attributes in parsed.found if tag == "a"]
    assert links
    assert set(links) <= targets
    ids = [attributes["id"] for _, attributes in parsed.found if "id" in attributes]
    assert len(set(ids)) == len(ids), "clip paths of two charts would cut each other"


def test_clip_paths_of_two_charts_are_told_apart():
    svg = '<svg><defs><clipPath id="part0"/></defs><g clip-path="url(#part0)"/></svg>'
    text = page("![a](a.svg) ![b](b.svg)", {"a.svg": svg, "b.svg": svg}).decode()
    used, known = re.findall(r"url\(#([^)]+)\)", text), re.findall(r'<clipPath id="([^"]+)"', text)
    assert used == known
    assert len(set(known)) == 2


def test_the_same_run_gives_the_same_bytes():
    run = small_run()
    again = markdown.report(documents.parse(documents.render(run)))
    assert again["report.html"] == markdown.report(run)["report.html"]


def test_a_hostile_run_stays_text():
    text = markdown.report(make_hostile_run())["report.html"].decode()
    elements = Elements(text)
    assert not {"script", "img", "iframe"} & {tag for tag, _ in elements.found}
    for _, attributes in elements.found:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("href", "#").startswith("#")
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<script>alert(1)</script>" in "".join(elements.texts), "shown as text"


def test_raw_html_in_the_markdown_is_text_and_an_unknown_picture_is_words():
    text = page("# t <b>x</b>\n\n<script>alert(1)</script>\n\n![a <b>](nowhere.svg)", {}).decode()
    assert "<script>" not in text
    assert "<b>" not in text
    assert "<em>a &lt;b&gt;</em>" in text


def test_a_chart_is_named_by_its_words_whatever_they_are():
    svg = '<svg width="1"><defs><clipPath id="part0"/></defs><g clip-path="url(#part0)"/></svg>'
    found = inlined(svg, 'a "b" <c>', 7)
    assert 'aria-label="a &quot;b&quot; &lt;c&gt;"' in found
    assert 'id="c7-part0"' in found
    assert "url(#c7-part0)" in found
    assert EVIL not in inlined(svg, EVIL, 0)


def test_title_and_opening_stand_before_the_contents(parsed, files):
    tags = [tag for tag, _ in parsed.found]
    assert tags.index("h1") < tags.index("pre") < tags.index("nav") < tags.index("h2")


def test_an_anchor_is_made_of_the_heading_and_stays_when_sections_are_added():
    text = "# t\n\n## One\n\n### a\n\n## Two\n\n### a\n\n### a\n"
    more = text.replace("## Two", "## Between\n\n### a\n\n## Two")
    found, again = (re.findall(r'<h[123] id="([^"]+)"', page(one, {}).decode()) for one in (text, more))
    assert found == ["t", "one", "one--a", "two", "two--a", "two--a-2"]
    assert [name for name in again if "between" not in name] == found


def test_every_heading_leads_to_itself(parsed):
    ids = {attributes["id"] for tag, attributes in parsed.found if tag in ("h2", "h3")}
    own = {attributes["href"][1:] for tag, attributes in parsed.found if attributes.get("class") == "here"}
    assert own == ids


def test_details_are_folded_and_everything_else_is_not(files):
    text = files["report.html"].decode()
    folded = re.findall(r'<details class="section"><summary><h2 id="([^"]+)"', text)
    assert folded == ["every-panel", "macs-counted-three-ways"]
    assert text.count("<details") == text.count("</details>") == 3


def test_a_long_text_may_break_anywhere():
    text = page(f"| a | b |\n| --- | --- |\n| x | {'f' * 64} |\n", {}).decode()
    assert f'<td class="long">{"f" * 64}</td>' in text
    assert "<td>x</td>" in text


def test_every_colour_of_a_chart_has_its_own_in_the_dark(files):
    drawn = "".join(content.decode() for name, content in files.items() if name.endswith(".svg"))
    colours = set(re.findall(r' (?:fill|stroke)="([^"]+)"', drawn)) - {"none", "transparent"}
    style = files["report.html"].decode().partition("<style>")[2].partition("</style>")[0]
    missing = {colour for colour in colours if f'[fill="{colour}"]' not in style or f'[stroke="{colour}"]' not in style}
    assert not missing
