"""The dashboard in a real browser: every view opens, filters, sorts, links and prints, and nothing leaves the page."""

import re
import time

import pytest
from histories import RUNS, STEP_AT, write_hostile, write_many
from hostile import EVIL

from opbench.analyse.claims.nouns import Answer
from opbench.analyse.history.store import read
from opbench.report.dashboard.site import write_site
from opbench.run_request import row_command

# Beside them stands "devices" where a folder has several machines or contributed results.
VIEWS = ("overview", "compare", "shapes", "roofline", "trends", "difference", "proof", "claims", "runs")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    write_hostile(folder / "results")
    evil = Answer(*[EVIL] * 5)
    return write_site(folder / "results", folder / "site", lambda runs: [evil])[0]


def choose(page, control, value):
    page.page.select_option(f"#{control}", value)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_opens_from_a_file_with_names_for_everything(page, view):
    page.open(view)
    assert page.page.locator("main h2").count() >= 1
    assert page.page.locator("nav a[aria-current=page]").count() == 1
    for selector, wanted in (
        ("main table", "caption"),
        ("main svg[role=img]", "title"),
        ("main svg[role=img]", "desc"),
    ):
        missing = page.page.evaluate(
            "([selector, wanted]) => [...document.querySelectorAll(selector)].filter("
            "(node) => !node.querySelector(':scope > ' + wanted)?.textContent.trim()).length",
            [selector, wanted],
        )
        assert missing == 0
    assert page.page.locator("main th:not([scope])").count() == 0
    unnamed = "[...document.querySelectorAll('select, input')].filter((node) => !node.labels.length).length"
    assert page.page.evaluate(unnamed) == 0
    assert page.page.locator("main table, main .empty").count() >= 1


@pytest.mark.parametrize("view", [view for view in VIEWS if view != "claims"])
def test_a_view_of_a_single_record_says_what_it_can(browse, single, view):
    page = browse(single).open(view)
    said = page.page.locator("main").inner_text()
    needs = {"trends": "needs a case in two runs", "difference": "needs two runs", "roofline": "multiplies"}
    assert needs.get(view, "nearest[torch]" if view != "runs" else "opbench run --suite smoke") in said


def test_a_page_without_claims_has_no_such_view(browse, single):
    page = browse(single).open()
    assert not {"Claims", "Devices"} & set(page.texts("nav a"))


def test_machines_stand_side_by_side_by_their_yardsticks(page):
    page.open("devices")
    heads, rows = page.texts("main thead th"), page.texts("main tbody tr")
    assert heads[:3] == ["machine", "status", "copy cpu float32"]
    assert len(rows) == 2
    assert all("not contributed" in row and "14.1 GB/s" in row for row in rows)


def test_the_first_screen_says_what_each_operator_costs(page):
    page.open()
    box = page.page.locator("#answer li").first.bounding_box()
    assert box["y"] + box["height"] < 400
    cells = page.texts(".glance tr.subject:first-of-type > *") or page.texts(".glance tr.subject > *")
    assert "carafe" in cells[0]
    assert "74,148" in " ".join(cells)
    tables = page.page.locator("table.contest")
    assert tables.count() == 6
    assert re.search(r"2\.9\dx \[2\.9\d, 3\.\d+\]|3\.0\dx \[", tables.first.inner_text() + tables.nth(3).inner_text())


def test_the_overview_begins_with_what_failed_and_what_the_last_runs_made_worse(page):
    page.open()
    failed, memory, *moved = page.texts(".news li")
    assert (failed, memory) == ("1 incorrect", "1 out-of-memory")
    assert [text.partition(" on ")[2].partition(",")[0] for text in moved] == [
        "Example CPU @ 2.10GHz (2 threads)",
        "Other CPU @ 3.00GHz (4 threads)",
    ]
    assert "no regression: 18 undecided" in moved[0]
    assert "REGRESSED: 9 regressed" in moved[1]
    page.page.click(".news a:has-text('incorrect')")
    page.settle("document.querySelector('main').dataset.view === 'proof'")
    assert len(page.texts("main table:has(caption:has-text('Every')) tbody tr")) == 1


@pytest.mark.parametrize("name", ["constructor", "__proto__", "toString", "%E0%A4%A", "?", "claims?sort=__proto__"])
def test_no_address_breaks_the_page(page, name):
    page.open()
    page.page.evaluate("name => { location.hash = name; }", name)
    page.settle("document.title.endsWith(' · opbench')")
    assert page.page.evaluate("document.querySelector('main').dataset.view") in ("overview", "claims")
    assert page.page.title() in ("Overview · opbench", "Claims · opbench")


