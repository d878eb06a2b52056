"""What the dashboard opens on: the newest run's machine, what opbench is about, and runs of one suite."""

import pytest
from factory import make_case, make_record, make_run
from histories import save, write_suites

from opbench.analyse.history.store import read
from opbench.report.dashboard.page import html
from opbench.report.dashboard.payload import payload
from opbench.report.dashboard.site import write_site

EXAMPLE, OTHER = "Example CPU @ 2.10GHz (2 threads)", "Other CPU @ 3.00GHz (4 threads)"
ACCENTED = "[...document.querySelectorAll('main .label.accented')].map((one) => one.textContent)"


@pytest.fixture(scope="module")
def suites(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suites")
    write_suites(folder / "results")
    return write_site(folder / "results", folder / "site")[0]


@pytest.mark.parametrize("view", ["overview", "compare", "shapes", "roofline", "trends", "proof", "runs"])
def test_a_view_opens_on_the_newest_runs_machine_with_the_others_one_click_away(page, view):
    page.open(view)
    assert page.texts("#machines a") == [EXAMPLE, OTHER, "all machines"]
    assert page.texts("#machines a[aria-current]") == [EXAMPLE]
    shown = page.page.locator("main").inner_text()
    news = "\n".join(page.texts(".news li"))
    assert "Other CPU" not in shown.replace(news, "") or view == "overview"
    page.page.click("#machines a:has-text('Other CPU')")
    page.settle("location.hash.includes('Other')")
    assert page.texts("#machines a[aria-current]") == [OTHER]
    assert page.page.locator("main table, main .empty").count()


@pytest.mark.parametrize(
    ("view", "control", "value"),
    [("compare", "filter-task", "upsample2x"), ("roofline", "filter-task", "upsample2x"),
     ("shapes", "filter-contender", "carafe[cpu]")],
)  # fmt: skip
def test_a_view_opens_on_what_opbench_is_about(page, view, control, value):
    page.open(view)
    assert page.page.input_value(f"#{control}") == value


def test_a_choice_that_is_made_is_kept_by_what_a_view_opens_on(page):
    page.open("shapes?task=conv3x3")
    assert page.page.input_value("#filter-contender") == "dcnv3[cpu]"


def test_trends_open_on_what_opbench_is_about(page):
    page.open("trends")
    assert "carafe[cpu]" in page.texts("main figcaption strong")[0]


def test_bars_and_tables_accent_what_opbench_is_about(page):
    page.open("compare?workload=neck-20")
    assert set(page.page.evaluate(ACCENTED)) == {"carafe[cpu]", "carafe[mine]"}
    page.open("overview")
    assert {text.split()[0] for text in page.texts(".glance tr.subject th")} == {"carafe", "dcnv3"}
    assert "shaded: CARAFE and DCNv3" in page.texts(".glance caption")[0]


def test_an_operator_has_one_colour_and_shape_in_every_drawing(page):
    def looks(hash_, where):
        page.open(hash_)
        return page.page.evaluate(
            f"getComputedStyle([...document.querySelectorAll('main {where}')].find((one) => /carafe/.test("
            "(one.querySelector('title') ?? one.parentNode.querySelector('title')).textContent + location.hash)))"
            ".getPropertyValue('--own')"
        )

    seen = {
        looks("compare?workload=neck-20", "figure g > .bar"),
        looks("roofline", "figure .mark"),
        looks("trends?case=upsample2x/neck-40/float32/cpu/inference/carafe[cpu]", "figure .mark"),
        looks("shapes", "figure .mark"),
    }
    assert len(seen) == 1


def test_shapes_that_differ_in_other_dimensions_are_not_joined(browse, page, tmp_path):
    page.open("shapes?contender=carafe[cpu]")
    assert page.page.locator("main figure:has-text('Scaling with input height') .line").count()
    records = [
        make_record(make_case(contender, workload=f"w{size}", dims={"N": 1, "C": 5120 // size, "H": size, "W": size}))
        for size in (20, 40, 80)
        for contender in ("nearest[torch]", "carafe[cpu]")
    ]
    save(make_run(records), tmp_path / "results" / "run.json")
    other = browse(write_site(tmp_path / "results", tmp_path / "site").page).open("shapes")
    least = other.page.locator("main figure:has-text('least traffic')")
    assert least.count() == 1
    assert least.locator(".mark").count() >= 6
    assert least.locator(".line").count() == 0


def test_runs_of_two_suites_are_neither_a_pair_nor_a_trend(browse, suites):
    page = browse(suites).open("difference?base=smoke/2/run.json&head=bench/3/run.json")
    assert "can't be compared: smoke/2/run.json is a run of the suite smoke" in page.page.locator("main").inner_text()
    assert page.page.locator("main table:has(caption:has-text('Figures'))").count() == 0
    page.open("difference")
    assert page.page.input_value("#run-head") == "smoke/2/run.json"
    assert page.page.input_value("#run-base") == "smoke/1/run.json"
    assert len(page.texts("#run-base option")) == 1
    page.page.select_option("#run-head", "bench/3/run.json")
    page.settle("location.hash.includes('bench')")
    said = page.page.locator("main").inner_text()
    assert "this page holds one of bench, and 2 of other suites" in said
    assert "opbench run --suite bench -o RESULTS_DIR/again" in said
    page.open("trends")
    suites_of_points = page.texts("main table:has(caption:has-text('The runs of this series')) tbody td:nth-child(5)")
    assert set(suites_of_points) == {"smoke"}


def test_one_run_says_what_to_do(browse, single):
    for view in ("trends", "difference"):
        page = browse(single).open(view)
        assert "opbench dashboard RESULTS_DIR -o SITE_DIR" in page.texts("main pre")[0]


def test_sentences_of_the_payload_stand_at_the_top(browse, single, tmp_path):
    held = payload(read(single.parent.parent / "results"))
    for sentences in ([], ["One sentence."]):
        held["answers"] = [
            {"machine": one["machine"], "sentences": [len(held["strings"]) + at for at in range(len(sentences))]}
            for one in held["runs"]
            if sentences
        ]
        held["strings"] += sentences
        path = tmp_path / f"{len(sentences)}.html"
        path.write_bytes(html(held))
        assert browse(path).open().texts("#answer li") == sentences
