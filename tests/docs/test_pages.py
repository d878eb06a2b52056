"""What stands in the pages is true of the package: commands, options, links, tables; and every block runs."""

import re

import pytest
from declared_words import calls, fault, option_fault
from pages import NOT_RUN, PAGES, ROOT, anchors, blocks, links, slug, spans
from running import Reader, is_run

import opbench.report.readme as generated

ZH = ROOT / "docs" / "zh"


def has_code(block):
    return block.language in ("bash", "sh", "python")


EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
CHINESE = {page: ROOT / "docs" / page.relative_to(ZH) for page in PAGES if ZH in page.parents}
CHINESE[ROOT / "README.zh-CN.md"] = ROOT / "README.md"
# The Chinese pages show the same code, as another test holds.
WITH_CODE = [page for page in PAGES if page not in CHINESE and any(map(has_code, blocks(page)))]
# Two stand for all of them in the default run; `nox -s docs` runs every one.
STAND_FOR_ALL = (ROOT / "README.md", ROOT / "docs" / "how-to" / "add-a-workload.md")


@EACH_PAGE
def test_every_command_of_a_block_exists_with_its_options(page):
    found = [
        f"{page.relative_to(ROOT)}:{call.line}: {said}"
        for block in blocks(page)
        if block.language in ("bash", "sh")
        for call in calls(block)
        if (said := fault(call.text))
    ]
    assert not found, "\n".join(found)


@EACH_PAGE
def test_every_command_and_option_in_the_text_exists(page):
    # What was renamed once stays in the history of changes.
    if page.name == "CHANGELOG.md":
        pytest.skip("speaks of earlier versions")
    found = []
    for line, span in spans(page):
        said = fault(span) or (option_fault(span.split()[0]) if re.match(r"--[a-z]", span) else None)
        if said:
            found.append(f"{page.relative_to(ROOT)}:{line}: {said}")
    assert not found, "\n".join(found)


@EACH_PAGE
def test_every_link_leads_somewhere(page):
    found = []
    for line, target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path) if path else page
        if not place.exists():
            found.append(f"{page.relative_to(ROOT)}:{line}: {target} leads nowhere")
        elif anchor and place.suffix == ".md" and not known_anchor(place, anchor):
            found.append(f"{page.relative_to(ROOT)}:{line}: {target}: there is no such heading")
    assert not found, "\n".join(found)


def known_anchor(place, anchor):
    if anchor in anchors(place):
        return True
    import declared

    parts = re.findall(r"<!-- declared: ([a-z-]+) -->", place.read_text(encoding="utf-8"))
    headings = [found for part in parts for found in re.findall(r"^#+ (.*)$", declared.part(part), re.MULTILINE)]
    return anchor in map(slug, headings)


@EACH_PAGE
def test_every_generated_table_is_up_to_date(page):
    text = page.read_text(encoding="utf-8")
    lang = "zh" if page in CHINESE else "en"
    assert generated.update(text, lambda name: generated.document(page.parent / name), lang) == text


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_chinese_page_shows_the_code_of_the_english_one(page):
    """But for comments and docstrings."""

    def code(of):
        kept = [re.sub(r'  # .*|""".*?"""', "", block.text) for block in blocks(of) if block.language != "text"]
        return [text for text in kept if text]

    assert code(page) == code(CHINESE[page])


@EACH_PAGE
def test_a_page_of_the_first_screen_is_short(page):
    if page.name.startswith("README"):
        assert page.stat().st_size <= 10_240


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[] if page in STAND_FOR_ALL else [pytest.mark.pages]) for page in WITH_CODE],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_block_of_a_page_runs(page, tmp_path, request, record_property):
    """In order, in one folder. Blocks that are only parsed are listed at the end of the session, by page."""
    reader = Reader(tmp_path)
    for block in blocks(page):
        if is_run(block, request.config.getoption("--nightly")):
            reader.follow(block)
        elif marks := [word for word in block.words if word in NOT_RUN]:
            record_property("not run", f"{block.where} ({', '.join(marks)})")


def test_every_outcome_is_explained():
    import declared

    page = (ROOT / "docs" / "reference" / "outcomes.md").read_text(encoding="utf-8")
    table = page[: page.index("## Why timing stopped")]
    assert re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE) == list(declared.outcomes())


def test_every_quantity_that_a_change_may_be_allowed_of_is_explained():
    from opbench.analyse.compare.nouns import QUANTITIES

    page = (ROOT / "docs" / "how-to" / "what-turns-a-ci-red.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE) == list(QUANTITIES)
