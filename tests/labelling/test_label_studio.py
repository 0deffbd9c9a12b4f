"""Label Studio's protocol, spoken to the backend of a small random run and a small random SAM."""

import base64
import json
from contextlib import ExitStack
from dataclasses import replace
from http.client import HTTPConnection
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from samseg.common.errors import InputError
from samseg.data.formats import brush_rle
from samseg.data.formats.images import read_image
from samseg.inference.objects.label_studio import interface_xml
from samseg.labelling import backend as backends
from samseg.labelling.backend import Backend, Clicked
from samseg.labelling.build import backend, steps
from samseg.labelling.server import Server
from samseg.models.sam.files import empty_sam
from samseg.models.sam.predictor import SamPredictor
from tests import file_server
from tests.encoders.conftest import SMALL
from tests.models.sam.reference import randomised
from tests.random_run import CLASSES, write_run

NAMES = list(CLASSES)
BRUSH = interface_xml(NAMES, 0, smart=True)
TOLD = interface_xml(NAMES, 0, smart=True, messages=True)
POLYGONS = BRUSH.replace("BrushLabels", "PolygonLabels")
HEIGHT, WIDTH = 40, 56


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Backend:
    """A run and a SAM of random weights, and two images below a folder."""
    root = tmp_path_factory.mktemp("labelling")
    (root / "some slides").mkdir()
    for seed, name in enumerate(("a.png", "b.png")):
        pixels = np.random.default_rng(seed).integers(0, 255, (5, 7, 3), np.uint8)
        Image.fromarray(cv2.resize(pixels, (WIDTH, HEIGHT))).save(root / "some slides" / name)
    (root / "broken.png").write_bytes(b"no image")
    (root.parent / "secret.png").write_bytes((root / "some slides" / "a.png").read_bytes())
    built = backend(str(write_run(root / "run")), None, "cpu", root=root)
    torch.manual_seed(0)
    built.clicked = Clicked(randomised(empty_sam(SMALL, 128)), lambda image: np.moveaxis(image.pixels, 0, -1).copy())
    return built


@pytest.fixture
def asked(made):
    """Asks a fresh copy of the backend, or another one: (status, reason, content)."""
    latest, running = [], ExitStack()

    def ask(method: str, path: str, body=None, headers=None, *, token=None, **changes):
        key = (token, *changes)
        if not latest or latest[0] != key:
            server = Server(replace(made, **changes), "127.0.0.1", 0, token, steps(made))
            latest[:] = key, running.enter_context(file_server.served(server))
        server = latest[1]
        connection = HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        sent = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        connection.request(method, path, sent, {"Content-Type": "application/json"} | (headers or {}))
        answer = connection.getresponse()
        content = answer.read().decode()
        connection.close()
        return answer.status, answer.reason, json.loads(content) if content.startswith("{") else content

    with running:
        yield ask


def task(number: int = 1, where: str = "/data/local-files/?d=some%20slides/a.png") -> dict:
    return {"id": number, "project": 3, "data": {"image": where}}


def request(*tasks: dict, drawn=None, xml: str = BRUSH) -> dict:
    context = None if drawn is None else {"result": drawn}
    return {"tasks": list(tasks or [task()]), "project": "3.1", "label_config": xml, "params": {"context": context}}


def drawn(kind: str, value: dict, label: str | None = "roof", **changes) -> dict:
    named = {kind: [label]} if label else {}
    sides = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {"id": "x", "type": kind, "from_name": "point", "to_name": "image", "value": value | named} | sides | changes


def point(x: float, y: float, label: str | None = "roof", **changes) -> dict:
    return drawn("keypointlabels", {"x": 100 * x / WIDTH, "y": 100 * y / HEIGHT, "width": 0.3}, label, **changes)


def masks(result: list[dict]) -> list[np.ndarray]:
    found = [brush_rle.decode(one["value"]["rle"], 4 * HEIGHT * WIDTH) for one in result]
    return [one.reshape(HEIGHT, WIDTH, 4)[..., 3] > 0 for one in found]


