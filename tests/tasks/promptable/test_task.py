"""Fine-tuning with prompts, from configuration to figures."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from samseg.common.errors import ConfigError, InputError, WeightsError
from samseg.encoders.registry import ROWS
from samseg.evaluation.evaluate_run import evaluate_run
from samseg.inference.predictor import Predictor
from samseg.models.sam.files import build_sam, empty_sam
from samseg.models.sam.predictor import SamPredictor
from samseg.models.sam.simulate import boxes_of
from samseg.runs.config.load import load_config, task_of
from samseg.runs.export import export
from samseg.runs.load import load_run
from samseg.runs.sam import tuned_sam
from samseg.tasks.promptable.clicks import box_answers
from samseg.training.run import train
from tests.encoders.conftest import SMALL, SMALL_HIERA, SMALL_SAM3
from tests.processes import ranks
from tests.random_run import write_run_of


@pytest.fixture
def trained(config_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *overrides: train(load_config(config_file, list(overrides)), "prompts")


def history(folder: Path) -> list[dict[str, str]]:
    with open(folder / "history.csv", newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def whole_checkpoint(folder: Path, hq: bool = False) -> Path:
    torch.manual_seed(1)
    sam = empty_sam(SMALL, image_size=128, hq=hq)
    state = {key.replace("encoder.trunk.", "encoder."): value for key, value in sam.state_dict().items()}
    torch.save(state, folder / "sam.pth")
    return folder / "sam.pth"


def test_a_run_beside_sam_as_it_came(trained, tmp_path, capsys):
    """From a checkpoint: both stand in the table, and all but the decoder stays as it was."""
    folder = trained(f"model.weights={whole_checkpoint(tmp_path)}", "prompts.none=0.5")
    out = capsys.readouterr().out
    assert "train: 6 objects in 4 images, 1.5 an image, at most 3; 1 of them without objects, which are skipped" in out
    assert "(mask decoder, class tokens); frozen: encoder, prompt encoder" in out
    assert "as it came" in out and "without prompts:" in out
    figures = json.loads((folder / "metrics.json").read_text())["val"]
    assert figures["objects"] == 2  # of the three, by prompts.objects
    assert figures["before"] != {key: figures[key] for key in figures["before"]}
    assert set(figures["classes"]["iou"]) == {"background", "square"}
    assert (folder / "validation.png").is_file() and (folder / "curves.png").is_file()
    again = evaluate_run(folder, "val").figures
    assert again["before"] == pytest.approx(figures["before"]) and again["box"] == pytest.approx(figures["box"])
    model, config = load_run(folder)
    untrained = task_of(config).build_model().model
    for name, value in model.state_dict().items():
        if not name.startswith(("mask_decoder.", "class_tokens.")):
            assert torch.equal(value, untrained.state_dict()[name]), name
    picture = np.asarray(Image.open(folder / "validation.png"))
    assert Predictor.from_run(folder)(picture[:60, :80]).shape == (60, 80)


def test_instances_alone_are_enough(trained, objects_root, config_file, tmp_path, command):
    """Objects without masks, with no class and with two: trained, evaluated, checked and rehearsed."""
    for split, other in (("train", "train"), ("val", "val"), ("test", "val")):
        for kind in ("images", "instances"):
            (tmp_path / "alone" / split).mkdir(parents=True, exist_ok=True)
            (tmp_path / "alone" / split / kind).symlink_to(objects_root / other / kind)
    root = f"data.root={tmp_path / 'alone'}"
    folder = trained(root, "data.classes={background: 0, object: 1}", "prompts.none=0.5", "train.epochs=1")
    code, out, error = command("evaluate", folder)
    assert code == 0 and "2 objects" in out and "without prompts:" in out, error
    figures = json.loads((folder / "metrics_test.json").read_text())["test"]
    assert set(figures["classes"]["iou"]) == {"background", "object"}
    assert command("report", folder)[0] == 0
    code, out, error = command("check", config_file, root, "data.classes={}")
    assert code == 0 and "train: 6 objects in 4 images" in out, error
    code, out, error = command("train", config_file, root, "data.classes={}", "--dry-run")
    assert code == 0, error
    code, _, error = command("check", config_file, root, "data.classes={}", "prompts.none=0.5")
    assert code == 2 and "name them ({background: 0, object: 1} where there are instances/ and no masks/)" in error
    code, out, error = command("check", tmp_path / "alone")
    assert code == 0 and 'data.classes={"background": 0, "object": 1}' in out, error
    (tmp_path / "alone/train/instances").unlink()
    (tmp_path / "alone/train/masks").symlink_to(objects_root / "train" / "masks")
    code, out, error = command("check", config_file, root, "data.classes={}", "--out", tmp_path / "problems.png")
    assert code == 2 and "has no objects: task: promptable takes them from instances" in out, error


LORA = "model.adapter={name: lora, rank: 2, decoder: true}"  # in encoder and decoder


@pytest.mark.parametrize(
    "given",
    [
        ("prompts.none=0.3", "model.freeze_encoder=false"),
        (f"model.encoder={SMALL_HIERA}", LORA, "prompts.absent=0.4"),
    ],
    ids=["free", "sam2 with lora"],
)
def test_a_resumed_run_is_the_same_to_the_digit(given, trained, tmp_path):
    whole = trained(*given)
    from samseg.training.trainer import Trainer

    stopped = tmp_path / "stopped"

    class Stop(Exception):
        pass

    train_epoch = Trainer.train_epoch

    def until_the_second(self, epoch, *arguments):
        if epoch == 2:
            raise Stop
        return train_epoch(self, epoch, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", until_the_second)
        with pytest.raises(Stop):
            trained(*given, f"run_dir={stopped}")
    assert len(history(stopped)) == 1
    trained(*given, f"run_dir={stopped}", "train.resume=true")
    assert history(stopped) == history(whole)
    ours, theirs = (load_run(folder)[0].state_dict() for folder in (stopped, whole))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def train_alone(config: Path, settings: list[str]) -> None:
    train(load_config(config, settings), "two")


def test_two_processes_train_sam2_as_one(config_file, trained, tmp_path):
    """With one round, all objects and a box without jitter nothing is drawn; images have one, two and three objects."""
    fixed = ["prompts.rounds=0", "prompts.box=1.0", "prompts.box_jitter=0.0", "prompts.objects=null"]
    given = [f"model.encoder={SMALL_HIERA}", "train.epochs=1", "train.accumulate=2", *fixed]
    ranks(train_alone, config_file, [*given, "train.batch_size=1", "run_dir=two"], folder=tmp_path)
    (two,), (one,) = history(tmp_path / "two"), history(trained(*given, "train.batch_size=2"))
    assert two.keys() == one.keys()
    for name, value in one.items():
        assert float(two[name]) == pytest.approx(float(value), abs=1e-4), name


@pytest.mark.parametrize("encoder", [SMALL, SMALL_HIERA])
def test_with_the_cache_the_losses_are_those_without(encoder, trained):
    given = (f"model.encoder={encoder}", "train.epochs=1", "train.batch_size=4", "prompts.rounds=0", "prompts.box=1.0")
    plain = trained(*given)
    cached = trained(*given, "train.cache_features=true", "train.cache_dtype=float32")
    (theirs,), (ours,) = history(plain), history(cached)
    assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-4)
    assert float(ours["val_iou_error"]) == pytest.approx(float(theirs["val_iou_error"]), abs=1e-3)


def test_sam2_in_a_run_sees_images_and_answers_as_its_predictor_does(config_file):
    """Squashed to the square, and answers at the image's own size, which is 70 x 50."""
    config = load_config(config_file, [f"model.encoder={SMALL_HIERA}"])
    assert config.data.resize == "squash"
    model, preprocessing = task_of(config).build_model().model.eval(), config.data.preprocessing
    item = task_of(config).dataset("val", train=False, seed=0)[0]
    truth = item["objects"] == item["objects"].unique()[1:, None, None]
    with torch.inference_mode():
        features = model.embed(preprocessing.whole_input(item["image"])[None])
        found, _ = box_answers(model, features, truth)
    predictor = SamPredictor(tuned_sam(model, preprocessing))
    predictor.set_image(preprocessing.picture(item["image"]))
    boxes = boxes_of(truth).numpy()
    expected, _, _ = predictor.predict(box=boxes, multimask_output=False, return_logits=True)
    torch.testing.assert_close(found, torch.from_numpy(expected[:, 0]), rtol=1e-4, atol=1e-4)
    assert load_config(config_file, [f"model.encoder={SMALL_HIERA}", "data.resize=true"]).data.resize is True
    assert load_config(config_file).data.resize is True  # SAM's own
    semantic = {"model": {"encoder": SMALL_HIERA}, "data": {"classes": {"ground": 0, "roof": 1}}}
    assert load_config(semantic).data.resize is True


