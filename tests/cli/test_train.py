"""samseg train and samseg evaluate as they are called, where it matters in processes of their own."""

import csv
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import safetensors.torch
import torch

from benchmarks.victims import alive
from samseg.cli.main import main
from samseg.cli.train import prepare_sample
from samseg.common.errors import InputError, Terminated
from samseg.runs.config.load import load_config
from samseg.runs.facts import load_split
from samseg.runs.state import RunState, load_state
from samseg.training import trainer
from samseg.training.run import train
from tests.processes import kill, launch_two, meeting, ranks, start, wait_until
from tests.sharded import sharded_main


@contextmanager
def one_thread():
    """As the processes have it that `start` starts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_same_run(one, other, rel=None) -> None:
    """Equal, or with ``rel`` as near as float32 sums in another order are."""
    rows = []
    for folder in (one, other):
        with open(folder / "history.csv", newline="") as file:
            rows.append(
                [{key: float(value) for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]
            )
    assert len(rows[0]) == len(rows[1])
    for ours, theirs in zip(*rows, strict=True):
        assert ours == (theirs if rel is None else pytest.approx(theirs, rel=rel))
    ours, theirs = (safetensors.torch.load_file(folder / "best.safetensors") for folder in (one, other))
    for name in ours:
        assert ours[name].equal(theirs[name]) if rel is None else ours[name].allclose(theirs[name], atol=rel)


def test_train_then_evaluate(command, tiny_config, tmp_path, monkeypatch):
    """With resnet18 and its defaults as an SMP user knows it."""
    monkeypatch.chdir(tmp_path)
    code, out, _ = command("train", tiny_config, "model.encoder=resnet18", "model.decoder={}", "train.epochs=1")
    assert code == 0
    folder = tmp_path / "runs" / "tiny"
    for expected in (
        "share of pixels",
        "images: 64 px a side, mean 0.485 0.456 0.406, std 0.229 0.224 0.225",
        "trainable: ",
        "epoch 1/1",
        "next: samseg evaluate runs/tiny, samseg infer",
        "green",
    ):
        assert expected in out
    out = command("evaluate")[1]  # the newest run, on test
    test = json.loads((folder / "metrics_test.json").read_text())["test"]
    assert f"{test['miou']:.4f}" in out and list(test["iou"]) == ["ground", "green", "blue"]


def test_evaluating_what_is_no_run_is_one_line(command):
    code, _, stderr = command("evaluate", "runs/none")
    assert code == 2 and stderr.startswith("error: ") and stderr.count("\n") == 1


def train_until_stuck(epoch: int, step: int, arguments: list[str]) -> None:
    """`samseg train` that goes no further than a step of an epoch."""

    def check(loss, at_epoch, at_step, settings):
        if (at_epoch, at_step) == (epoch, step):
            Path(f"stuck-{epoch}-{step}").touch()
            time.sleep(600)

    trainer.check_finite = check
    main(["train", *arguments])


@pytest.mark.skipif(torch.accelerator.is_available(), reason="sums come out the same on a CPU alone")
def test_a_run_killed_within_an_epoch_is_resumed_to_the_same_end(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = ["train.epochs=3", "data.augment=[HorizontalFlip]", "run_dir=cut", "train.resume=true"]
    for epoch, step in ((2, 1), (3, 3)):
        process = start(train_until_stuck, epoch, step, [str(tiny_config), *settings], folder=tmp_path)
        wait_until((tmp_path / f"stuck-{epoch}-{step}").exists, process)
        kill(process)
    with one_thread():
        train(load_config(tiny_config, settings), "tiny")
        train(load_config(tiny_config, [*settings[:2], "run_dir=whole"]), "tiny")
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def train_in_a_group(arguments: list[str]) -> None:
    os.setpgrp()
    main(["train", *arguments])


@pytest.mark.parametrize(
    "sent, code", [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_what_is_sent_to_run_and_readers_alike_is_no_failure(tiny_config, tmp_path, sent, code):
    """Ctrl-C, and what a cluster sends to all processes of a job: the readers go on until the state is saved."""
    given = [str(tiny_config), "train.epochs=10000", "train.workers=1"]
    process = start(train_in_a_group, given, folder=tmp_path)
    wait_until((tmp_path / "runs" / "tiny" / "state.pt").exists, process)
    os.killpg(process.pid, sent)
    process.join(60)
    assert process.exitcode == code
    printed = (tmp_path / "output.txt").read_text()
    assert "train.resume=true goes on" in printed and "Traceback" not in printed


NO_BATCH_STATISTICS = ["model.freeze_encoder=true", "model.decoder.decoder_use_norm=false"]


@pytest.mark.parametrize("command", [main, pytest.param(sharded_main, marks=pytest.mark.slow)], ids=["ddp", "fsdp2"])
def test_two_processes_train_as_one_with_twice_the_batch(tiny_config, tmp_path, command):
    """The same losses, weights and figures, although the six images make a short last step and val has three."""
    # Not the one through timm, which is a container of layers, and those the first versions of FSDP2 do not shard.
    settings = [*NO_BATCH_STATISTICS, "model.encoder=resnet18", "train.epochs=2", "train.accumulate=2"]
    train(load_config(tiny_config, [*settings, f"run_dir={tmp_path / 'one'}", "train.batch_size=2"]), "tiny")
    line = ["train", str(tiny_config), *settings, "run_dir=two", "train.batch_size=1"]
    out = "".join(ranks(command, line, folder=tmp_path))
    assert out.count("epoch 2/2") == 1 and out.count("share of pixels") == 1
    one, two = tmp_path / "one", tmp_path / "two"
    assert_same_run(one, two, rel=1e-3)
    ours, theirs = (json.loads((folder / "metrics.json").read_text())["val"]["share"] for folder in (one, two))
    assert ours == theirs  # each validation image is counted once
    ours, theirs = (load_split(folder, "val")[1]["names"].tolist() for folder in (one, two))
    assert ours == theirs  # and stands in its place in the report


def test_a_process_whose_launcher_is_gone_ends(tiny_config, tmp_path):
    """As when the launcher is killed while what it started is still importing."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        both = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_USE_AGENT_STORE": "True"}
        both |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(nobody.getsockname()[1]), "TORCHELASTIC_RUN_ID": "none"}
        process = start(main, ["train", str(tiny_config)], folder=tmp_path, **both)
        process.join(60)
    assert process.exitcode == 2
    assert "error: the launcher of this process is gone from 127.0.0.1:" in (tmp_path / "output.txt").read_text()