def test_a_run_predicts_what_it_finds(asked, made):
    assert asked("GET", "/health")[2]["status"] == "UP"
    assert asked("POST", "/setup", {"project": "3.1", "schema": BRUSH})[2]["model_version"] == made.version
    tasks = [task(1), task(2, "s3://bucket/some slides/b.png")]
    status, _, content = asked("POST", "/predict", request(*tasks))
    assert status == 200 and len(content["results"]) == 2
    for name, answer in zip("ab", content["results"], strict=True):
        objects = made.finder(read_image(made.root / "some slides" / f"{name}.png"))
        assert objects.classes and len(answer["result"]) == len(objects.classes)
        assert answer["score"] == pytest.approx(np.mean(objects.scores))
        for number, (mask, region) in enumerate(zip(masks(answer["result"]), answer["result"]), start=1):
            assert np.array_equal(mask, objects.map == number)
            assert region["value"]["brushlabels"] == [NAMES[objects.classes[number - 1]]]
            assert region["score"] == pytest.approx(objects.scores[number - 1])


def test_label_studios_own_library_takes_the_predictions(asked):
    interface = pytest.importorskip("label_studio_sdk.label_interface", exc_type=ImportError)
    for xml in (TOLD, POLYGONS):
        config = interface.LabelInterface(xml)
        config.validate()
        (answer,) = asked("POST", "/predict", request(xml=xml))[2]["results"]
        assert config.validate_prediction(answer, return_errors=True) == []


def test_polygons_where_the_project_draws_them(asked, made):
    (answer,) = asked("POST", "/predict", request(xml=POLYGONS))[2]["results"]
    objects = made.finder(read_image(made.root / "some slides" / "a.png"))
    drawn_over = np.zeros((HEIGHT, WIDTH), np.uint8)
    for region in answer["result"]:
        corners = np.array(region["value"]["points"]) / 100 * (WIDTH, HEIGHT)
        cv2.fillPoly(drawn_over, [np.round(corners).astype(np.int32)], 1)
    missed = (objects.map > 0) & ~cv2.dilate(drawn_over, np.ones((3, 3), np.uint8)).astype(bool)
    assert answer["result"] and not missed.any()


def test_labels_that_the_project_lacks_are_not_predicted(asked, capsys):
    xml = interface_xml(["background", "tree"], 0)
    assert asked("POST", "/setup", {"project": "3.1", "schema": xml})[0] == 200
    assert "not predicted: roof" in capsys.readouterr().out
    (answer,) = asked("POST", "/predict", request(xml=xml))[2]["results"]
    assert {region["value"]["brushlabels"][0] for region in answer["result"]} == {"tree"}


@pytest.mark.parametrize("case", ["point", "points", "box", "stroke"])
def test_sam_answers_what_is_drawn(asked, made, case):
    stroke = np.zeros((HEIGHT, WIDTH), bool)
    stroke[20:23, 11:14] = True
    box = {"x": 100 * 8 / WIDTH, "y": 100 * 4 / HEIGHT, "width": 100 * 24 / WIDTH, "height": 100 * 30 / HEIGHT}
    shapes = {
        "point": [point(12, 21)],
        "points": [point(12, 21), point(40, 9, is_positive=False)],
        "box": [drawn("rectanglelabels", box)],
        "stroke": [drawn("brushlabels", {"format": "rle", "rle": brush_rle.encode(stroke)})],
    }
    status, _, content = asked("POST", "/predict", request(drawn=shapes[case]))
    (region,) = content["results"][0]["result"]
    reference = SamPredictor(made.clicked.sam)
    reference.set_image(np.array(Image.open(made.root / "some slides" / "a.png")))
    prompts = {
        "points": dict(point_coords=np.array([[12, 21], [40, 9]]), point_labels=np.array([1, 0])),
        "box": dict(box=np.array([8, 4, 32, 34])),
    }.get(case, dict(point_coords=np.array([[12, 21]]), point_labels=np.array([1])))
    found, scores, _ = reference.predict(**prompts, multimask_output=case in ("point", "stroke"))
    assert np.array_equal(masks([region])[0], found[scores.argmax()])
    assert region["value"]["brushlabels"] == ["roof"] and region["from_name"] == "tag"
    assert region["score"] == pytest.approx(np.clip(scores.max(), 0, 1), abs=1e-4)


