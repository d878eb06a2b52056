"""The dashboard on a phone: 390 px wide, a finger for a mouse."""

import pytest

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture
def phone(browse, history):
    return browse(history, **PHONE)


def test_the_views_and_filters_are_folded_and_the_first_content_is_on_the_first_screen(phone):
    phone.open("overview")
    phone.reload()
    assert not phone.page.locator("#views").is_visible()
    assert not phone.page.locator("#filters").is_visible()
    box = phone.page.locator("#answer li").first.bounding_box()
    assert box["y"] + box["height"] < 844
    phone.page.tap("#fold-views")
    assert phone.page.locator("#fold-views").get_attribute("aria-expanded") == "true"
    phone.page.tap("#views a:has-text('Proof')")
    phone.settle("document.querySelector('main').dataset.view === 'proof'")
    assert not phone.page.locator("#views").is_visible()
    phone.page.tap("#fold-filters")
    phone.page.fill("#filter-text", "carafe")
    phone.settle("location.hash.includes('carafe')")
    assert phone.page.locator("#filter-text").is_visible(), "typing does not fold what is typed into"
    assert phone.page.locator("#machines").is_visible()


@pytest.mark.parametrize("view", ["overview", "compare", "proof", "runs"])
def test_a_caption_stays_where_its_table_scrolls(phone, view):
    phone.open(view)
    phone.page.evaluate("document.querySelectorAll('.scroll').forEach((one) => { one.scrollLeft = 200; })")
    boxes = phone.page.evaluate(
        "[...document.querySelectorAll('.scroll .told')].map((one) => one.getBoundingClientRect())"
        ".map(({ left, right }) => [left, right])"
    )
    assert boxes
    for left, right in boxes:
        assert left >= 0
        assert right <= 390


@pytest.mark.parametrize("view", ["compare", "roofline", "trends", "shapes"])
def test_a_tap_on_a_chart_says_the_numbers(phone, view):
    phone.open(view)
    place = "main figure :is(path.mark, g):has(> title)"
    mark = phone.page.locator(place).first
    title = mark.locator("> title").text_content()
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    phone.page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    phone.settle("document.querySelector('main figure .readout').textContent")
    said = phone.texts("main figure .readout")[0]
    assert said == title
    assert phone.page.locator("main figure .picked").count() == 1


def test_no_chart_is_wider_than_the_screen(phone):
    drawings = "[...document.querySelectorAll('main figure svg')]"
    for view in ("compare", "shapes", "roofline", "trends"):
        phone.open(view)
        assert phone.page.evaluate(f"Math.max(...{drawings}.map((one) => one.getBoundingClientRect().right))") <= 390
