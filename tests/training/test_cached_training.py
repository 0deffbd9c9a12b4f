"""Training on stored features: the same as without, and the encoder runs once."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate.utils import set_seed
from PIL import Image

from samseg.common.errors import ConfigError, InputError
from samseg.data.config import open_source
from samseg.data.raster import as_raster
from samseg.encoders.vit import SamViT
from samseg.features import fill
from samseg.features.fill import feature_store
from samseg.features.store import cache_folder
from samseg.models import build
from samseg.models.build import build_model
from samseg.runs.config.load import load_config
from samseg.training.run import train
from samseg.training.trainer import Trainer
from tests.conftest import TINY
from tests.encoders.conftest import SMALL, SMALL_TINY
from tests.faults import flipped
from tests.processes import ranks

pytestmark = pytest.mark.usefixtures("small_pictures")
CACHED = "train.cache_features=true"
DECODER = {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32, "decoder_dropout": 0.2}


@pytest.fixture
def config_file(scenes, tmp_path) -> Path:
    model = {"arch": "fpn", "encoder": SMALL, "weights": None, "freeze_encoder": True, "decoder": DECODER}
    data = TINY["data"] | {"root": str(scenes)}
    settings = TINY["train"] | {"epochs": 2, "cache_dir": str(tmp_path / "cache")}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({"model": model, "data": data, "train": settings}, sort_keys=False))
    return path


@pytest.fixture
def trained(config_file, tmp_path, monkeypatch):
    """Train the small configuration with overrides; returns the run folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *overrides: train(load_config(config_file, list(overrides)), "small")


@pytest.fixture
def trunk_images(monkeypatch) -> list[int]:
    """The batch size of every pass through a ViT."""
    passes, forward = [], SamViT.forward

    def counting(self, x):
        passes.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(SamViT, "forward", counting)
    return passes


def entries(tmp_path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.safetensors"))


def history(folder: Path) -> list[dict[str, float]]:
    with open(folder / "history.csv", newline="") as file:
        return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_close(one: Path, other: Path, rel: float) -> None:
    """The first epoch's loss, of one step, within ``rel``; the next drift: AdamW's first steps go by signs alone."""
    ours, theirs = history(one), history(other)
    assert ours[0]["loss"] == pytest.approx(theirs[0]["loss"], rel=rel)
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], rel=10 * max(rel, 1e-4))


@pytest.mark.parametrize("encoder, dtypes", [(SMALL, ["float32", "float16", "bfloat16"]), (SMALL_TINY, ["float32"])])
def test_the_losses_are_those_without_the_cache(trained, encoder, dtypes):
    given = (f"model.encoder={encoder}", "train.batch_size=4", "train.accumulate=2", "train.lr=0.0002")
    without = trained(*given)
    for dtype in dtypes:
        cached = trained(CACHED, f"train.cache_dtype={dtype}", *given)
        assert_close(cached, without, {"float32": 2e-5, "float16": 1e-3, "bfloat16": 1e-2}[dtype])
        if dtype == "float32":
            assert history(cached)[0]["val_accuracy"] == pytest.approx(history(without)[0]["val_accuracy"], abs=1e-3)


def test_views_are_drawn_alike_with_and_without_the_cache(trained, tmp_path):
    given = ("data.views=4", "train.cache_dtype=float32", "train.lr=0.0002", "train.batch_size=6")
    cached = trained(CACHED, *given)
    assert len(entries(tmp_path)) == 6 * 4 + 3
    assert_close(cached, trained(*given), 1e-3)
    assert history(trained(CACHED, "train.workers=2", *given)) == history(cached)
    plain = trained("train.epochs=1", "train.lr=0.0002", "train.batch_size=6")
    assert abs(history(cached)[0]["loss"] / history(plain)[0]["loss"] - 1) > 1e-3


