"""What a person takes away from the dashboard: tables, commands, links, data; and what stays: the theme."""

import csv
import io
import json

import pytest
from markdown_it import MarkdownIt

EXAMPLE = "Example CPU @ 2.10GHz (2 threads)"


@pytest.fixture
def page(browse, history):
    return browse(history, permissions=["clipboard-read", "clipboard-write"])


def copied(page, selector):
    """What the button leaves in the clipboard."""
    page.page.evaluate("navigator.clipboard.writeText('')")
    page.page.locator(selector).first.click()
    page.settle("document.querySelector('#said').classList.contains('shown')")
    return page.page.evaluate("navigator.clipboard.readText()")


@pytest.mark.parametrize("table", ["#at-cases", "#at-at-a-glance", ".scroll:has(> .contest)"])
def test_a_table_is_copied_as_markdown_and_csv_with_every_row(page, table):
    page.open("compare?task=*&mode=*" if table == "#at-cases" else "overview")
    rows = page.page.locator(f"{table} tbody tr").count()
    where = f"{table} >> nth=0"
    text = copied(page, f"{where} >> button:has-text('Markdown')")
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    assert [token.type for token in tokens].count("table_open") == 1
    body = [token for token in tokens if token.type == "tr_open"]
    lines = list(csv.reader(io.StringIO(copied(page, f"{where} >> button:has-text('CSV')"))))
    assert len(body) == len(lines)
    shown = page.page.locator(f"{where} >> tbody tr").count()
    assert len(lines) - 1 == shown or rows != shown
    if table == "#at-cases":
        assert lines[0][:2] == ["contender", "workload"]
        assert {len(line) for line in lines} == {len(lines[0])}
        assert any(line[-1].startswith("opbench run --suite smoke") for line in lines[1:])


def test_a_command_is_copied(page):
    page.open("runs?runPath=bench-01/003/run.json")
    assert copied(page, "main .command button") == "opbench run --suite smoke --seed 3"
    page.open("compare?workload=neck-20")
    text = copied(page, "main tbody tr:has-text('carafe[cpu]') button")
    assert text.startswith("opbench run --suite smoke --task upsample2x --workload neck-20 --operator carafe")


def test_no_copied_cell_is_a_formula_or_markup(page):
    page.open("overview")
    page.page.evaluate("document.querySelector('.glance tbody tr:nth-child(2) th').textContent = '=cmd|<b>`x`, \"y\"'")
    lines = list(csv.reader(io.StringIO(copied(page, ".glance >> button:has-text('CSV')"))))
    assert '\'=cmd|<b>`x`, "y"' in [line[0] for line in lines]
    text = copied(page, ".glance >> button:has-text('Markdown')")
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert "<b>" not in html
    assert "<code>" not in html


def test_the_data_are_downloaded(page):
    page.open("overview")
    with page.page.expect_download() as download:
        page.page.click("#download-csv")
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8"))))
    assert len(rows) == int(page.texts("#scope")[0].split(" rows")[0].split()[-1].replace(",", ""))
    assert {"contender", "ratio", "params", "machine", "command"} <= set(rows[0])
    with page.page.expect_download() as download:
        page.page.click("#download-json")
    assert json.loads(download.value.path().read_text(encoding="utf-8"))["version"]


def test_a_link_says_what_the_view_opened_on(page):
    page.open("compare?workload=neck-20")
    link = copied(page, "#link")
    hash_ = link.partition("#")[2]
    assert "machine=Example" in hash_
    assert "task=upsample2x" in hash_
    assert "mode=inference" in hash_
    page.open("difference")
    assert "head=" in copied(page, "#link")
    assert "base=" in copied(page, "#link")


def test_a_figure_and_a_table_have_links_that_lead_to_them(page):
    page.open("compare?task=upsample2x")
    hash_ = page.page.locator("#at-cases .here").get_attribute("href")
    assert hash_ == "#compare?task=upsample2x&at=cases"
    page.open(hash_[1:])
    assert page.page.evaluate("document.querySelector('#at-cases').getBoundingClientRect().top") < 400
    page.open("overview?at=conv3x3-stage-3-float32-cpu-offset-spread-8-px")
    box = page.page.locator("#at-conv3x3-stage-3-float32-cpu-offset-spread-8-px").bounding_box()
    assert 0 <= box["y"] < 800


def test_the_glance_is_sorted_by_its_columns(page):
    page.open("overview?task=upsample2x")
    names = ".glance tbody tr:not(.section) th a"
    before = page.texts(names)
    page.page.click("#glance-sort-params")
    page.settle("document.querySelector('#glance-sort-params').closest('th').ariaSort === 'ascending'")
    assert page.texts(names)[-2:] == ["deconv", "dysample"] or page.texts(names)[-1] == "deconv"
    page.page.click("#glance-sort-params")
    page.settle("document.querySelector('#glance-sort-params').closest('th').ariaSort === 'descending'")
    assert page.texts(names)[0] == "deconv"
    page.page.click("#glance-sort-params")
    page.settle("!location.hash.includes('glance-sort')")
    assert page.texts(names) == before


def test_the_theme_is_chosen_and_kept(browse, history):
    page = browse(history, color_scheme="light").open()
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.page.evaluate(ground)
    assert page.texts("#theme") == ["Theme: auto"]
    page.page.click("#theme")
    page.page.click("#theme")
    assert page.texts("#theme") == ["Theme: dark"]
    assert page.page.evaluate(ground) != light
    page.reload()
    assert page.texts("#theme") == ["Theme: dark"]
    page.page.click("#theme")
    assert page.page.evaluate(ground) == light