def test_a_filter_narrows_the_rows_and_its_address_restores_it(page):
    page.open("compare")
    page.page.click("#machines a:has-text('Other CPU')")
    page.settle("location.hash.includes('Other')")
    choose(page, "filter-workload", "neck-40")
    page.settle("location.hash.includes('neck-40')")
    before = page.texts("main tbody tr")
    assert len(before) == 4
    assert page.page.locator("main figure").count() == 1
    page.reload()
    assert page.texts("main tbody tr") == before
    assert page.page.input_value("#filter-workload") == "neck-40"
    page.page.click("#reset")
    page.settle("document.querySelectorAll('main tbody tr').length > 4")
    assert page.hash == "#compare"


def test_the_search_takes_words_in_any_order_and_keeps_the_keyboard(page):
    page.open("proof")
    page.page.locator("#filter-text").press_sequentially("NECK-80 carafe")
    page.settle("location.hash.includes('carafe')")
    assert {row.split("neck")[0] for row in page.texts("main tbody tr")} == {"carafe[cpu]"}
    assert page.page.evaluate("document.activeElement.id") == "filter-text"
    page.page.fill("#filter-text", "no such thing")
    page.settle("document.querySelector('main .empty')")
    assert "No case matches" in page.page.locator("main .empty").inner_text()


def test_a_value_that_the_page_lacks_is_shown_as_such(page):
    page.open("overview?workload=%3Cb%3Egone%3C%2Fb%3E")
    assert "not on this page" in page.texts("#filter-workload option")[-1]
    assert page.page.locator("main .empty").count() == 1


def test_an_unknown_view_is_the_overview(page):
    page.page.goto(f"{page.address}#nowhere?task=x")
    page.page.wait_for_selector('main[data-view="overview"]')


def test_columns_sort_by_number_up_and_down_and_back(page):
    page.open("compare?task=upsample2x&workload=neck-20&machine=Example+CPU+%40+2.10GHz+%282+threads%29")
    head = page.page.locator("#sort-params")
    orders = []
    for spoken in ("ascending", "descending", "none"):
        head.press("Enter")
        page.settle(f"document.querySelector('#sort-params').closest('th').ariaSort === '{spoken}'")
        assert page.page.evaluate("document.activeElement.id") == "sort-params"
        orders.append([row.split("neck-20")[0] for row in page.texts("main tbody tr")])
    assert orders[0] == [
        "nearest[torch]",
        "bilinear[torch]",
        "carafe[cpu]",
        "deconv[torch]",
        "carafe[mine]",
        "dysample[torch]",
    ]
    assert orders[1][:2] == ["deconv[torch]", "carafe[cpu]"]
    assert orders[1][-2:] == ["carafe[mine]", "dysample[torch]"]  # what has no number stays last
    page.page.go_back()
    page.settle("document.querySelector('#sort-params').closest('th').ariaSort === 'descending'")
    page.reload()
    assert [row.split("neck-20")[0] for row in page.texts("main tbody tr")] == orders[1]


def test_rows_without_a_value_sort_last_either_way(page):
    for direction in ("asc", "desc"):
        page.open(f"compare?task=*&sort=spread+{direction}")
        tasks = [row.startswith(("conv3x3", "dcnv3")) for row in page.texts("main tbody tr")]
        assert tasks == sorted(tasks, reverse=True)
        assert {True, False} == set(tasks)


def test_bars_can_show_another_quantity(page):
    page.open("compare?task=upsample2x&mode=training")
    choose(page, "metric", "peak")
    page.settle("location.hash.includes('metric=peak')")
    assert "peak memory above inputs and parameters" in page.page.locator("main figcaption").first.inner_text()


def test_each_chart_is_of_one_machine_and_says_which(page):
    page.open("compare?task=upsample2x&mode=inference&machine=*")
    assert "from several machines" in page.page.locator("main").inner_text()
    captions = page.texts("main figcaption")
    assert len(captions) == 6
    assert all(("Other CPU" in caption) != ("Example CPU" in caption) for caption in captions)


def test_links_lead_from_an_operator_to_its_shapes_and_keep_shared_filters(page):
    page.open("overview?task=upsample2x")
    page.page.click(".glance tr.subject a")
    page.page.wait_for_selector('main[data-view="shapes"]')
    assert page.page.input_value("#filter-contender") == "carafe[cpu]"
    assert page.page.locator("main figure", has_text="Scaling with input height H, pixels").count() >= 1
    page.page.click("nav a:has-text('Proof')")
    page.page.wait_for_selector('main[data-view="proof"]')
    assert page.page.input_value("#filter-task") == "upsample2x"


