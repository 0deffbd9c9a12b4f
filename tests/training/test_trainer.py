"""Whole runs of seconds: what they write, and that they are the same however they are cut up."""

import csv
import json
import math
import os
import shutil
import signal

import numpy as np
import pytest
import safetensors.torch
import torch
from accelerate.utils import set_seed
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from samseg.common import files
from samseg.common.errors import ConfigError, InputError, Terminated, WeightsError
from samseg.data.preprocess import Preprocessing
from samseg.encoders.adapters.insert import is_adapter_tensor
from samseg.inference.predictor import Predictor
from samseg.models.build import build_model
from samseg.runs.config.load import load_config, task_of
from samseg.runs.load import load_run
from samseg.runs.state import load_state
from samseg.training import trainer
from samseg.training.failures import check_finite
from samseg.training.run import train
from tests.encoders.conftest import SMALL

pytestmark = pytest.mark.usefixtures("small_pictures")
NO_BATCH_STATISTICS = ["model.freeze_encoder=true", "model.decoder.decoder_use_norm=false"]


@pytest.fixture
def trained(tiny_config, tmp_path, monkeypatch):
    """Train the tiny configuration with overrides; returns the run folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *overrides, name="tiny": train(load_config(tiny_config, list(overrides)), name)


def weights(folder):
    return safetensors.torch.load_file(folder / "best.safetensors")


def history(folder):
    with open(folder / "history.csv", newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def assert_same_run(one, other):
    assert history(one) == history(other)
    assert metrics(one) == metrics(other)
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)


def test_a_run_folder(trained):
    folder = trained()
    rows, best = history(folder), metrics(folder)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert best["val"]["miou"] == max(float(row["val_miou"]) for row in rows)
    assert float(rows[best["epoch"] - 1]["val_miou"]) == best["val"]["miou"]
    events = EventAccumulator(str(folder)).Reload()
    assert [event.value for event in events.Scalars("run/loss")] == pytest.approx([float(row["loss"]) for row in rows])
    assert {"iou/ground", "iou/green", "iou/blue", "run/lr", "run/val_miou"} <= set(events.Tags()["scalars"])
    assert {"config.yaml", "curves.png", "validation.png", "state.pt"} <= {path.name for path in folder.iterdir()}
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_metrics_are_those_of_the_predictor_at_each_images_own_size(trained, tiny_config):
    folder = trained()
    config = load_config(tiny_config)
    predictor = Predictor.from_run(folder)
    dataset = task_of(config).dataset("val", train=False, seed=0)
    truth = np.concatenate([item["classes"].numpy().ravel() for item in dataset])
    found = np.concatenate([predictor(item["image"]).ravel() for item in dataset])[truth != 255]
    truth = truth[truth != 255]
    for index, iou in enumerate(metrics(folder)["val"]["iou"].values()):
        p, t = found == index, truth == index
        assert iou == pytest.approx((p & t).sum() / (p | t).sum())


def test_reading_processes_change_nothing(trained):
    given = ("train.epochs=2", "data.augment=[HorizontalFlip,{RandomBrightnessContrast: {p: 0.5}}]")
    assert_same_run(trained(*given), trained(*given, "train.workers=2", "train.resume=false"))


def test_the_seed_decides(trained):
    one, other = trained("train.epochs=1"), trained("train.epochs=1", "seed=1")
    assert history(one) != history(other)


@pytest.mark.parametrize(
    "drawn", [["train.batch_size=2"], ["train.batch_size=6", "data.augment=[HorizontalFlip]"]], ids=["order", "augment"]
)
def test_each_epoch_draws_anew(trained, drawn):
    """The weights stand still, so that only another draw can make another loss."""
    rows = history(trained("train.lr=1e-12", "train.encoder_lr=1e-12", *NO_BATCH_STATISTICS, *drawn))
    losses = [float(row["loss"]) for row in rows]
    assert max(losses) - min(losses) > 1e-4  # more than rounding does


def test_accumulated_batches_train_as_one_large_batch(trained):
    """Also when the last one is short (6 images in steps of 4) and labelled pixels differ."""
    given = (*NO_BATCH_STATISTICS, "train.epochs=2")
    large = trained(*given, "train.batch_size=4")
    parts = trained(*given, "train.batch_size=1", "train.accumulate=4")
    assert [float(row["loss"]) for row in history(parts)] == pytest.approx(
        [float(row["loss"]) for row in history(large)], rel=1e-4
    )
    ours, theirs = load_state(large).model, load_state(parts).model
    assert all(torch.allclose(ours[name], theirs[name], atol=2e-4) for name in ours)


def test_bf16_trains_as_fp32_does_but_for_rounding(trained):
    full, half = (
        float(history(trained(f"train.precision={p}", "train.epochs=1"))[0]["loss"]) for p in ("fp32", "bf16")
    )
    assert half != full
    assert half == pytest.approx(full, rel=0.05)


def test_a_frozen_encoder_is_as_it_was(trained, tiny_config):
    folder = trained("model.freeze_encoder=true", "train.epochs=1")
    set_seed(0)
    before = build_model(load_config(tiny_config).model, classes=3).model.state_dict()
    after = load_state(folder).model
    frozen = [name for name in before if name.startswith("encoder.")]
    assert any("running_mean" in name for name in frozen)
    assert all(after[name].equal(before[name]) for name in frozen)
    assert not after["segmentation_head.0.weight"].equal(before["segmentation_head.0.weight"])


def test_patience_ends_a_run_that_gets_no_better(trained, capsys):
    folder = trained("train.lr=1e-12", "train.epochs=9", "train.patience=2", *NO_BATCH_STATISTICS)
    assert [row["epoch"] for row in history(folder)] == ["1", "2", "3"]
    assert metrics(folder)["epoch"] == 1
    assert "stopped early" in capsys.readouterr().out


def test_the_learning_rate_rises_and_falls_by_the_step(trained):
    factor = trainer.warmup_cosine(4, 24)
    assert [factor(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert [factor(step) for step in (9, 14, 24)] == pytest.approx([(1 + math.sqrt(0.5)) / 2, 0.5, 0.0])
    assert trainer.warmup_cosine(0, 0)(0) == 1
    # 6 images in steps of 2 x 2: two steps an epoch, of which the second is short.
    rows = history(trained("train.accumulate=2", "train.warmup=0", "train.epochs=2"))
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.001, 0.0])


def test_a_run_killed_after_any_write_is_resumed_to_the_same_end(trained, monkeypatch):
    replace, written = files.os.replace, []

    def kept(source, target):
        replace(source, target)
        shutil.copytree("whole", f"cut{len(written)}")  # what a kill here would leave
        written.append(target.name)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", kept)
        whole = trained("train.epochs=2", "run_dir=whole")
    assert {"config.yaml", "state.pt", "best.safetensors", "metrics.json", "history.csv"} <= set(written)
    for cut in {name: number for number, name in reversed([*enumerate(written)])}.values():  # the first of each file
        assert_same_run(trained("train.epochs=2", f"run_dir=cut{cut}", "train.resume=true"), whole)


def test_an_interrupted_run_says_how_to_go_on(trained, monkeypatch, capsys):
    def interrupt(self, stop):
        raise KeyboardInterrupt

    monkeypatch.setattr("samseg.training.trainer.Trainer.validate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        trained()
    assert "stopped in epoch 1; no state was saved, nothing is kept" in capsys.readouterr().out
    assert not os.path.exists("runs/tiny")


RANDOM = ["train.epochs=2", "data.augment=[HorizontalFlip]"]
RANDOM += ["model.decoder={encoder_depth: 3, decoder_channels: [16, 8, 8], drop_path_rate: 0.5}"]


@pytest.mark.parametrize(
    "settings",
    [
        ["train.batch_size=2", "train.workers=1"],
        pytest.param(["train.batch_size=1", "train.accumulate=2"], marks=pytest.mark.slow),
    ],
)
def test_sigterm_in_an_epoch_and_resumed_is_as_never_stopped(trained, settings):
    """Three steps an epoch; stopped after steps 1, 3 (before validation) and 5, with drop-path and augmentation."""
    settings = [*RANDOM, *settings]
    whole = trained(*settings, "run_dir=whole")
    resumed = [*settings, "run_dir=cut", "train.resume=true"]
    for epoch, step in ((1, 1), (1, 3), (2, 2)):
        stopped_in(epoch, step, trained, resumed)
        state = load_state(whole.parent / "cut")
        assert (state.epoch, state.part["steps"]) == (epoch - 1, step)
    assert_same_run(trained(*resumed), whole)


def sigterm_in(epoch, step):
    def check(loss, at_epoch, at_step, settings):
        if (at_epoch, at_step) == (epoch, step):
            os.kill(os.getpid(), signal.SIGTERM)

    return check


def stopped_in(epoch, step, trained, settings):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "check_finite", sigterm_in(epoch, step))
        with pytest.raises(Terminated, match=f"after epoch {epoch - 1} and {step} steps of the next; .*resume=true"):
            trained(*settings)


def test_sigterm_in_the_validation_saves_the_epochs_training(trained, monkeypatch, tmp_path):
    settings = ["train.epochs=1", "run_dir=cut", "train.resume=true"]
    whole_input = Preprocessing.whole_input

    def view(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return whole_input(*arguments)

    monkeypatch.setattr(Preprocessing, "whole_input", view)
    with pytest.raises(Terminated, match="after epoch 0 and 3 steps"):
        trained(*settings)
    assert not (tmp_path / "cut" / "metrics.json").exists()
    monkeypatch.setattr(Preprocessing, "whole_input", whole_input)
    assert_same_run(trained(*settings), trained("train.epochs=1", "run_dir=whole"))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


class Clock:
    """One that goes on by a second at each look."""

    seconds = 0.0

    def monotonic(self):
        self.seconds += 1
        return self.seconds


@pytest.mark.parametrize("cut", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_run_ends_within_its_minutes(trained, monkeypatch, capsys, cut):
    """Within an epoch, which is validated, its learning rate near zero; also where it goes on after a stop."""
    monkeypatch.setattr(trainer, "time", Clock())
    settings = ["train.epochs=1000000", "train.max_minutes=0.28", "run_dir=timed", "train.resume=true"]
    if cut:
        stopped_in(2, 1, trained, settings)
    folder = trained(*settings)
    assert "\n0.28 minutes, epochs of 3 steps, the first 5 %" in capsys.readouterr().out
    state, rates = load_state(folder), [float(row["lr"]) for row in history(folder)]
    assert 17 <= state.seconds() <= 20 and state.epoch == len(rates) == 4
    assert state.scheduler["last_epoch"] < 4 * 3, "the last epoch went on to its end"
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.05 * rates[0]
    before = (folder / "history.csv").read_text()
    assert trained(*settings) == folder and (folder / "history.csv").read_text() == before


class Killed(BaseException):
    """What no handler of a run catches."""


def test_long_epochs_save_their_state_now_and_then(trained, monkeypatch, tmp_path):
    def crash(loss, epoch, step, settings):
        if (epoch, step) == (2, 3):
            raise Killed

    monkeypatch.setattr(trainer, "SAVE_MINUTES", 0)
    monkeypatch.setattr(trainer, "check_finite", crash)
    settings = ["train.epochs=2", "run_dir=cut", "train.resume=true"]
    with pytest.raises(Killed):
        trained(*settings)
    assert load_state(tmp_path / "cut").part["images"] == 4
    monkeypatch.setattr(trainer, "check_finite", lambda *_: None)
    assert_same_run(trained(*settings), trained("train.epochs=2", "run_dir=whole"))


@pytest.fixture
def base(tmp_path, tiny_config):
    """Settings of a run on a frozen encoder from a file."""
    torch.manual_seed(1)
    encoder = build_model(load_config(tiny_config).model, classes=3).model.encoder
    torch.save(encoder.state_dict(), tmp_path / "base.pth")
    return [f"model.weights={tmp_path / 'base.pth'}", "model.freeze_encoder=true", "train.epochs=2"]


def test_a_frozen_base_is_named_and_not_stored(trained, base, tmp_path):
    """In neither file, and the run is the same when it is cut, read and evaluated."""
    whole, cut = trained(*base, "run_dir=whole"), [*base, "run_dir=cut", "train.resume=true"]
    for tensors in (weights(whole), load_state(whole).model):
        assert tensors and not [name for name in tensors if name.startswith("encoder.")]
    assert max((whole / name).stat().st_size for name in ("best.safetensors", "state.pt")) < 500_000
    with safetensors.safe_open(whole / "best.safetensors", "pt") as file:
        assert file.metadata()["base"] == str(tmp_path / "base.pth")
    stopped_in(2, 1, trained, cut)
    assert_same_run(trained(*cut), whole)
    encoder = load_run(whole)[0].encoder.state_dict()
    assert all(value.equal(encoder[name]) for name, value in torch.load(tmp_path / "base.pth").items())


def test_a_base_that_changed_or_is_gone_is_one_line(trained, base, tmp_path):
    file = tmp_path / "base.pth"
    stopped_in(2, 1, trained, base)
    folder = tmp_path / "runs" / "tiny"
    content = torch.load(file)
    torch.save({name: value + 1 for name, value in content.items()}, file)
    for use in (lambda: load_run(folder), lambda: trained(*base, "train.resume=true")):
        with pytest.raises(WeightsError, match="base.pth of sha256 .*base.pth has") as error:
            use()
        assert "\n" not in str(error.value)
    file.rename(tmp_path / "moved.pth")
    with pytest.raises(WeightsError, match="best.safetensors holds only what was trained, on the base .*base.pth"):
        load_run(folder)
    torch.save(content, tmp_path / "moved.pth")
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("base.pth", "moved.pth"))
    load_run(folder)


def test_a_random_encoder_that_is_frozen_is_warned_of(trained, capsys):
    folder = trained("model.freeze_encoder=true", "train.epochs=1")
    assert "WARNING: the encoder's weights are random and frozen" in capsys.readouterr().out
    assert [name for name in weights(folder) if name.startswith("encoder.")]  # nobody else has them


def test_batch_normalisation_on_single_images_is_warned_of(trained, capsys):
    for size, warned in ((1, True), (2, False)):
        trained(f"train.batch_size={size}", "train.epochs=1", f"run_dir=runs/{size}")
        assert ("WARNING: train.batch_size is 1: batch normalisation" in capsys.readouterr().out) is warned


def test_resuming_a_finished_run_says_so_and_changes_nothing(trained, capsys):
    folder = trained()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert trained("train.resume=true") == folder
    assert "is finished already, after 3 epochs" in capsys.readouterr().out
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_resuming_nothing_starts_a_run(trained, capsys):
    assert len(history(trained("train.epochs=1", "train.resume=true"))) == 1
    assert "nothing to resume" in capsys.readouterr().out


def test_a_damaged_state_is_named(trained):
    state = trained("train.epochs=1") / "state.pt"
    state.write_bytes(state.read_bytes()[:10_000])
    with pytest.raises(InputError, match=r"state\.pt: truncated, .*cannot be resumed"):
        trained("train.epochs=1", "train.resume=true")


def test_a_loss_that_explodes_stops_the_run(trained):
    with pytest.raises(ConfigError, match=r"the loss is (nan|inf) in epoch 1, step \d: lower train\.lr \(1e\+30\)"):
        trained("train.lr=1e30", "train.encoder_lr=1e30", "train.warmup=0")


def test_a_batch_of_one_where_the_decoder_cannot_take_it(trained):
    with pytest.raises(InputError, match="set train.batch_size to 2"):
        trained("model.arch=upernet", "model.decoder={decoder_channels: 16}", "train.batch_size=1")


def test_a_run_that_fails_in_its_first_epoch_leaves_no_folder_and_a_later_one_stays(trained, tmp_path, monkeypatch):
    with pytest.raises(ConfigError):
        trained("train.lr=1e30", "train.encoder_lr=1e30", "train.warmup=0")
    assert not any((tmp_path / "runs").iterdir())
    monkeypatch.setattr("samseg.training.trainer.check_finite", fail_in_epoch_2)
    with pytest.raises(ConfigError):
        trained("train.epochs=2")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert_same_run(trained("train.epochs=2", "train.resume=true"), trained("train.epochs=2", "run_dir=whole"))


def fail_in_epoch_2(loss, epoch, step, settings):
    if epoch == 2:
        raise ConfigError("enough")


def test_bad_input_leaves_no_folder(trained, tmp_path):
    with pytest.raises(InputError):
        trained("data.ignore=[]")  # then 9 is no class
    with pytest.raises(InputError):
        trained("model.encoder=resnet19")
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can do it")
def test_fp16_needs_a_gpu(trained):
    with pytest.raises(ConfigError, match="train.precision=fp16 needs a GPU"):
        trained("train.precision=fp16")


SMALL_SAM = [f"model.encoder={SMALL}", "model.freeze_encoder=true"]
SMALL_SAM += ["model.decoder={decoder_use_norm: false, decoder_channels: [16, 16, 8, 8, 8]}"]


def test_an_adapter_trains_and_sams_weights_stay(trained, tiny_config):
    settings = [*SMALL_SAM, "model.adapter.name=conv_lora", "train.gradient_checkpointing=true"]
    folder = trained(*settings, "train.epochs=1", "train.precision=bf16")
    set_seed(0)
    before = build_model(load_config(tiny_config, settings).model, classes=3).model.state_dict()
    after = load_state(folder).model
    for name in before:
        sams = name.startswith("encoder.trunk.") and not is_adapter_tensor(name)
        assert torch.equal(after[name], before[name]) == sams, name


def test_an_adapters_noise_is_the_same_after_a_resume(trained, monkeypatch):
    settings = [*SMALL_SAM, "model.adapter.name=conv_lora", "train.epochs=2"]
    monkeypatch.setattr("samseg.training.trainer.check_finite", fail_in_epoch_2)
    with pytest.raises(ConfigError):
        trained(*settings, "run_dir=cut")
    monkeypatch.setattr("samseg.training.trainer.check_finite", check_finite)
    assert_same_run(trained(*settings, "run_dir=cut", "train.resume=true"), trained(*settings, "run_dir=whole"))


def test_the_balance_loss_is_part_of_the_loss_at_any_accumulation(trained, monkeypatch):
    """One twelfth more from each of five blocks, whether a step is one batch or three."""
    settings = [*SMALL_SAM, "model.adapter.name=conv_lora", "train.epochs=1", "train.lr=1e-12", "train.batch_size=2"]

    def loss(*overrides):
        return float(history(trained(*settings, *overrides))[0]["loss"])

    monkeypatch.setattr("samseg.encoders.adapters.conv_lora.BALANCE", 0.0)
    without = loss(), loss("train.accumulate=3")
    monkeypatch.setattr("samseg.encoders.adapters.conv_lora.BALANCE", 1.0)
    monkeypatch.setattr("samseg.encoders.adapters.conv_lora._cv_squared", lambda x: x.sum() * 0 + 1 / 24)
    assert loss() - without[0] == pytest.approx(5 / 12, abs=1e-4)
    assert loss("train.accumulate=3") - without[1] == pytest.approx(5 / 12, abs=1e-4)


def test_the_blocks_are_recomputed_when_asked_and_train_the_same(trained):
    settings = [*SMALL_SAM, "model.adapter.name=lora", "train.epochs=1"]
    kept, recomputed = trained(*settings), trained(*settings, "train.gradient_checkpointing=true")
    ours, theirs = load_state(kept).model, load_state(recomputed).model
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in ours)


def test_an_encoder_without_a_place_for_adapters_leaves_no_folder(trained, tmp_path):
    with pytest.raises(ConfigError, match="tu-resnet18 takes no adapter; sam-vit_b, sam-vit_l, sam-vit_h"):
        trained("model.adapter.name=lora", "model.freeze_encoder=true")
    assert not (tmp_path / "runs").exists()
