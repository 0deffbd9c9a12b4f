"""SAM's encoder in bfloat16 on a CPU: what is asked for, what it changes, and where it is refused."""

import pytest
import torch

from samseg import machine
from samseg.errors import InputError
from samseg.inference import precision
from samseg.inference.predictor import Predictor
from tests.random_run import write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), encoder="sam-vit_t")


@pytest.fixture
def cpu(tmp_path, monkeypatch):
    """Says which instructions the CPU has."""

    def has(*flags: str) -> None:
        (tmp_path / "cpuinfo").write_text(f"model name : some CPU\nflags : fpu {' '.join(flags)}\n")
        monkeypatch.setattr(machine, "CPU", tmp_path / "cpuinfo")

    return has


@pytest.fixture(scope="module")
def image():
    return torch.rand(90, 120, 3, generator=torch.Generator().manual_seed(1)).mul(255).byte().numpy()


def test_bfloat16_gives_almost_the_same(folder, image, cpu):
    cpu("avx512_bf16")
    exact = Predictor.from_run(folder, "cpu").probabilities(image)
    predictor = Predictor.from_run(folder, "cpu", precision="bf16")
    found = predictor.probabilities(image)
    assert 0 < abs(found - exact).max() < 0.05
    kinds = {parameter.dtype for parameter in predictor.model.encoder.trunk.parameters()}
    assert kinds == {torch.bfloat16} and predictor.model.encoder.pyramid.levels[0].norm.weight.dtype == torch.float32


@pytest.mark.parametrize("most, kind", [(1.0, torch.bfloat16), (-1.0, torch.float32)])
def test_auto_keeps_to_the_share_of_differing_pixels(folder, image, cpu, capsys, monkeypatch, most, kind):
    cpu("avx512_bf16")
    monkeypatch.setattr(precision, "MOST_DIFFERENT", most)
    monkeypatch.setattr(precision, "LEAST_GAIN", 0.0)  # the time of a network so small is chance
    predictor = Predictor.from_run(folder, "cpu", precision="auto")
    predictor(image)
    predictor(image)
    assert next(predictor.model.encoder.trunk.parameters()).dtype == kind
    [line] = capsys.readouterr().out.splitlines()
    assert ("bf16" if kind == torch.bfloat16 else "fp32") in line and "% of the pixels that were tried differ" in line


def test_without_instructions_it_is_refused_and_auto_stays_exact(folder, image, cpu, capsys):
    cpu("avx2")
    with pytest.raises(InputError, match="no instructions for it; leave it out"):
        Predictor.from_run(folder, "cpu", precision="bf16")
    exact = Predictor.from_run(folder, "cpu").probabilities(image)
    assert (Predictor.from_run(folder, "cpu", precision="auto").probabilities(image) == exact).all()
    assert capsys.readouterr().out.startswith("precision fp32: ")


def test_the_command_takes_it_for_photos_alone(folder, tmp_path, command, cpu, image):
    from PIL import Image

    cpu("avx512_bf16")
    Image.fromarray(image).save(tmp_path / "photo.png")
    run = (folder, tmp_path / "photo.png", "--out", tmp_path / "out", "--device", "cpu")
    code, out, err = command("infer", *run, "--precision", "bf16")
    assert code == 0 and (tmp_path / "out" / "photo.png").exists(), err
    code, out, err = command("infer", *run, "--precision", "bf16", "--objects")
    assert code == 2 and "--precision is for class maps of photos" in err
