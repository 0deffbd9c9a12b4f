"""All that runs forward, on a feigned GPU: a tensor left on the CPU is an error, and so is the CPU's own way."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from samseg.data.check import Report, SplitReport
from samseg.encoders.adapters.insert import add_adapter
from samseg.encoders.adapters.methods import METHODS
from samseg.encoders.encoder import SmpEncoder
from samseg.inference.objects.find import by_prompts
from samseg.inference.oneshot.oneshot import OneShot
from samseg.inference.photos import predict_images
from samseg.inference.predictor import Predictor
from samseg.models.cached import TapModel
from samseg.models.sam.contract import of_image
from samseg.models.sam.files import empty_sam
from samseg.models.smp import ARCHITECTURES, create_model
from samseg.models.trainable import checkpoint_gradients
from samseg.predict.rows import network_on
from samseg.runs.config.load import load_config, task_of
from samseg.runs.config.schema import RunConfig
from samseg.tasks.metrics import SegmentationMetrics
from samseg.tasks.promptable.clicks import CLICKS, object_scores
from tests.encoders.conftest import SMALL, SMALL_TINY
from tests.feigned_gpu import feigned_gpu

CLASSES = {"background": 0, "field": 1, "road": 2}
SIZES = {1024: None, 1600: torch.bfloat16, 1001: torch.float16}  # pixels a side, and what autocast computes in
GPU = torch.device("cuda:0")
IMAGE = np.zeros((140, 121, 3), np.uint8)
counts = SplitReport(images=2, pixels=[1, 1, 1], occurs=[1, 1, 1], ignored=0, sizes=None)
REPORT = Report(list(CLASSES), {"train": counts}, {})


@pytest.fixture(autouse=True)
def gpu():
    with feigned_gpu(), torch.no_grad():
        yield


def answer(model: nn.Module, size: int, precision: torch.dtype | None, images: int = 1) -> Tensor:
    image = torch.rand(images, 3, size, size, device="cuda")
    with torch.autocast("cuda", dtype=precision, enabled=precision is not None):
        return model(image)


@pytest.mark.parametrize("name", [SMALL, SMALL_TINY, "sam-vit_b", "sam-vit_t"])
@torch.no_grad()
def test_encoders(name):
    encoder = SmpEncoder(name).cuda().eval()
    for size, precision in SIZES.items():
        for level, stride in zip(answer(encoder, size, precision)[1:], (2, 4, 8, 16, 32), strict=True):
            assert level.device.type == "cuda" and level.shape[2:] == (-(-size // stride),) * 2


@pytest.mark.parametrize("arch", [arch for arch in ARCHITECTURES if arch != "dpt"])
def test_decoders(arch):
    model = create_model(arch, SMALL, None, classes=3).cuda()
    size, precision = 1001, torch.float16
    if model.requires_divisible_input_shape:
        size, precision = 1600, torch.bfloat16
    logits = answer(model, size, precision, images=2)
    assert logits.device.type == "cuda" and logits.shape == (2, 3, size, size)


@pytest.mark.parametrize("method", METHODS)
def test_adapters(method):
    encoder = add_adapter(SmpEncoder(SMALL), method).cuda()
    checkpoint_gradients(SimpleNamespace(encoder=encoder))
    for training, (size, precision) in zip((True, True, False), SIZES.items(), strict=True):
        assert answer(encoder.train(training), size, precision)[-1].device.type == "cuda"


def run_config(image_size: int = 128, **sections: object) -> RunConfig:
    sections = {"model": {}, "data": {}} | sections
    model = {"encoder": SMALL, "weights": None} | sections.pop("model")
    data = {"classes": CLASSES, "image_size": image_size} | sections.pop("data")
    return load_config({"model": model, "data": data, "train": {"precision": "bf16"}} | sections)


def test_semantic_training():
    task = task_of(run_config(train={"loss": {"ce": 1, "dice": 1, "focal": 1}}))
    model, objective = task.build_model().model.to(GPU), task.objective(REPORT).to(GPU)
    batch = task.random_batch(2, GPU)
    assert objective(model(task.inputs(batch)), batch, objective.weight(batch), batches=1).device == GPU


def test_semantic_validation():
    metrics = SegmentationMetrics(list(CLASSES)).to(GPU)
    logits, mask = torch.rand(3, 70, 90, device=GPU), torch.ones(70, 90, device=GPU).long()
    metrics.count_confidence(logits, mask)
    metrics.update(logits.argmax(0), mask)
    assert metrics.compute().keys() >= {"miou", "accuracy"}


def test_stored_features():
    model = create_model("unet", SMALL, None, classes=3).to(GPU)
    taps = [tap.permute(0, 2, 3, 1).half() for tap in model.encoder.taps(torch.rand(2, 3, 128, 128, device=GPU))]
    assert TapModel(model, 128)(taps).device == GPU


@pytest.mark.parametrize("none", [0, 0.99], ids=["prompts", "classes"])
@pytest.mark.parametrize("hq", [False, True], ids=["SAM", "SAM-HQ"])
def test_promptable_training_and_validation(none, hq):
    model = {"arch": "sam", "decoder": {"high_resolution": hq}, "adapter": {"name": "lora", "decoder": True}}
    task = task_of(run_config(task="promptable", model=model, prompts={"none": none, "rounds": 2, "min_pixels": 1}))
    model, objective = task.build_model().model.to(GPU), task.objective(REPORT).to(GPU)
    batch = task.random_batch(2, GPU)
    inputs = task.inputs(batch)
    loss = objective(model.train()(inputs), batch, objective.weight(batch), batches=1)  # of boxes, if of prompts
    assert loss.device == GPU
    first = of_image(model.embed(inputs["image"]), 0)
    found = model.rounds._of_image(model, first, inputs["objects"][0], inputs["valid"][0], box_first=False)
    assert {loss.device for loss in found} == {GPU}
    features, objects = model.eval().embed(torch.rand(1, 3, 128, 128, device=GPU)), torch.ones(70, 90).long()
    scores = object_scores(model, features, objects, objects > 0, torch.ones(2).long())
    assert (scores.shape, scores.device.type) == ((2, CLICKS + 4), "cpu")
    if none:
        assert model.without_prompts(features, (128, 128)).device == GPU


@pytest.mark.parametrize("hq", [False, True], ids=["SAM", "SAM-HQ"])
def test_whole_sams_find_objects(hq):
    sam = empty_sam(SMALL, 128, hq=hq).to(GPU)
    by_prompts(sam, IMAGE, np.ones(IMAGE.shape[:2], np.uint8))
    oneshot = OneShot(sam, [(IMAGE, np.ones(IMAGE.shape[:2], np.uint8))], fine_tune=False)
    oneshot(IMAGE)


@pytest.mark.parametrize("resize", [False, True], ids=["tiles", "whole"])
@pytest.mark.parametrize("arch", ["unet", "sam"])
def test_predictor(arch, resize, tmp_path):
    run = run_config(model={"arch": arch}, data={"resize": resize})
    for tta in ("d4", None):
        predictor = Predictor(task_of(run).build_model().model, run, GPU, tta=tta)
        for rows, logits in predictor.rows(IMAGE):
            assert logits.device == GPU and logits.shape[1] == rows.stop - rows.start
    Image.fromarray(IMAGE).save(tmp_path / "photo.png")
    assert predict_images(predictor, [tmp_path / "photo.png"], tmp_path / "out", probabilities=True) == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "legend.png", "photo.npy", "photo.png", "photo_overlay.jpg"
    ]  # fmt: skip


def test_maps():
    model = create_model("unet", SMALL, None, classes=3).to(GPU)
    network = network_on(GPU, model, (100, 128), torch.float16, "flips")
    assert network(torch.rand(2, 3, 128, 128)).device == GPU
