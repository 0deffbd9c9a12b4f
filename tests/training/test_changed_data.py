"""A run goes on with the data it was begun with, or says what is different."""

import shutil

import numpy as np
import pytest
from PIL import Image

from samseg.common.errors import ConfigError, InputError
from samseg.runs.config.load import load_config
from samseg.runs.state import load_state
from samseg.training.run import train

pytestmark = pytest.mark.usefixtures("small_pictures")


@pytest.fixture
def run(scenes, tiny_config, tmp_path, monkeypatch):
    """Train on a copy of `scenes`, to be changed: (its root, a function)."""
    monkeypatch.chdir(tmp_path)
    root = shutil.copytree(scenes, tmp_path / "data")
    settings = [f"data.root={root}", "run_dir=run", "train.resume=true"]
    return root, lambda *overrides: train(load_config(tiny_config, [*settings, *overrides]), "tiny")


def stop_after_an_epoch(run, monkeypatch):
    def stop(self, *arguments):
        if self.state.epoch:
            raise KeyboardInterrupt
        return train_epoch(self, *arguments)

    from samseg.training.trainer import Trainer

    train_epoch = Trainer.train_epoch
    monkeypatch.setattr(Trainer, "train_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(Trainer, "train_epoch", train_epoch)


def test_changed_data_are_said_and_may_be_accepted(run, monkeypatch, capsys):
    root, train = run
    stop_after_an_epoch(train, monkeypatch)
    train_files = root / "train"
    for kind in ("images", "masks"):
        (train_files / kind / "train0.png").unlink()
        shutil.copy(train_files / kind / "train1.png", train_files / kind / "train9.png")
    image = np.array(Image.open(train_files / "images" / "train2.png"))
    image[5, 5] ^= 1
    Image.fromarray(image).save(train_files / "images" / "train2.png")
    mask = np.array(Image.open(root / "val" / "masks" / "val1.png"))
    mask[9, 9] = 2 - mask[9, 9] // 2
    Image.fromarray(mask).save(root / "val" / "masks" / "val1.png")
    with pytest.raises(ConfigError) as error:
        train()
    message = str(error.value)
    assert "1 gone (train/train0), 1 new (train/train9), 2 changed (train/train2, val/val1)" in message
    assert "train.accept_changed_data=true" in message and "\n" not in message
    assert load_state(root.parent / "run").epoch == 1

    train("train.accept_changed_data=true")
    assert "WARNING: going on with other data than before: 1 gone" in capsys.readouterr().out
    assert "is finished already" in said(train, capsys), "what was accepted stays accepted"


def said(train, capsys) -> str:
    train()
    return capsys.readouterr().out


def test_the_same_data_elsewhere_are_the_same(run, monkeypatch, capsys):
    root, train = run
    stop_after_an_epoch(train, monkeypatch)
    image = root / "train" / "masks" / "train0.png"
    Image.fromarray(np.array(Image.open(image))).save(image, compress_level=1)  # a mask is what it says
    assert "finished after 3 epochs" in said(train, capsys)


def test_nothing_to_learn(run, tmp_path):
    root, train = run
    for mask in (root / "train" / "masks").iterdir():
        Image.fromarray(np.full_like(np.array(Image.open(mask)), 9)).save(mask)
    with pytest.raises(InputError, match="every pixel of train is ignored"):
        train()
    assert not (tmp_path / "run").exists()


def test_a_run_among_its_data_is_refused_before_anything_is_written(run):
    root, train = run
    before = sorted(root.rglob("*"))
    with pytest.raises(InputError, match="lies in data.root"):
        train(f"run_dir={root / 'train' / 'images' / 'run'}")
    assert sorted(root.rglob("*")) == before
