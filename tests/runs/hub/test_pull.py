"""Runs read from the hub: what is asked for, what is refused, and how that is said."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from samseg.common.errors import InputError, WeightsError
from samseg.runs.hub.pull import hub_name, local_run, outputs_folder
from samseg.runs.load import load_run
from tests.hub_server import COMMIT, TOKEN
from tests.random_run import write_run


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    run = write_run(tmp_path_factory.mktemp("run"))
    return {name: (run / name).read_bytes() for name in ("config.yaml", "best.safetensors")}


def test_names():
    assert hub_name("runs/town") is None and hub_name("user/town") is None
    assert hub_name("hub:user/town") == ("user/town", None)
    assert str(hub_name("hub:user/town@v1.0")) == "hub:user/town@v1.0"
    for wrong in ("hub:town", "hub:user/", "hub:/town", "hub:a/b/c", "hub:user/town@", "hub:us er/town", "hub:../x"):
        with pytest.raises(InputError, match="named hub:USER/NAME"):
            hub_name(wrong)


def test_outputs_lie_where_one_may_write(tmp_path):
    assert str(outputs_folder("hub:user/town@v1")) == "hub/user/town"
    assert outputs_folder(tmp_path) == tmp_path
    (tmp_path / "model.safetensors").touch()
    assert outputs_folder(tmp_path / "model.safetensors") == tmp_path


class Harm:
    def __reduce__(self):
        return exec, ("raise SystemExit('pickled code was run')",)


def test_nothing_but_two_files_is_read(server, files):
    server.put("user/town", files | {"state.pt": pickle.dumps(Harm()), "README.md": b"..."})
    load_run("hub:user/town")
    assert {file.name for file in local_run("hub:user/town").iterdir()} == {"config.yaml", "best.safetensors"}
    asked = len(server.requests)
    load_run("hub:user/town")
    assert len(server.requests) == asked, "the hub is asked once"


def test_a_cache_that_was_laid_out_by_hand_will_do(server, files, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = Path(constants.HF_HUB_CACHE) / "models--user--town"
    lay_out(folder, files)
    assert load_run("hub:user/town")[1].data.image_size == 64
    shutil.rmtree(folder)
    with pytest.raises(InputError, match=r"hub:user/other is not in the hub's cache \(.*\), and HF_HUB_OFFLINE is set"):
        load_run("hub:user/other")


def lay_out(folder: Path, files: dict[str, bytes]) -> None:
    """A repository in the hub's cache, as its client leaves it."""
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    for name, content in files.items():
        (snapshot / name).write_bytes(content)


def test_what_cannot_be_had_is_one_line(server, files, command, tmp_path):
    server.put("user/town", files)
    server.put("user/model", {"pytorch_model.bin": b"..."})
    server.put("user/begun", {"config.yaml": files["config.yaml"]})
    for name, message in (
        (
            "user/typo",
            "hub:user/typo is not on the hub, or not for you: check the name, and for a private repository hf",
        ),
        ("user/town@v9", "hub:user/town@v9 has no revision v9"),
        ("user/model", "hub:user/model is no run of samseg: it has no config.yaml"),
        ("user/begun", "hub:user/begun is no run of samseg: it has no best.safetensors"),
        ("user/a--b", "hub:user/a--b is no name that the hub gives"),
    ):
        code, _, error = command("infer", f"hub:{name}", tmp_path / "photo.jpg", "--out", tmp_path / "out")
        assert code == 2, name
        code, _, error = command(
            "export", f"hub:{name}", "--to", "safetensors", "--out", tmp_path / "model.safetensors"
        )
        assert code == 2 and message in error and error.count("\n") == 1, error


def test_a_gated_run_says_where_its_licence_is_accepted(server, files, monkeypatch):
    server.put("user/town", files)
    server.gated.add("user/town")
    with pytest.raises(InputError) as error:
        load_run("hub:user/town")
    where = f"wants its licence accepted at {server.url}/user/town, and a login (hf auth login, or set HF_TOKEN)"
    assert str(error.value) == f"hub:user/town {where}"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    load_run("hub:user/town")


def test_a_report_takes_settings_and_figures_alone(server, files, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["background", "roof", "tree"]
    test = {key: dict.fromkeys(names, 0.25) for key in ("iou", "f1", "class_accuracy", "share")}
    metrics = json.dumps({"epoch": 3, "test": test | {"miou": 0.625, "accuracy": 0.5}}).encode()
    history = b"epoch,loss,lr,val_miou,val_accuracy,seconds\n1,0.5,0.1,0.3,0.4,2\n"
    content = {"config.yaml": files["config.yaml"], "metrics.json": metrics, "history.csv": history}
    server.put("user/town", content)
    code, out, error = command("report", "hub:user/town")
    assert code == 0 and "open hub/user/town/report.html" in out, error
    text = Path("hub/user/town/report.html").read_text()
    assert "mIoU 0.625 on test" in text and "samseg evaluate hub:user/town\n" in text
    assert {file.name for file in Path("hub/user/town").iterdir()} == {*content, "report.html"}
    better = metrics.replace(b"0.625", b"0.75")
    server.put("user/city", content | {"metrics.json": better})
    code, out, error = command("report", "hub:user/town", "hub:user/city")
    assert code == 0, error
    text = Path("comparison.html").read_text()
    assert "test: town mIoU 0.625, city mIoU 0.750" in text and "do not say how sure a difference is" in text
    server.put("user/bare", {"config.yaml": files["config.yaml"]})
    code, _, error = command("report", "hub:user/bare")
    assert code == 2 and "hub:user/bare is no run of samseg: it has no metrics.json" in error
    server.put("user/odd", content | {"metrics.json": b'{"test": {"iou": 1}}'})
    code, _, error = command("report", "hub:user/odd")
    assert code == 2 and "metrics.json is damaged" in error and error.count("\n") == 1


def test_a_hub_that_cannot_be_reached(server, monkeypatch):
    server.shutdown()
    server.server_close()
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the hub's many attempts
    with pytest.raises(
        InputError, match=r"is not in the hub's cache .* and http://127.0.0.1:\d+ cannot be reached"
    ) as error:
        load_run("hub:user/town")
    assert "\n" not in str(error.value)


def test_a_published_run_is_checked_as_any_other(server, files):
    weights = bytearray(files["best.safetensors"])
    weights[-5] ^= 1
    server.put("user/damaged", {**files, "best.safetensors": bytes(weights)})
    with pytest.raises(WeightsError, match="best.safetensors is not what was written"):
        load_run("hub:user/damaged")
    sly = files["config.yaml"].replace(b"root: nowhere", b"root: ${oc.env:HF_TOKEN}")
    server.put("user/sly", {**files, "config.yaml": sly})
    with pytest.raises(InputError, match=r"holds \$\{oc.env:HF_TOKEN\}, which is not resolved"):
        load_run("hub:user/sly")
