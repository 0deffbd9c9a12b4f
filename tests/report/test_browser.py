"""The report in a real browser: it asks for nothing, fits a phone, and its curves answer the pointer."""

import io
import shutil

import pytest
from PIL import Image

from samseg.report.page import Page, render
from samseg.tasks.sections import Chart, Gallery, Picture, Table

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-demo")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: make test-demo installs one where apt is there"),
]


def test_the_page_opens_from_the_disk(tmp_path):
    chart = Chart("Loss", "epoch", "loss", {"loss": [(1, 0.5), (2, None), (3, 0.25)]})
    table = Table("Wide", [f"column {i}" for i in range(30)], [["0.123 [0.100, 0.200]"] * 30])
    pairs = Table("Facts", ["", ""], [["versions", "samseg 0.1.0, torch 2.14.1+cu130, Python 3.11.7, " * 5]])
    pixel = io.BytesIO()
    Image.new("RGB", (360, 360)).save(pixel, "PNG")
    rows = [(f"image {i}", [Picture("truth", pixel.getvalue())] * 4) for i in range(9)]
    groups = [("Results", [table, Gallery("Examples", rows)]), ("Training", [chart, pairs])]
    file = tmp_path / "report.html"
    file.write_text(render(Page("run & <b>", "mIoU 0.5", groups)), encoding="utf-8")
    asked, broken = [], []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (1280, 390):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: broken.append(str(error)))
            page.goto(file.as_uri())
            assert page.locator("h1").inner_text() == "run & <b>"
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            facts = page.locator("section", has_text="Facts").locator(".scroll")
            assert facts.evaluate("box => box.scrollWidth <= box.clientWidth"), "a value is cut off"
            shown = [figure.is_visible() for figure in page.locator("summary + .pictures").all()]
            assert [i for i in range(9) if shown[i]] == [0, 4, 8]
            page.get_by_text("image 3").click()
            assert page.locator("summary + .pictures").nth(3).is_visible()
            wide = page.locator("section", has_text="Wide")
            hint = "getComputedStyle(heading, '::after').content.includes('more')"
            assert wide.locator("h3").evaluate(f"heading => {hint}")
            wide.locator(".scroll").evaluate("box => box.scrollTo(box.scrollWidth, 0)")
            page.wait_for_function(f"heading => !{hint}", arg=wide.locator("h3").element_handle())
            page.get_by_role("link", name="Training").click()
            top, bar = page.locator("h2", has_text="Training").bounding_box(), page.locator("nav").bounding_box()
            assert bar["y"] == 0 and top["y"] >= bar["height"], "the heading lies under the bar"
            page.locator("svg.chart").scroll_into_view_if_needed()
            box = page.locator("svg.chart").bounding_box()
            page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + box["height"] / 2)
            assert page.locator(".tip").inner_text().split() == ["epoch", "3", "loss", "0.25"]
        browser.close()
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"} and not broken
