"""A real Chromium without a screen, and pages of it that fail a test by any error, warning or request."""

import shutil
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from factory import make_case, make_record, make_run
from histories import CLAIMS, save, write_history

from opbench.report.dashboard.site import write_site

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Watched:
    """A page and everything it said or asked for, which should be nothing."""

    def __init__(self, page, site):
        self.page, self.site = page, site
        self.complaints = []
        page.on("console", lambda message: self.complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", self._asked)

    def _asked(self, request):
        if request.url.partition("#")[0] != self.address and not request.url.startswith("data:"):
            self.complaints.append(f"request: {request.url[:200]}")

    @property
    def address(self):
        return f"file://{quote(str(self.site))}"

    def open(self, hash_="overview"):
        # A view that is open already would satisfy the wait: what is asked for is drawn anew.
        self.page.evaluate("document.querySelector('main')?.removeAttribute('data-view')")
        self.page.goto(f"{self.address}#{hash_}")
        if self.page.evaluate("!document.querySelector('main').dataset.view"):
            self.page.evaluate("dispatchEvent(new HashChangeEvent('hashchange'))")
        self.page.wait_for_selector(f'main[data-view="{hash_.partition("?")[0]}"]')
        return self

    def reload(self):
        self.page.reload()
        self.page.wait_for_selector("main[data-view]")

    @property
    def hash(self):
        return self.page.evaluate("location.hash")

    def texts(self, selector):
        return [text.strip() for text in self.page.locator(selector).all_text_contents()]

    def settle(self, condition, seconds=30):
        """Wait until the expression holds.

        Asked from here: `wait_for_function` asks again inside the page, where its policy forbids to evaluate a text.
        """
        end = time.monotonic() + seconds
        while not self.page.evaluate(f"!!({condition})"):
            assert time.monotonic() < end, f"not so after {seconds} s: {condition}"
            self.page.wait_for_timeout(20)


# Of a module: other tests of this process count its children.
@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `dev`)")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def windows(chromium):
    """The pages that are open: one for each site and setting, since a new one takes longer than most tests."""
    return {}


@pytest.fixture
def browse(chromium, windows):
    """browse(site, **context) -> Watched; after the test no window may have complained."""

    def start(site: Path, **context):
        key = (site, repr(context))
        if key not in windows:
            page = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **context}).new_page()
            windows[key] = Watched(page, site)
        return windows[key]

    yield start
    complaints = []
    for window in windows.values():
        complaints += window.complaints
        window.complaints.clear()
        window.page.emulate_media(media="null")
    assert complaints == []


@pytest.fixture(scope="session")
def history(tmp_path_factory):
    """Months of runs on two machines; the newest is of `bench-01`, an Example CPU."""
    folder = tmp_path_factory.mktemp("history")
    write_history(folder / "results")
    return write_site(folder / "results", folder / "site", lambda runs: CLAIMS)[0]


@pytest.fixture(scope="session")
def single(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    save(make_run([make_record(make_case())]), folder / "results" / "run.json")
    return write_site(folder / "results", folder / "site")[0]


@pytest.fixture
def page(browse, history):
    return browse(history)
