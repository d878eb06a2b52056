"""What the first view answers: the sentences of its data, above everything else, in the language asked for."""

import pytest
from factory import make_case, make_record, make_run

from opbench import documents
from opbench.analyse.standings import standings
from opbench.report.answer import answer
from opbench.report.dashboard.site import write_site


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_overview_begins_with_the_answer(browse, tmp_path, lang):
    run = make_run([make_record(make_case()), make_record(make_case("carafe[cpu]"), ratio=3.0)])
    documents.save(run, tmp_path / "results" / "run.json")
    page = browse(write_site(tmp_path / "results", tmp_path / "site", lang=lang).page).open()
    assert page.texts("#answer li") == list(answer(standings(run), lang))
    assert page.page.locator("#answer ul").get_attribute("lang") == lang
    first = page.page.locator("#answer").bounding_box()
    assert first["y"] < page.page.locator("main table").first.bounding_box()["y"]


def test_the_answer_is_there_before_any_script_has_run(chromium, single):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(single.as_uri())
    said = page.locator("#answer li").all_text_contents()
    context.close()
    with_script = chromium.new_context().new_page()
    with_script.goto(single.as_uri())
    with_script.wait_for_selector("main[data-view]")
    assert said
    assert with_script.locator("#answer li").all_text_contents() == said


def test_another_view_does_not_begin_with_the_overviews_answer(browse, single):
    page = browse(single).open("compare")
    assert page.page.locator("#answer").count() == 0
    page.open("overview")
    assert page.page.locator("#answer").is_visible()
