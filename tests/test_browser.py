"""The pages in a real browser, where Playwright and a Chromium are at hand.

The ledger in the preview, and in the rendered book (`_book`, by `make book`) also theme, search and
downloads.
"""

import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fewlabels import paths
from fewlabels.book import preview

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
LEDGER = "08-replication-ledger.html"
ROWS = "#tbl-ledger-claims tbody tr"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, CHROMIUM)), None)
        try:
            # Containers have no user namespaces, which the sandbox needs.
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no Chromium starts: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Name -> address of the preview and of the rendered book, which is skipped where it is not."""
    servers = []

    def serve(folder) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    made = {}

    def address(name: str) -> str:
        if name == "book" and not (paths.BOOK / "index.html").exists():
            pytest.skip("the book is not rendered: `make book`")
        if name not in made:
            folder = paths.BOOK
            if name == "preview":
                folder = preview.book(tmp_path_factory.mktemp("preview"))[0].parent
            made[name] = serve(folder)
        return made[name]

    yield address
    for server in servers:
        server.shutdown()


@pytest.fixture
def page(browser):
    page = browser.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    assert page.errors == []
    page.close()


@pytest.fixture(params=["preview", "book"])
def ledger(request, page, served):
    """The ledger's page, open."""
    folder = "" if request.param == "preview" else "chapters/"
    page.goto(f"{served(request.param)}/{folder}{LEDGER}")
    return page


def ids(page) -> list[str]:
    """The claims in the rows that are shown, in their order."""
    script = "rows => rows.filter(row => !row.hidden).map(row => row.querySelector('[id]').id)"
    return page.locator(ROWS).evaluate_all(script)


def test_words_filter_the_ledger(ledger):
    everything = ids(ledger)
    ledger.get_by_label("Filter the rows of the table below").first.fill("MAE")
    shown = ids(ledger)
    assert 0 < len(shown) < len(everything)
    count = ledger.locator(".table-tools [aria-live]").first
    assert count.inner_text() == f"{len(shown)} of {len(everything)}"
    texts = ledger.locator(ROWS).evaluate_all(
        "rows => rows.filter(row => !row.hidden).map(row => row.textContent)"
    )
    assert all("mae" in text.lower() for text in texts)


def test_a_verdict_filters_by_keyboard(ledger):
    everything = ids(ledger)
    chip = ledger.get_by_role("button", name=re.compile(r"^holds \d+$"))
    chip.focus()
    ledger.keyboard.press("Space")
    assert chip.get_attribute("aria-pressed") == "true"
    assert len(ids(ledger)) == int(chip.inner_text().split()[-1])
    ledger.keyboard.press("Enter")
    assert ids(ledger) == everything


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_column_sorts_by_keyboard_as_people_count(ledger, key):
    head = ledger.locator("#tbl-ledger-claims th").first
    original = ids(ledger)
    head.focus()
    ledger.keyboard.press(key)
    up = ids(ledger)
    assert head.get_attribute("aria-sort") == "ascending"
    assert up.index("S2") < up.index("S10") < up.index("S20")
    ledger.keyboard.press(key)
    assert ids(ledger).index("S10") < ids(ledger).index("S2")
    ledger.keyboard.press(key)
    assert ids(ledger) == original


def test_an_address_leads_to_a_claim_and_opens_its_reason(ledger):
    ledger.goto(f"{ledger.url}#C1")
    row = ledger.locator(ROWS).filter(has=ledger.locator("#C1"))
    why = row.locator(".why")
    sync_api.expect(why).to_be_visible()
    sync_api.expect(row).to_be_in_viewport()
    row.get_by_role("button", name="why").click()
    sync_api.expect(why).to_be_hidden()


def test_a_table_is_downloaded_as_it_is_filtered(ledger):
    ledger.get_by_label("Filter the rows of the table below").first.fill("C1 ")
    shown = ids(ledger)
    with ledger.expect_download() as download:
        ledger.locator("#tbl-ledger-claims").get_by_text("Download this table (CSV)").click()
    lines = download.value.path().read_text().splitlines()
    assert download.value.suggested_filename == "tbl-ledger-claims.csv"
    assert lines[0].startswith('"Claim"') and len(lines) == 1 + len(shown)


def test_the_theme_switches_and_stays(page, served):
    page.goto(f"{served('book')}/index.html")
    dark = "document.body.classList.contains('quarto-dark')"
    before = page.evaluate(dark)
    page.locator(".quarto-color-scheme-toggle:visible").first.click()
    assert page.evaluate(dark) != before
    page.reload()
    assert page.evaluate(dark) != before


def test_search_finds_a_method_by_keyboard(page, served):
    page.goto(f"{served('book')}/index.html")
    page.keyboard.press("/")
    sync_api.expect(page.locator(".aa-Input")).to_be_focused()
    page.keyboard.type("SimCLR")
    found = page.locator(".aa-Panel a[href*='ssl-medmnist']").first
    sync_api.expect(found).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/chapters/"))


@pytest.mark.parametrize("name", ["chapters/01-rotnet-mnist.html", "chapters/benchmark.html"])
def test_downloads_are_there(page, served, name):
    page.goto(f"{served('book')}/{name}")
    script = "links => links.map(link => link.href)"
    links = page.locator("main a[download], main a[href$='.npz']").evaluate_all(script)
    assert links
    for link in links:
        assert page.request.get(link).status == 200, link


def test_no_page_is_wider_than_a_phone(browser, served):
    address = served("book")
    phone = browser.new_page(viewport={"width": 390, "height": 844})
    for file in sorted(paths.BOOK.glob("**/*.html")):
        name = file.relative_to(paths.BOOK).as_posix()
        phone.goto(f"{address}/{name}")
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390, name
    phone.close()


def test_a_linked_page_is_shown_with_the_card(page, served):
    page.goto(f"{served('book')}/chapters/{LEDGER}")
    card = page.locator("meta[property='og:image']").get_attribute("content")
    assert page.request.get(card if "://" in card else f"{served('book')}/styles/card.png").ok
    assert card.endswith("styles/card.png")