def test_the_encoder_runs_once_for_each_image_over_epochs_and_runs(trained, trunk_images, tmp_path, capsys):
    trained(CACHED)  # two epochs, each with validation and pictures of it
    assert sum(trunk_images) == 9
    assert "computing 9 of 9" in capsys.readouterr().out
    trained(
        CACHED,
        "train.epochs=1",
        "train.lr=0.01",
        "model.arch=unet",
        "model.decoder={decoder_channels: [16, 16, 16, 8, 8]}",
    )
    assert sum(trunk_images) == 9
    assert "features: all 9 read from" in capsys.readouterr().out
    trained(CACHED, "train.epochs=1", "data.views=2")
    assert sum(trunk_images) == 9 + 6


def store_of(config, encoder=None):
    """The store of a run; ``encoder``: the network's, built anew if not given."""
    encoder = encoder or build_model(config.model, classes=3).model.encoder
    settings = config.train
    root = cache_folder(settings.cache_dir)
    return feature_store(
        encoder, config.data.preprocessing, root=root, dtype=settings.cache_dtype, precision=settings.precision
    )


def test_what_makes_other_features_has_another_folder(config_file):
    def folder(*overrides: str) -> Path:
        config = load_config(config_file, list(overrides))
        set_seed(config.seed)
        return store_of(config).folder

    changes = [
        "seed=1",
        "data.image_size=96",
        "data.mean=[0.4, 0.4, 0.4]",
        "data.std=[0.2, 0.2, 0.2]",
        "data.bands=[3,2,1]",
    ]
    changes += [f"model.encoder={SMALL_TINY}", "train.precision=bf16", "train.cache_dtype=bfloat16"]
    folders = [folder(), *(folder(change) for change in changes)]
    assert len(set(folders)) == len(folders)
    assert folder("train.lr=1", "model.arch=unet", "model.decoder={}", "data.views=4", "train.epochs=9") == folders[0]


def test_damaged_entries_are_computed_again_and_counted(trained, trunk_images, tmp_path, capsys):
    whole = trained(CACHED, "train.epochs=1")
    cut, flipped, gone = entries(tmp_path)[:3]
    sound = [path.read_bytes() for path in (cut, flipped, gone)]
    cut.write_bytes(sound[0][:-100])
    flipped.write_bytes(sound[1][:-5000] + bytes([sound[1][-5000] ^ 1]) + sound[1][-4999:])
    gone.unlink()
    trunk_images.clear()
    capsys.readouterr()
    assert history(trained(CACHED, "train.epochs=1")) == history(whole)
    assert "computing 3 of 9, 2 of them damaged," in capsys.readouterr().out
    assert sum(trunk_images) == 3
    assert [path.read_bytes() for path in (cut, flipped, gone)] == sound


