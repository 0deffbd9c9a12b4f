"""Trackers for real: MLflow in a local store and W&B offline follow a run that is stopped and resumed."""

import json
import shutil
import struct
import sys
from pathlib import Path

import pytest

from samseg.common.errors import ConfigError, InputError, Terminated
from samseg.runs.config.load import load_config
from samseg.runs.state import load_state
from samseg.training import trainer
from samseg.training.run import train
from tests.training.test_trainer import sigterm_in

pytestmark = pytest.mark.usefixtures("small_pictures")
BLOCK = 32768  # bytes, of a LevelDB log
BOTH = "train.trackers=[mlflow,wandb]"


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """Both without a network, in a folder of their own, which is the current one."""
    pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    folder = tmp_path_factory.mktemp("services")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", (folder / "mlruns").as_uri())
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_DIR", str(folder))
        for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID", "WANDB_PROJECT", "WANDB_API_KEY"):
            patch.delenv(name, raising=False)
        yield folder


@pytest.fixture
def stopping(monkeypatch):
    return lambda epoch, step: monkeypatch.setattr(trainer, "check_finite", sigterm_in(epoch, step))


def wandb_records(file: Path) -> list:
    """The records of an offline run: LevelDB's log format behind seven bytes, a protobuf message each."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, position, whole, records = file.read_bytes(), 7, b"", []
    while position + 7 <= len(content):
        if BLOCK - position % BLOCK < 7:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        whole += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # full, last
            records.append(Record.FromString(whole))
            whole = b""
    return records


def wandb_history(run_id: str) -> dict[int, dict]:
    found: dict[int, dict] = {}
    for folder in sorted(Path("wandb").glob(f"offline-run-*-{run_id}")):
        for record in wandb_records(folder / f"run-{run_id}.wandb"):
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            if row:
                found.setdefault(row.get("_step", record.history.step.num), {}).update(row)
    return found


def test_a_run_is_followed_and_goes_on_as_the_same_one(services, tiny_config, stopping, monkeypatch):
    import mlflow

    settings = [BOTH, "train.epochs=2", "run_dir=followed", "train.resume=true", "train.track_weights=true"]
    stopping(2, 1)
    with pytest.raises(Terminated):
        train(load_config(tiny_config, settings), "tiny")
    known = load_state(Path("followed")).trackers
    assert mlflow.get_run(known["mlflow"]).info.status == "KILLED" and mlflow.active_run() is None
    monkeypatch.undo()
    monkeypatch.chdir(services)
    folder = train(load_config(tiny_config, settings), "tiny")
    assert load_state(folder).trackers == known and not list(folder.glob("events*"))

    rows = load_state(folder).history
    best = json.loads((folder / "metrics.json").read_text())
    run = mlflow.get_run(known["mlflow"])
    assert run.info.status == "FINISHED" and run.info.run_name == "followed"
    assert run.data.params["train.lr"] == "0.002" and run.data.params["data.classes.green"] == "[1, 3]"
    client = mlflow.MlflowClient()
    found = [(point.step, point.value) for point in client.get_metric_history(known["mlflow"], "run/loss")]
    assert found == [(row["epoch"], pytest.approx(row["loss"])) for row in rows]
    assert run.data.metrics["best/miou"] == pytest.approx(best["val"]["miou"])
    assert run.data.metrics["best/epoch"] == best["epoch"] and "iou/green" in run.data.metrics
    files = {file.path for file in client.list_artifacts(known["mlflow"])}
    assert files == {"samples.png", "validation.png", "best.safetensors"}

    history = wandb_history(known["wandb"])
    assert {step: history[step]["run/loss"] for step in (1, 2)} == {
        row["epoch"]: pytest.approx(row["loss"]) for row in rows
    }
    assert history[2]["best/miou"] == pytest.approx(best["val"]["miou"])
    pictures = {path.name.partition("_")[0] for path in Path("wandb").glob("offline-run-*/files/media/images/*")}
    assert pictures == {"samples", "validation"}
    first = sorted(Path("wandb").glob(f"offline-run-*-{known['wandb']}"))[0]
    config = [record.config for record in wandb_records(first / f"run-{known['wandb']}.wandb")]
    assert any(item.key == "train.lr" and item.value_json == "0.002" for one in config for item in one.update)


def test_one_that_fails_is_told_of_once_and_ends_no_run(services, tiny_config, monkeypatch, capsys):
    def lose_the_store(loss, epoch, step, settings):
        if (epoch, step) == (2, 1):
            shutil.rmtree("mlruns")
            Path("mlruns").touch()

    monkeypatch.setattr(trainer, "check_finite", lose_the_store)
    folder = train(load_config(tiny_config, ["train.trackers=[mlflow,tensorboard]", "run_dir=lost"]), "tiny")
    out = capsys.readouterr().out
    assert out.count("WARNING: mlflow failed (") == 1 and "finished after 3 epochs" in out
    assert list(folder.glob("events.out.tfevents.*"))
    Path("mlruns").unlink()


def test_one_that_cannot_start_is_bad_input(services, tiny_config, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://x")
    with pytest.raises(InputError, match=r"^train.trackers: mlflow cannot start \(.*\): set MLFLOW_TRACKING_URI to"):
        train(load_config(tiny_config, ["train.trackers=[mlflow]", "run_dir=none"]), "tiny")
    import wandb

    wandb.teardown()  # it reads its variables once
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(services / "netrc"))
    with pytest.raises(
        InputError, match=r"^train.trackers: wandb cannot start \(.*\): log in with wandb login, or set"
    ):
        train(load_config(tiny_config, ["train.trackers=[wandb]", "run_dir=none"]), "tiny")
    assert not Path("none").exists()


def test_one_that_is_not_there_names_its_extra_before_the_data_are_looked_at(tiny_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    settings = ["data.root=nowhere", BOTH.replace("mlflow,", "")]
    with pytest.raises(InputError, match=r'train.trackers: wandb is not .*: pip install "samseg-smp\[wandb\]"'):
        train(load_config(tiny_config, settings), "tiny")
    with pytest.raises(ConfigError, match="may hold tensorboard, mlflow, wandb; got 'wandbb'; did you mean 'wandb'"):
        train(load_config(tiny_config, ["train.trackers=[wandbb]"]), "tiny")
