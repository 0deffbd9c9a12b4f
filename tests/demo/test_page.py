"""The page in a real browser: make test-demo installs one where it can."""

import os
import shutil
import socket
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from samseg.common.errors import InputError
from samseg.models.build import build_model
from samseg.models.sam.files import empty_sam
from samseg.runs.config.load import load_config, save_config
from samseg.runs.tensors import save_weights

httpx = pytest.importorskip("httpx")
pytest.importorskip("gradio", reason="gradio is not installed: pip install samseg-smp[demo]")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-demo")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: make test-demo installs one where apt is there"),
]

from samseg.demo.serve import serving  # noqa: E402
from samseg.demo.uploads import read_upload  # noqa: E402


@pytest.fixture(scope="module")
def address(scenes, tmp_path_factory):
    """The page of two untrained runs and a small SAM of random weights."""
    import yaml

    from tests.conftest import TINY

    root = tmp_path_factory.mktemp("demo")
    runs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        file = root / "tiny.yaml"
        file.write_text(yaml.safe_dump(TINY | {"data": TINY["data"] | {"root": str(scenes)}}, sort_keys=False))
        config = load_config(file)
        runs.append(root / f"run{seed}")
        save_config(config, runs[-1] / "config.yaml")
        save_weights(build_model(config.model, classes=3).model.state_dict(), runs[-1] / "best.safetensors")
    torch.save(empty_sam("sam-vit_t").state_dict(), root / "sam.pt")
    with serving(runs, str(root / "sam.pt"), device="cpu") as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Open the page as a visitor of one's own; whatever goes elsewhere, or breaks, fails the test."""
    outside, broken, contexts = [], [], []

    def opened(width: int = 1280):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}))
        page = contexts[-1].new_page()
        own = (address, "data:", "blob:", address.replace("http", "ws"))
        page.on("request", lambda request: request.url.startswith(own) or outside.append(request.url))
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#status")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not outside and not broken


def says(page, words: str, where: str = "#status") -> None:
    """Wait until the page says so."""
    playwright.expect(page.locator(where)).to_contain_text(words, timeout=60_000)


def upload(page, file: Path, where: str = "#file") -> None:
    page.set_input_files(f"{where} input[type=file]", str(file))


def click(page, where: str, x: float, y: float) -> None:
    """Click on a picture at shares of its width and height."""
    picture = page.locator(f"{where} img").first
    picture.wait_for()
    box = picture.bounding_box()
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])


def test_classes_of_an_uploaded_image(visit, scenes):
    page = visit()
    upload(page, scenes / "test" / "images" / "test0.png")
    says(page, "80 x 47 pixels")
    click(page, "#first", 0.5, 0.5)
    says(page, "probability", "#pixel")
    assert page.locator(".legend").inner_text().count("%") == 3
    page.get_by_label("Beside it").click()
    page.get_by_role("option", name="run1").click()
    says(page, "the runs differ in")
    page.locator("#differ img").wait_for()


def test_the_pointer_says_what_a_click_says(visit, scenes):
    page = visit()
    page.get_by_label("Beside it").click()
    page.get_by_role("option", name="run1").click()
    upload(page, scenes / "test" / "images" / "test0.png")
    says(page, "the runs differ in")
    for where in ("#first", "#second"):
        page.locator(f"{where} img").first.wait_for()
        for x, y in ((0.06, 0.07), (0.5, 0.52), (0.93, 0.94)):
            click(page, where, x, y)
            pixel = f"({int(80 * x)}, {int(47 * y)}): "
            says(page, pixel, "#pixel")
            playwright.expect(page.locator("#under")).to_have_text(page.inner_text("#pixel").strip())
    page.mouse.move(3, 3)
    playwright.expect(page.locator("#under")).to_be_hidden()


def test_a_test_image_and_a_phone(visit):
    page = visit(width=390)
    page.get_by_label("or a test image of the run").first.click()
    page.get_by_role("option", name="test1").first.click()
    says(page, "pixels; point at the picture, or click")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    picture, settings = page.locator("#first"), page.get_by_text("The network sees the image")
    assert picture.bounding_box()["y"] < settings.bounding_box()["y"], "one scrolls past settings to the picture"