def test_a_trend_marks_the_step_the_spike_and_what_changed_with_it(page):
    page.open("trends?case=upsample2x/neck-40/float32/cpu/inference/carafe[cpu]")
    figure = page.page.locator("main figure").first
    assert "neck-40" in figure.inner_text()
    assert len(page.texts("main figure .step-text")) == 1
    assert re.search(r"▲ \+(49|5\d)", page.texts("main figure .step-text")[0])
    assert page.page.locator("main figure .ring").count() == 1
    assert page.texts("main figure .marker text") == ["torch 2.6.0 -> 2.7.0"]
    assert page.page.locator("main figure .mark").count() == RUNS
    rows = [
        row
        for row in page.texts("main table:has(caption:has-text('Steps')) tbody tr")
        if "neck-40/float32/cpu/inference" in row
    ]
    assert any("latency against the baseline" in row and "torch 2.6.0 -> 2.7.0" in row for row in rows)
    choose(page, "trend-quantity", "peak_bytes")
    page.settle("location.hash.includes('peak_bytes')")
    assert page.texts("main figure .step-text") == ["▲ +25.0 %"]


def test_the_difference_of_neighbours_is_the_gates_verdict(page):
    page.open("difference?head=bench-01/004/run.json")
    assert page.page.locator("main .verdict").inner_text().startswith("REGRESSED: 6 regressed")
    assert page.texts("main tbody tr")[0].startswith("carafe[cpu]")


def test_any_two_runs_stand_side_by_side_without_a_verdict(page):
    page.open(f"difference?base=bench-01/000/run.json&head=bench-01/{STEP_AT + 2:03d}/run.json")
    assert page.page.locator("main .verdict").count() == 0
    assert "not a verdict: nothing here was tested" in page.page.locator("main").inner_text()
    assert "peak 400 KiB -> 500 KiB" in page.texts("main tbody tr")[0]
    page.open("difference?base=bench-02/003/run.json&head=bench-01/003/run.json")
    assert "their times are not compared" in page.page.locator("main").inner_text()
    assert all("not compared" in row for row in page.texts("main table:has(caption:has-text('Figures')) tbody tr"))


def test_the_proof_names_each_failure_and_can_be_narrowed_to_it(page):
    page.open("proof?machine=Example+CPU+%40+2.10GHz+%282+threads%29")
    failures = page.texts("main table:has(caption:has-text('Failures')) tbody tr")
    assert len(failures) == 2
    assert "output[0, 3, 2, 1]: expected 0.25, got 0.75," in failures[0]
    assert "asked for 96 GiB" in failures[1]
    page.page.click(".tally a:has-text('incorrect')")
    page.settle("location.hash.includes('outcome=incorrect')")
    assert [row[:12] for row in page.texts("main table:has(caption:has-text('Every')) tbody tr")] == ["carafe[mine]"]
    assert "13.2x the bound" in page.page.locator("main").inner_text()


def test_a_run_shows_its_command_and_the_one_of_each_row(page, history):
    page.open("runs?runPath=bench-01/003/run.json")
    assert page.texts("main pre")[0] == "opbench run --suite smoke --seed 3"
    run = next(one.run for one in read(history.parent.parent / "results").runs if one.path == "bench-01/003/run.json")
    assert set(page.texts("#commands")[0].split("\n")) == {row_command(run, record.case) for record in run.records}
    assert "bench-01" in page.texts("main table:has(caption:has-text('Environment')) tbody tr")[0]


def test_claims_are_counted_and_listed(page):
    page.open("claims")
    assert page.texts(".tally li") == ["1 refuted", "1 confirmed", "1 undecided"]
    assert [row.split(" ")[0] for row in page.texts("main tbody tr")] == ["CARAFE", "DCNv3", "softmax"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browse, history, scheme):
    page = browse(history, color_scheme=scheme).open("proof")
    colours = page.page.evaluate(
        "['body', '.note', 'a', 'td.bad', 'thead th'].map((name) => getComputedStyle(document.querySelector("
        "name === 'a' ? 'main .tally a' : name)).color).concat(getComputedStyle(document.body).backgroundColor)"
    )
    *texts, ground = [luminance(colour) for colour in colours]
    assert (ground < 0.1) == (scheme == "dark")
    for text in texts:
        assert (max(text, ground) + 0.05) / (min(text, ground) + 0.05) >= 4.5