def test_the_classes_go_to_onnx(config_file, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = write_run_of(load_config(config_file, ["prompts.none=0.5"]), tmp_path / "run")
    file = export(folder, "onnx", tmp_path / "classes.onnx")
    images = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        expected = load_run(folder)[0](images)
    (answer,) = runtime.InferenceSession(str(file)).run(None, {"image": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(answer), expected, rtol=1e-3, atol=1e-4)
    bare = write_run_of(load_config(config_file), tmp_path / "bare")
    with pytest.raises(InputError, match="prompts.none above 0"):
        export(bare, "onnx", tmp_path / "none.onnx")


@pytest.mark.parametrize(
    "override, said",
    [
        ("model.arch=unet", "set model.arch=sam, it is unet"),
        ("data.resize=false", "sees whole images"),
        ("data.resize=squashed", "must be true, false or squash, got squashed"),
        ("prompts.loss=dice", "must be dice[+]bce or dice[+]focal, got 'dice'"),
        ("prompts.none=1", "below 1"),
        ("prompts.classes=[squares]", "no class squares; did you mean 'square'"),
        ("task=semantic", "prompts is for task: promptable"),
        ("prompts.objects=0", "at least 1"),
        ("prompts.absent=1", "from 0 to below 1"),
    ],
)
def test_settings_that_cannot_be_are_one_line(config_file, override, said):
    with pytest.raises(ConfigError, match=said) as error:
        load_config(config_file, [override])
    assert "\n" not in str(error.value)


def test_models_that_cannot_be_are_one_line(config_file, tmp_path):
    def build(*overrides):
        task_of(load_config(config_file, list(overrides))).build_model()

    with pytest.raises(ConfigError, match="needs SAM's encoder, not resnet18"):
        build("model.encoder=resnet18")
    with pytest.raises(ConfigError, match="no argument channels"):
        build("model.decoder={channels: 3}")
    with pytest.raises(ConfigError, match="which sam-vit_small's SAM has none of: set prompts.absent=0"):
        build("prompts.absent=0.2")
    whole = whole_checkpoint(tmp_path)
    with pytest.raises(WeightsError, match="for weights of SAM-HQ, but these are plain SAM's"):
        build(f"model.weights={whole}", "model.decoder={high_resolution: true}")
    trunk = {f"image_encoder.{k}": v for k, v in ROWS[SMALL].build().state_dict().items()}
    torch.save(trunk, tmp_path / "encoder.pth")
    with pytest.raises(WeightsError, match="holds no mask decoder, only an image encoder"):
        build(f"model.weights={tmp_path / 'encoder.pth'}")


def test_a_split_without_any_object_is_one_line(config_file):
    task = task_of(load_config(config_file, ["prompts.min_pixels=1000"]))
    with pytest.raises(InputError, match="train: none of its 4 images holds an object of 1000 pixels"):
        task.check(("train",))


def test_a_run_goes_back_to_segment_anything_and_transformers(trained, tmp_path):
    """With LoRA in encoder and decoder, merged; segment-anything's decoder and transformers load it and agree."""
    transformers = pytest.importorskip("transformers")
    folder = trained(f"model.weights={whole_checkpoint(tmp_path)}", LORA, "train.epochs=1", "train.lr=0.01")
    boxes = torch.tensor([[5.0, 6.0, 40.0, 50.0]])
    model, _ = load_run(folder)
    with torch.inference_mode():
        features = model.embed(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
        expected = model.decode(features, boxes=boxes).logits
    state = torch.load(export(folder, "sam", tmp_path / "tuned.pth"), weights_only=True)
    again = empty_sam(SMALL, image_size=64).mask_decoder
    own = {name.removeprefix("mask_decoder."): v for name, v in state.items() if name.startswith("mask_decoder.")}
    again.load_state_dict(own)
    prompts = model.prompt_encoder
    with torch.inference_mode():
        sparse, dense = prompts(None, boxes, None)
        answer, _ = again(features["embedding"], prompts.get_dense_pe(), sparse, dense, multimask_output=False)
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)
    theirs = transformers.SamModel.from_pretrained(export(folder, "transformers", tmp_path / "hub"))
    name = "mask_decoder.transformer.layers.0.self_attn.q_proj.weight"
    assert torch.equal(theirs.state_dict()[name], state[name])


@pytest.mark.parametrize(
    "variant, size, to, theirs", [(SMALL_HIERA, 64, "sam2", "Sam2Model"), (SMALL_SAM3, 56, "sam3", "Sam3TrackerModel")]
)
def test_a_run_on_sams_successors_from_the_cache_goes_back_to_them(variant, size, to, theirs, trained, tmp_path):
    """Trained on stored features, with class tokens; both files give the run's answers."""
    transformers = pytest.importorskip("transformers")
    stored = ("train.cache_features=true", "prompts.none=0.3", "train.epochs=1")
    folder = trained(f"model.encoder={variant}", f"data.image_size={size}", *stored)
    assert 0 <= json.loads((folder / "metrics.json").read_text())["val"]["iou"] <= 1
    model, _ = load_run(folder)
    pixels, boxes = torch.randn(1, 3, size, size), torch.tensor([[5.0, 6.0, 40.0, 50.0]])
    with torch.inference_mode():
        expected = model.decode(model.embed(pixels), boxes=boxes)
        again = build_sam(export(folder, to, tmp_path / "tuned.pt"), image_size=size)
        assert torch.equal(again.decode(again.embed(pixels), boxes=boxes).logits, expected.logits)
        model = getattr(transformers, theirs).from_pretrained(export(folder, "transformers", tmp_path / "hub"))
        answer = model(pixel_values=pixels, input_boxes=boxes[None], multimask_output=False)
    torch.testing.assert_close(answer.pred_masks[0], expected.logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match=f"for another SAM than {variant}'s: export it with --to {to}"):
        export(folder, "sam", tmp_path / "sam.pth")