def test_an_image_is_embedded_once(asked, made):
    own = replace(made)
    server = Server(own, "127.0.0.1", 0, None, "")
    server.server_close()
    for x in (5, 12, 30):
        own.predict(request(drawn=[point(x, 21)]))
    own.predict(request(task(2, "some%20slides/b.png"), drawn=[point(5, 5)]))
    assert own._embedded.cache_info()[:2] == (2, 2)


SETUPS = [
    ("<View", "is no XML"),
    ("<View><Text name='t' value='$t'/></View>", "shows no <Image>"),
    ("<View><Image name='image' value='$image'/></View>", "neither <BrushLabels> nor <PolygonLabels>"),
    (interface_xml(["a", "b"], None), "none of which is a label of 'tag'"),
    (BRUSH.replace("</KeyPointLabels>", "<Label value='car'/></KeyPointLabels>"), "label 'car'"),
]


@pytest.mark.parametrize("xml, words", SETUPS, ids=[words for _, words in SETUPS])
def test_a_project_that_cannot_be_served_is_told_when_it_connects(asked, capsys, xml, words):
    """In the status line: it is all that Label Studio shows of a refusal."""
    status, reason, content = asked("POST", "/setup", {"project": "3.1", "schema": xml})
    assert status == 400 and words in reason and words in content["error"]
    assert words in capsys.readouterr().err