def test_a_run_is_resumed_also_without_its_cache(trained, tmp_path, monkeypatch):
    whole = trained(CACHED, "run_dir=whole")
    train_epoch = Trainer.train_epoch

    def interrupted(self, epoch, *rest):
        if epoch == 2:
            raise KeyboardInterrupt
        return train_epoch(self, epoch, *rest)

    monkeypatch.setattr(Trainer, "train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trained(CACHED, "run_dir=cut")
    monkeypatch.setattr(Trainer, "train_epoch", train_epoch)
    for path in entries(tmp_path):
        path.unlink()
    assert history(trained(CACHED, "run_dir=cut", "train.resume=true")) == history(whole)


def test_views_are_those_of_the_turned_image(trained, tmp_path, config_file):
    """Against PIL's turns and the encoder itself, for pictures that are not square."""
    config = load_config(config_file, [CACHED, "data.views=8", "train.cache_dtype=float32", "train.epochs=1"])
    turns = [None, "FLIP_LEFT_RIGHT", "FLIP_TOP_BOTTOM", "ROTATE_180", "ROTATE_90", "ROTATE_270"]
    turns += ["TRANSPOSE", "TRANSVERSE"]
    train(config, "views")
    set_seed(config.seed)
    encoder = build_model(config.model, classes=3).model.eval().encoder
    store = store_of(config, encoder)
    source = open_source(config.data, "train")
    store.add(source)
    for view, turn in enumerate(turns):
        picture = Image.open(source.image_file("train1"))
        picture = picture if turn is None else picture.transpose(Image.Transpose[turn])
        pixels = config.data.preprocessing.whole_input(as_raster(np.array(picture)))
        with torch.inference_mode():
            expected = encoder.taps(pixels[None])
        for found, tap in zip(store.read(source, "train1", view), expected, strict=True):
            torch.testing.assert_close(found.permute(2, 0, 1), tap[0], rtol=1e-4, atol=1e-5)


def test_the_disk_is_looked_at_before(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(fill, "_free_bytes", lambda folder: 10_000)
    with pytest.raises(InputError, match=r"the features take .* MB, but .* has 0\.0 MB free: name another folder"):
        trained(CACHED)
    assert not (tmp_path / "cache").exists() and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.freeze_encoder=false"], "model.freeze_encoder is false"),
        (["data.augment=[HorizontalFlip]"], "data.views=2, 4 or 8"),
        (["data.resize=false"], "cut the images into tiles"),
        (["model.encoder=tu-resnet18"], "for samseg's encoders"),
        (["data.image_size=48"], "data.image_size must be a multiple of 32 for .*, got 48; try"),
        (["train.cache_dtype=int8"], "float16, bfloat16, float32; got 'int8'"),
        (["data.views=3"], "data.views must be 1, 2, 4 or 8"),
    ],
)
def test_where_it_cannot_be_used(trained, tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        trained(CACHED, *overrides)
    assert not (tmp_path / "runs").exists() and not (tmp_path / "cache").exists()


def test_an_encoder_that_is_trained_in_part(trained, monkeypatch):
    freeze = build.freeze_encoder

    def freeze_but_one(network):
        freeze(network)
        network.encoder.trunk.pos_embed.requires_grad_(True)

    monkeypatch.setattr(build, "freeze_encoder", freeze_but_one)
    with pytest.raises(ConfigError, match="parts of it are trained"):
        trained(CACHED)


def train_counting(config: Path, settings: list[str]) -> None:
    """Train, and print how many images the trunk saw."""
    forward, images = SamViT.forward, []

    def counting(self, x):
        images.append(len(x))
        return forward(self, x)

    SamViT.forward = counting
    train(load_config(config, settings), "two")
    print("trunk ran on", sum(images))


def test_two_processes_share_the_work_and_train_as_one(config_file, trained, tmp_path):
    given = [
        CACHED,
        "train.cache_dtype=float32",
        "model.decoder.decoder_dropout=0",
        "train.accumulate=3",
        "train.lr=0.0002",
    ]
    line = [*given, "train.batch_size=1", "run_dir=two"]
    printed = ranks(train_counting, config_file, line, folder=tmp_path)
    assert sorted(text.splitlines()[-1] for text in printed) == ["trunk ran on 4", "trunk ran on 5"]
    assert len(entries(tmp_path)) == 9
    assert_close(tmp_path / "two", trained(*given, "train.batch_size=2"), 1e-4)


def test_an_entry_depends_on_its_image_alone(trained, tmp_path):
    """Whatever was missing beside it, and however many images were read at a time."""
    trained(CACHED, "train.epochs=1", "train.batch_size=4")
    sound = {path: path.read_bytes() for path in entries(tmp_path)}
    for path in entries(tmp_path)[1::2]:
        path.unlink()
    trained(CACHED, "train.epochs=1", "train.batch_size=3")
    assert {path: path.read_bytes() for path in entries(tmp_path)} == sound


def test_an_entry_altered_during_the_run_is_seen_when_it_is_read(trained, tmp_path, monkeypatch):
    whole = trained(CACHED, "run_dir=whole")
    train_epoch = Trainer.train_epoch

    def altered(self, epoch, *rest):
        if epoch == 2:
            for path in entries(tmp_path):
                path.write_bytes(flipped(path.read_bytes(), -300))
        return train_epoch(self, epoch, *rest)

    monkeypatch.setattr(Trainer, "train_epoch", altered)
    with pytest.raises(InputError, match="their checksum is another.; train.resume=true computes them again"):
        trained(CACHED, "run_dir=cut")
    monkeypatch.setattr(Trainer, "train_epoch", train_epoch)
    assert history(trained(CACHED, "run_dir=cut", "train.resume=true")) == history(whole)
