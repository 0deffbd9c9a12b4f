"""Models with SAM's encoder in bfloat16 on a CPU: what is asked for, what it changes, and where it is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from samseg.common.errors import InputError
from samseg.data.raster import Raster
from samseg.inference import precision
from samseg.inference.objects.files import ObjectFinder
from samseg.inference.objects.find import by_components
from samseg.inference.predictor import Predictor
from tests.inference.objects.test_files import promptable
from tests.random_run import write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), encoder="sam-vit_t")


@pytest.fixture(scope="module")
def image():
    return torch.rand(90, 120, 3, generator=torch.Generator().manual_seed(1)).mul(255).byte().numpy()


def test_bfloat16_gives_almost_the_same(folder, image, cpu):
    cpu("amd-avx512_bf16")
    exact = Predictor.from_run(folder, "cpu").probabilities(image)
    predictor = Predictor.from_run(folder, "cpu", precision="bf16")
    given = []
    predictor.model.segmentation_head.register_forward_hook(lambda _, __, logits: given.append(logits.dtype))
    found = predictor.probabilities(image)
    assert set(given) == {torch.bfloat16}
    assert 0 < abs(found - exact).max() < 0.05
    kinds = {parameter.dtype for parameter in predictor.model.encoder.trunk.parameters()}
    assert kinds == {torch.bfloat16} and predictor.model.encoder.pyramid.levels[0].norm.weight.dtype == torch.float32


@pytest.mark.parametrize("most, kind", [(1.0, torch.bfloat16), (-1.0, torch.float32)])
def test_auto_keeps_to_the_share_of_differing_pixels(folder, image, cpu, capsys, monkeypatch, most, kind):
    cpu("amd-avx512_bf16")
    monkeypatch.setattr(precision, "MOST_DIFFERENT", most)
    monkeypatch.setattr(precision, "LEAST_GAIN", 0.0)  # the time of a network so small is chance
    predictor = Predictor.from_run(folder, "cpu", precision="auto")
    predictor(image)
    predictor(image)
    assert next(predictor.model.encoder.trunk.parameters()).dtype == kind
    [line] = capsys.readouterr().out.splitlines()
    assert ("bf16" if kind == torch.bfloat16 else "fp32") in line and "% of the pixels that were tried differ" in line


def test_without_instructions_it_is_refused_and_auto_stays_exact(folder, image, cpu, capsys):
    cpu("amd-avx2")
    with pytest.raises(InputError, match="no instructions for it; leave it out"):
        Predictor.from_run(folder, "cpu", precision="bf16")
    exact = Predictor.from_run(folder, "cpu").probabilities(image)
    assert (Predictor.from_run(folder, "cpu", precision="auto").probabilities(image) == exact).all()
    assert capsys.readouterr().out.startswith("precision fp32: ")


def test_the_command_takes_it_for_photos_and_their_objects(folder, tmp_path, command, cpu, image):
    cpu("amd-avx512_bf16")
    Image.fromarray(image).save(tmp_path / "photo.png")
    predictor = Predictor.from_run(folder, "cpu", precision="bf16")
    run = (folder, tmp_path / "photo.png", "--device", "cpu", "--precision", "bf16")
    for more, expected in ((), predictor(image)), (("--objects",), by_components(predictor(image)).map):
        code, _, err = command("infer", *run, *more, "--out", tmp_path / "out")
        assert code == 0, err
        assert (np.asarray(Image.open(tmp_path / "out" / "photo.png")) == expected).all()


@pytest.mark.parametrize("way", ["prompts", "amg"])
def test_sam_of_a_run_computes_in_it_as_well(way, tmp_path, cpu, image):
    cpu("amd-avx512_bf16")
    run = promptable(tmp_path / "run")
    exact, found = (ObjectFinder(Predictor.from_run(run, "cpu", precision=name), way) for name in ("fp32", "bf16"))
    inputs = torch.from_numpy(image[:64, :64]).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected, embedding = (finder.sam.image_encoder(inputs) for finder in (exact, found))
    assert embedding.dtype == torch.float32 and 0 < (embedding - expected).abs().max() < 0.05 * expected.abs().max()
    assert found(Raster(image.transpose(2, 0, 1))).map.shape == image.shape[:2]


def test_auto_needs_classes_to_compare(tmp_path):
    predictor = Predictor.from_run(promptable(tmp_path / "run", none=0.0), "cpu", precision="auto")
    with pytest.raises(InputError, match="compares classes.* name bf16 or fp32"):
        ObjectFinder(predictor)