REFUSED = {
    "no SAM": ({"clicked": None}, {}, "start it with --sam"),
    "no label": ({}, {"drawn": [point(5, 5, label=None)]}, "choose one of its labels"),
    "other label": ({}, {"drawn": [point(5, 5, label="car")]}, "choose one of its labels"),
    "turned": ({}, {"drawn": [point(5, 5, image_rotation=90)]}, "was turned"),
    "other size": ({}, {"drawn": [point(5, 5, original_width=99)]}, "99 x 40 pixels, and it has 56 x 40"),
    "no numbers": ({}, {"drawn": [drawn("keypointlabels", {"x": "a", "y": 3})]}, "cannot be read"),
    "not finite": ({}, {"drawn": [drawn("keypointlabels", {"x": float("nan"), "y": 3})]}, "cannot be read"),
    "no image": ({}, {"task": {"id": 4, "data": {"text": "hello"}}}, "no image under 'image'"),
    "not there": ({}, {"task": task(4, "/data/upload/x.png")}, "no /data/upload/x.png below"),
    "outside": ({}, {"task": task(4, "/data/local-files/?d=../secret.png")}, "no /data/local-files/?d=../secret.png"),
    "broken": ({}, {"task": task(4, "broken.png")}, "broken.png holds text, not an image"),
    "nowhere": ({"root": None}, {}, "open the project's Settings > Model"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("xml", [BRUSH, TOLD], ids=["status", "text"])
def test_a_click_that_is_refused(asked, capsys, case, xml):
    """In words under the image where the interface has a place for them, else in the status line; on the terminal."""
    changes, given, words = REFUSED[case]
    body = request(given.get("task", task()), drawn=given.get("drawn", [point(5, 5)]), xml=xml)
    status, reason, content = asked("POST", "/predict", body, **changes)
    if xml == BRUSH:
        assert status == 400 and words in reason
    else:
        (told,) = content["results"][0]["result"]
        assert status == 200 and (told["from_name"], told["type"]) == ("samseg", "textarea")
        assert words in told["value"]["text"][0]
    assert words in capsys.readouterr().err


def test_one_broken_image_does_not_keep_the_others(asked, capsys):
    _, _, content = asked("POST", "/predict", request(task(1), task(2, "broken.png"), task(3)))
    assert content["results"][0]["result"] and content["results"][1] == [] and content["results"][2]["result"]
    assert asked("POST", "/predict", request(task(2, "broken.png")))[0] == 400


def test_tasks_that_take_too_long_are_left_for_the_next_time(asked, capsys, monkeypatch):
    monkeypatch.setattr(backends, "SECONDS", 0)
    _, _, content = asked("POST", "/predict", request(task(1), task(2)))
    assert content["results"] == [[], []]
    assert "ask again" in capsys.readouterr().out


def test_health_is_answered_while_the_network_computes(asked, made):
    busy = replace(made)
    with busy._busy, file_server.served(Server(busy, "127.0.0.1", 0, None, "")) as server:
        connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200


def test_images_of_the_server_that_asks(asked, made, capsys):
    """With its token, or a personal one that is exchanged; from nowhere else."""
    picture = (made.root / "some slides" / "a.png").read_bytes()
    refusal = json.dumps({"detail": "legacy token authentication has been disabled"}).encode()
    local = "/data/local-files/?d=some%20slides/a.png"
    with file_server.serving({local: picture, "/api/current-user/whoami": b"{}"}) as studio:
        setup = {"project": "3.1", "schema": BRUSH, "hostname": studio.url, "access_token": "abc"}
        assert asked("POST", "/setup", setup, root=None)[0] == 200
        assert asked("POST", "/predict", request(), root=None)[2]["results"][0]["result"]
        assert studio.tokens[local] == ["Token abc"]
        elsewhere = request(task(1, "http://192.0.2.1/a.png"))
        assert "taken from Label Studio" in asked("POST", "/predict", elsewhere, root=None)[1]
        assert "404" in asked("POST", "/predict", request(task(1, "/data/b.png")), root=None)[1]
        studio.redirects[local] = "http://192.0.2.1/a.png"
        assert "lies at 192.0.2.1" in asked("POST", "/predict", request(), root=None)[1]
        studio.errors["/api/current-user/whoami"] = 401, refusal
        status, reason, _ = asked("POST", "/setup", setup | {"project": "4.1"}, root=None)
        assert status == 400 and "legacy token" in reason and "LABEL_STUDIO_API_KEY" in reason
        away = setup | {"hostname": "http://192.0.2.1:8080"}
        assert "but asks from 127.0.0.1" in asked("POST", "/setup", away, root=None)[1]


def test_a_personal_access_token_is_exchanged_for_another(made):
    with file_server.serving({"/data/a.png": (made.root / "some slides" / "a.png").read_bytes()}) as studio:
        studio.errors["/api/token/refresh/"] = 200, b'{"access": "short"}'
        own = replace(made, root=None, key="a.b.c", server=studio.url)
        own._asking["3.1"] = own._server({}, "127.0.0.1")
        assert own.predict(request(task(1, "/data/a.png")))["results"][0]["result"]
        assert studio.tokens["/data/a.png"] == ["Bearer short"]


def test_who_may_ask(asked, capsys):
    assert asked("GET", "/health", headers={"Host": "evil.example:9090"})[0] == 403
    assert asked("POST", "/predict", request(), headers={"Content-Type": "text/plain"})[0] == 415
    assert asked("GET", "/health", token="secret")[0] == 401
    for word, status in (("wrong", 401), ("secret", 200)):
        password = base64.b64encode(f"me:{word}".encode()).decode()
        given = {"Authorization": f"Basic {password}", "Host": "workstation:9090"}
        assert asked("GET", "/health", headers=given, token="secret")[0] == status
    assert asked("POST", "/webhook", {"action": "ANNOTATION_CREATED"}, token="secret")[0] == 200


def test_requests_that_are_none(asked, capsys):
    assert asked("POST", "/predict", "[1")[0] == asked("POST", "/predict", {"label_config": BRUSH})[0] == 400
    assert asked("GET", "/elsewhere")[0] == 404
    for path in ("/train", "/webhook"):
        status, reason, _ = asked("POST", path, {"action": "START_TRAINING"})
        assert status == 501 and "samseg train" in reason
    assert asked("GET", "/versions")[2]["versions"]


def test_the_address_shows_the_steps_and_an_interface(asked, made):
    text = asked("GET", "/")[2]
    view = ElementTree.fromstring(text[text.index("<View>") :])
    assert [tag.tag for tag in view] == ["Image", "BrushLabels", "KeyPointLabels", "RectangleLabels", "TextArea"]
    assert asked("POST", "/setup", {"project": "5.1", "schema": text[text.index("<View>") :]})[0] == 200


def test_what_cannot_be_started(command, made):
    assert "name a run" in command("label-studio")[2]
    assert "no such file" in command("label-studio", "--sam", "sam-vit_x")[2]
    assert "no such folder" in command("label-studio", made.root / "run", "--root", made.root / "none")[2]
    with pytest.raises(InputError, match="--token"):
        Server(made, "0.0.0.0", 0, None, "")
    with Server(made, "127.0.0.1", 0, None, "") as server, pytest.raises(InputError, match="--port"):
        Server(made, "127.0.0.1", server.server_port, None, "")
