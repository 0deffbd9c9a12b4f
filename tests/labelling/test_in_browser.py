"""A real Label Studio in a real browser: with label-studio on the path, playwright and a Chromium."""

import os
import re
import shutil
import socket
import subprocess
import time

import numpy as np
import pytest
import torch
from PIL import Image

from samseg.labelling.build import backend, steps
from samseg.labelling.server import Server
from samseg.models.sam.files import empty_sam
from tests import file_server
from tests.random_run import write_run

httpx = pytest.importorskip("httpx")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-demo")
STUDIO = shutil.which("label-studio")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.skipif(STUDIO is None, reason="no label-studio on the path: pip install label-studio"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: make test-demo installs one where apt is there"),
]
ACCOUNT = {"email": "me@example.org", "password": "secret-12"}
OPEN = {"ML_BLOCK_LOCAL_IP": "false", "SSRF_PROTECTION_ENABLED": "false"}
QUIET = {"COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": ""}


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """A Label Studio of this test's own: (its address, a client that is signed in, a personal access token)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("studio")
    environment = os.environ | OPEN | QUIET | {"LABEL_STUDIO_BASE_DATA_DIR": str(folder), "HOME": str(folder)}
    options = ["--no-browser", "--port", str(port), "--internal-host", "127.0.0.1"]
    account = ["--username", ACCOUNT["email"], "--password", ACCOUNT["password"]]
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen([STUDIO, "start", *options, *account], env=environment, stdout=log, stderr=log)
    url, end = f"http://localhost:{port}", time.monotonic() + 300
    client = httpx.Client(base_url=url, follow_redirects=True, timeout=60, trust_env=False)
    try:
        while True:
            try:
                page = client.get("/user/login/").text
                break
            except httpx.TransportError:
                assert time.monotonic() < end and server.poll() is None, (folder / "log").read_text()[-2000:]
                time.sleep(0.5)
        token = re.search(r'csrfmiddlewaretoken" value="([^"]+)', page)[1]
        client.post("/user/login/", data=ACCOUNT | {"csrfmiddlewaretoken": token}, headers={"Referer": url})
        client.headers.update({"X-CSRFToken": client.cookies["csrftoken"], "Referer": url})
        yield url, client, client.post("/api/token/").json()["token"]
    finally:
        client.close()
        server.terminate()
        server.wait(30)


@pytest.mark.parametrize("case", ["clicked", "told"])
def test_predicted_and(studio, tmp_path, case):
    """A click is answered with a mask, or refused in words under the image."""
    url, client, key = studio
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)).save(tmp_path / "a.png")
    torch.manual_seed(0)
    torch.save(empty_sam("sam-vit_t").state_dict(), tmp_path / "sam.pt")
    built = backend(str(write_run(tmp_path / "run")), str(tmp_path / "sam.pt"), "cpu", key=key)
    text = steps(built)
    with file_server.served(Server(built, "127.0.0.1", 0, None, text)) as server:
        address = server.url
        asked = {"title": "cells", "label_config": text[text.index("<View>") :]}
        project = client.post("/api/projects/", json=asked).json()["id"]
        with open(tmp_path / "a.png", "rb") as file:
            client.post(f"/api/projects/{project}/import", files={"file": ("a.png", file, "image/png")})
        model = {"url": address, "project": project, "is_interactive": True, "title": "samseg"}
        connected = client.post("/api/ml/", json=model)
        assert connected.status_code == 201, connected.text
        task = client.get(f"/api/projects/{project}/tasks/").json()[0]["id"]
        predicted = client.get(f"/api/tasks/{task}/").json()["predictions"]
        assert predicted[0]["model_version"] == built.version and predicted[0]["result"]
        client.delete(f"/api/predictions/{predicted[0]['id']}/")  # what lies there would be clicked instead
        built.finder = None
        with playwright.sync_playwright() as started:
            browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1400, "height": 1250})
            page.route(lambda asked: not asked.startswith((url, "data:", "blob:")), lambda route: route.abort())
            page.goto(f"{url}/user/login/")
            page.fill("#email", ACCOUNT["email"])
            page.fill("#password", ACCOUNT["password"])
            page.click("button[type=submit]")
            page.wait_for_url("**/")
            page.goto(f"{url}/projects/{project}/data?task={task}")
            canvas = page.wait_for_selector(".konvajs-content canvas", timeout=120_000)
            page.get_by_text("Auto-Annotation").first.click()
            page.locator(".lsf-label").nth(2).click()  # the first of the points' labels
            page.locator(".lsf-tool_smart").first.click()
            place = canvas.bounding_box()
            middle = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
            if case == "told":
                built.clicked = None
            with page.expect_response("**/interactive-annotating*", timeout=120_000) as answer:
                page.mouse.click(*middle)
            (region,) = answer.value.json()["data"]["result"]
            assert case == "told" or region["value"]["brushlabels"] == ["roof"]
            seen = "start it with --sam" if case == "told" else "1 suggestion"
            page.get_by_text(seen).first.wait_for(timeout=60_000)
            page.screenshot(path=tmp_path / f"{case}.png", timeout=120_000)
            browser.close()