def luminance(colour):
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_prints_without_its_controls_and_on_white(browse, history, view):
    page = browse(history, color_scheme="dark").open(view)
    assert page.page.pdf(format="A4").startswith(b"%PDF")
    page.page.emulate_media(media="print")
    assert not page.page.locator("nav").is_visible()
    assert page.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("view", VIEWS)
def test_a_narrow_screen_scrolls_tables_not_the_page(browse, history, view):
    page = browse(history, viewport={"width": 360, "height": 700}).open(view)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("view", ["compare", "shapes", "roofline", "trends"])
def test_no_text_of_a_chart_is_cut_by_its_edge(page, view):
    page.open(view)
    outside = page.page.evaluate(
        "[...document.querySelectorAll('main figure svg text')].filter((text) => {"
        " const a = text.getBoundingClientRect(), b = text.ownerSVGElement.getBoundingClientRect();"
        " return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1;"
        "}).map((text) => text.textContent)"
    )
    assert outside == []


def test_the_keyboard_reaches_everything_and_sees_where_it_is(page):
    page.open("compare")
    page.reload()
    page.page.keyboard.press("Tab")
    assert page.page.evaluate("document.activeElement.id") == "skip"
    seen = []
    for _ in range(40):
        page.page.keyboard.press("Tab")
        seen.append(page.page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        assert page.page.evaluate("document.activeElement.matches('body, :focus-visible')"), seen[-1]
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert seen[-1] == "BODY" or page.page.evaluate(outline) == "solid", seen[-1]
    assert {"A", "filter-task", "filter-text", "metric", "sort-contender"} <= set(seen)


@pytest.mark.parametrize("view", VIEWS)
def test_a_hostile_folder_stays_inert(browse, hostile, view):
    page = browse(hostile).open(view)
    assert page.page.locator("img, iframe, object, embed, main script, main style, main form").count() == 0
    assert page.page.locator("script").count() == 3  # what comes first, the data, and the modules as one
    links = "all => all.map((link) => link.getAttribute('href'))"
    assert all(href.startswith("#") for href in page.page.eval_on_selector_all("a", links))
    inline = (
        "[...document.querySelectorAll('*')].flatMap((node) => [...node.attributes])"
        ".filter((one) => /^on|^style$/.test(one.name)).length"
    )
    assert page.page.evaluate(inline) == 0
    text = page.page.locator("main").inner_text()
    assert "\u202e" not in text
    assert "\x1b" not in text
    if view != "trends":
        assert "<script>alert(1)" in page.page.locator("body").inner_text()


def test_every_document_that_is_not_shown_is_listed_with_its_reason(browse, hostile):
    page = browse(hostile).open("runs")
    rows = page.texts("main table:has(caption:has-text('not shown')) tbody tr")
    said = "\n".join(rows)
    for words in (
        "schema_version 99 is newer",
        "cut short",
        "the file is empty",
        "missing required field",
        "malformed",
        "a case that stood before",
    ):
        assert words in said
    assert len(rows) == 7
    assert "onerror" in page.open().page.locator(".problems").text_content()


def test_the_policy_lets_no_script_in(browse, single, tmp_path):
    altered = tmp_path / "index.html"
    altered.write_text(single.read_text().replace("</footer>", "</footer><script>document.title = 'owned'</script>"))
    page = browse(altered).open()
    assert page.page.title() == "Overview · opbench"
    assert any("Content Security Policy" in complaint for complaint in page.complaints)
    page.complaints.clear()


@pytest.mark.nightly
def test_ten_thousand_records_build_open_and_filter(browse, tmp_path, record_property):
    write_many(tmp_path / "results")
    began = time.perf_counter()
    site, said = write_site(tmp_path / "results", tmp_path / "site")
    built = time.perf_counter() - began
    assert said == ()
    page = browse(site)
    began = time.perf_counter()
    page.open("compare?runPath=*")
    opened = time.perf_counter() - began
    began = time.perf_counter()
    choose(page, "filter-workload", "size-3")
    page.settle("location.hash.includes('size-3')")
    filtered = time.perf_counter() - began
    slowest = {}
    for view in VIEWS:
        if view != "claims":
            began = time.perf_counter()
            page.open(view)
            slowest[view] = time.perf_counter() - began
    name = max(slowest, key=slowest.get)
    assert "10,000 rows" in page.page.locator("#scope").inner_text()
    assert site.stat().st_size < 8 << 20
    record_property(
        "dashboard",
        f"10,000 records: built in {built:.1f} s, {site.stat().st_size / 2**20:.1f} MiB, "
        f"opened in {1000 * opened:.0f} ms, filtered in {1000 * filtered:.0f} ms, "
        f"slowest view {name} in {1000 * slowest[name]:.0f} ms",
    )