def test_a_run_goes_on_with_more_and_with_fewer_processes(tiny_config, tmp_path, monkeypatch, capsys):
    """One is stopped; of two one is told to stop; two lose their launcher; one goes on to the end."""
    monkeypatch.chdir(tmp_path)
    settings = ["run_dir=run", "train.resume=true", "train.batch_size=1", "train.epochs=12"]
    folder = tmp_path / "run"

    def epochs() -> int:
        return (load_state(folder) or RunState()).epoch

    @contextmanager
    def two() -> Iterator[tuple[BaseProcess, int, int]]:
        """Two that have trained on for an epoch: their launcher, and the pids of the main process and the other."""
        before = epochs()
        with meeting() as both:
            launcher = start(launch_two, main, ["train", str(tiny_config), *settings], folder=tmp_path, **both)
            wait_until(lambda: epochs() > before, launcher)
            first = int((folder / "run.lock").read_text().split()[1])
            children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
            [other] = {int(child) for child in children} - {first}
            yield launcher, first, other

    monkeypatch.setattr(
        "samseg.training.trainer.Trainer.validate", lambda self, stop: os.kill(os.getpid(), signal.SIGTERM)
    )
    with pytest.raises(Terminated, match="stopped by SIGTERM after epoch"):
        train(load_config(tiny_config, settings), "tiny")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)

    with two() as (launcher, first, _):
        with pytest.raises(InputError, match=f"run is in use by process {first} on .*name another run_dir"):
            train(load_config(tiny_config, settings), "tiny")
        os.kill(first, signal.SIGTERM)
        launcher.join(60)
    printed = (tmp_path / "output.txt").read_text()
    assert printed.count("stopped by SIGTERM after epoch") == 2 and printed.endswith("ended with 143 143\n")

    with two() as (launcher, first, other):
        kill(launcher)
        wait_until(lambda: not (alive(first) or alive(other)))  # each is told by the system, saves and ends

    capsys.readouterr()
    train(load_config(tiny_config, settings), "tiny")
    out = capsys.readouterr().out
    assert "WARNING: 1 images a step where the run had 2" in out and "finished after 12 epochs" in out
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 13))
    assert float(rows[-1]["lr"]) < 2e-4  # the schedule has come to its end


def test_bad_input_of_several_processes_is_told_once(tiny_config, tmp_path):
    printed = ranks(main, ["train", str(tiny_config), "data.root=nowhere"], folder=tmp_path, code=2)
    assert "".join(printed).count("error: ") == 1


def test_bad_input_is_one_line(command, tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, stderr = command("train", tiny_config, "data.root=nowhere")
    assert code == 2 and stderr.startswith("error: ") and stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_sample_scenes_are_made_where_the_default_root_is_empty_and_nowhere_else(tmp_path, monkeypatch, capsys):
    made = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("samseg.sample.write.write_sample", made.append)
    prepare_sample(Path("elsewhere"))
    assert not made
    prepare_sample(Path("data/sample"))
    (tmp_path / "data" / "sample").mkdir(parents=True)
    prepare_sample(Path("data/sample"))
    assert made == [Path("data/sample")] * 2 and "sample scenes in data/sample" in capsys.readouterr().out
    (tmp_path / "data" / "sample" / "train").mkdir()
    prepare_sample(Path("data/sample"))
    assert len(made) == 2