@pytest.mark.parametrize(
    ("tab", "picture", "where", "words"),
    [("Classes", "#first", "#pixel", "probability"), ("Clicks", "#clicks-picture", "#clicks-status", "predicted IoU")],
)
def test_a_click_right_after_choosing_an_image_stays(visit, monkeypatch, tab, picture, where, words):
    monkeypatch.setattr("samseg.demo.page.read_upload", lambda *a, **k: time.sleep(1) or read_upload(*a, **k))
    page = visit()
    page.get_by_role("tab", name=tab).click()
    page.get_by_label("or a test image of the run").locator("visible=true").click()
    page.get_by_role("option", name="test1").click()
    click(page, picture, 0.4, 0.5)
    says(page, words, where)
    page.wait_for_timeout(3000)  # the click takes the focus from the list, which is no choice
    says(page, words, where)


def test_a_list_opened_and_left_changes_nothing(visit):
    page = visit()
    page.get_by_label("or a test image of the run").first.click()
    page.mouse.click(700, 880)
    page.wait_for_timeout(500)
    assert page.get_by_text("Error").count() == 0 and "Upload an image" in page.inner_text("#status")


def test_an_upload_after_a_chosen_image_is_what_is_shown(visit, scenes):
    page = visit()
    for _ in range(2):
        page.get_by_label("or a test image of the run").first.click()
        page.get_by_role("option", name="test1").click()
        says(page, "69 x 56 pixels")
        upload(page, scenes / "test" / "images" / "test0.png")
        says(page, "80 x 47 pixels")
        playwright.expect(page.get_by_label("or a test image of the run").first).to_have_value("")


def test_clicks_make_a_mask(visit, scenes):
    page = visit()
    page.get_by_role("tab", name="Clicks").click()
    upload(page, scenes / "test" / "images" / "test0.png", "#clicks-file")
    says(page, "click on an object", "#clicks-status")
    click(page, "#clicks-picture", 0.4, 0.5)
    says(page, "predicted IoU", "#clicks-status")
    page.get_by_role("button", name="Undo").click()
    says(page, "click on an object", "#clicks-status")


def test_what_is_no_image_is_a_message(visit, tmp_path, scenes):
    page = visit()
    (tmp_path / "notes.png").write_text("not an image")
    upload(page, tmp_path / "notes.png")
    says(page, "notes.png")
    assert str(os.environ["GRADIO_TEMP_DIR"]) not in page.inner_text("#status")
    Image.new("L", (5000, 5000)).save(tmp_path / "huge.png")
    page.reload()
    upload(page, tmp_path / "huge.png")
    says(page, "5000 x 5000 pixels, more than the page takes")
    page.reload()
    upload(page, scenes / "test" / "images" / "test0.png")
    says(page, "80 x 47 pixels")  # the page lives on


def test_a_file_that_is_too_large_is_refused(visit, address, tmp_path):
    page = visit()
    (tmp_path / "large.png").write_bytes(bytes(65 * 2**20))
    upload(page, tmp_path / "large.png")  # the page sees it before it is sent
    playwright.expect(page.get_by_text("maximum allowed size")).to_be_visible()
    assert "Upload an image" in page.inner_text("#status")
    with open(tmp_path / "large.png", "rb") as file:  # and so does the server
        assert httpx.post(f"{address}/gradio_api/upload", files={"files": file}, timeout=60).status_code == 413


def test_visitors_do_not_see_each_other(visit, scenes):
    one, other = visit(), visit()
    upload(one, scenes / "test" / "images" / "test0.png")
    says(one, "80 x 47 pixels")
    upload(other, scenes / "test" / "images" / "test1.png")
    says(other, "69 x 56 pixels")
    says(one, "80 x 47 pixels")
    assert not list(Path(os.environ["GRADIO_TEMP_DIR"]).rglob("test0.png")), "the upload is still on the disk"


def test_a_port_in_use_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match=r"port \d+ of 127.0.0.1 cannot be had \(.*in use.*\); name another"):
            with serving([], "nothing.pth", port=taken.getsockname()[1]):
                pass
