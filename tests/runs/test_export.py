"""Exports answer as the run does, in the runtimes they are for."""

import json
import re
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from PIL import Image

from samseg.common.errors import InputError, WeightsError
from samseg.encoders.adapters.insert import adapter_parameters, is_adapter_tensor
from samseg.encoders.adapters.methods import METHODS
from samseg.inference.predictor import Predictor
from samseg.models.build import build_model
from samseg.models.config import ModelConfig
from samseg.models.pretrained import trained_part
from samseg.runs.config.load import save_config
from samseg.runs.export import EXTRA, export, plain
from samseg.runs.folder import WEIGHTS, read_run_config
from samseg.runs.load import load_run
from samseg.runs.tensors import read_metadata, read_weights, save_weights
from tests.encoders.conftest import SMALL
from tests.faults import flipped, small_disk
from tests.random_run import CLASSES, write_run, write_run_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "town")


@pytest.fixture
def images():
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def logits_of(run, images):
    with torch.inference_mode():
        return load_run(run)[0](images)


def assert_notes(notes):
    assert json.loads(notes["classes"]) == list(CLASSES)
    assert json.loads(notes["mean"]) == [0.485, 0.456, 0.406] and json.loads(notes["std"]) == [0.229, 0.224, 0.225]
    assert int(notes["image_size"]) == 64


def test_safetensors_is_the_run_in_one_file(run, tmp_path, images):
    file = export(run, "safetensors", tmp_path / "town.safetensors")
    assert logits_of(file, images).equal(logits_of(run, images))
    assert Predictor.from_run(file, "cpu").classes == list(CLASSES)
    assert load_run(file)[1].data == read_run_config(run).data
    assert logits_of(export(file, "safetensors", tmp_path / "again.safetensors"), images).equal(logits_of(run, images))


def test_safetensors_needs_the_base_no_more(tmp_path, images):
    encoder = smp.encoders.get_encoder("resnet18", weights=None)
    torch.save(encoder.state_dict(), tmp_path / "base.pth")
    run = write_run(tmp_path / "run")
    config = read_run_config(run)
    config = replace(config, model=replace(config.model, weights=str(tmp_path / "base.pth"), freeze_encoder=True))
    save_config(config, run / "config.yaml")
    model, base = build_model(config.model, len(CLASSES))
    state = {name: value for name, value in model.state_dict().items() if name not in base.names}
    save_weights(state, run / WEIGHTS, base.metadata())
    expected = logits_of(run, images)
    file = export(run, "safetensors")
    (tmp_path / "base.pth").unlink()
    assert file == run / "model.safetensors" and logits_of(file, images).equal(expected)


def sam_run(folder) -> Path:
    """With the encoder that the exports are for; its global attention, too, has to survive them."""
    small = {"decoder_pyramid_channels": 16, "decoder_segmentation_channels": 32}
    config = read_run_config(write_run(folder))
    return write_run_of(replace(config, model=ModelConfig("fpn", "sam-vit_t", None, False, decoder=small)), folder)


@pytest.fixture(scope="module")
def with_onnx(tmp_path_factory):
    """A run that was exported to ONNX."""
    pytest.importorskip("onnxscript")
    run = write_run(tmp_path_factory.mktemp("onnx") / "run")
    export(run, "onnx")
    return run


def test_onnx(with_onnx, images):
    assert [path.name for path in with_onnx.iterdir() if path.suffix in (".onnx", ".data")] == ["model.onnx"]
    check_onnx(with_onnx, images)


@pytest.mark.slow
def test_onnx_of_sam(tmp_path, images):
    pytest.importorskip("onnxscript")
    run = sam_run(tmp_path / "run")
    export(run, "onnx")
    check_onnx(run, images)


def check_onnx(run, images):
    session = pytest.importorskip("onnxruntime").InferenceSession(run / "model.onnx")
    assert_notes(session.get_modelmeta().custom_metadata_map)
    for batch in (images, images[:1]):
        [found] = session.run(["logits"], {"image": batch.numpy()})
        expected = logits_of(run, batch)
        assert torch.allclose(torch.from_numpy(found), expected, atol=1e-3)
        assert torch.from_numpy(found).argmax(1).eq(expected.argmax(1)).float().mean() > 0.999


def test_what_the_documents_show_gives_the_predictors_classes(with_onnx, monkeypatch):
    monkeypatch.chdir(with_onnx)
    picture = np.random.default_rng(0).integers(0, 255, (90, 130, 3), np.uint8)
    Image.fromarray(picture).save("photo.png")
    expected = Predictor.from_run(with_onnx, "cpu")("photo.png")
    names = {}
    for block, needs in zip(python_blocks("deploy.md")[1:], ("onnxruntime", "openvino")):
        if needs == "openvino" and find_spec(needs) is None:
            continue
        exec(block.replace("photo.jpg", "photo.png"), names)
        assert names["found"].shape == expected.shape
        assert (names["found"] == expected).mean() > (0.999 if needs == "onnxruntime" else 0.9)  # in bfloat16


def python_blocks(document):
    text = (Path(__file__).parents[2] / "docs" / document).read_text()
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


def test_torch_export(run, tmp_path, images):
    file = export(run, "torch-export", tmp_path / "town.pt2")
    extra = {"samseg.json": ""}
    module = torch.export.load(file, extra_files=extra).module()
    assert_notes(json.loads(extra["samseg.json"]))
    for batch in (images, images[:1]):
        assert torch.allclose(module(batch), logits_of(run, batch), atol=1e-5)


def test_smp_loads_the_folder_by_itself(run, tmp_path, images):
    folder = export(run, "smp", tmp_path / "town")
    assert json.loads((folder / "config.json").read_text())["encoder_weights"] is None  # or SMP would fetch them
    assert_notes(json.loads((folder / "samseg.json").read_text()))
    assert smp.from_pretrained(folder).eval()(images).equal(logits_of(run, images))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_plain_model_is_what_smp_would_build(run):
    model, config = load_run(run)
    bare = smp.create_model("unet", "resnet18", None, classes=len(CLASSES), **config.model.decoder)
    assert plain(model, config).state_dict().keys() == bare.state_dict().keys()


def test_nothing_is_overwritten_and_nothing_half_written(run, tmp_path, monkeypatch):
    file = tmp_path / "town.safetensors"
    file.write_text("mine")
    with pytest.raises(InputError, match="town.safetensors exists already: remove it, or name another with --out"):
        export(run, "safetensors", file)
    assert file.read_text() == "mine"
    with pytest.raises(InputError, match="nowhere is no folder"):
        export(run, "smp", tmp_path / "nowhere" / "model")
    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(OSError):
        export(run, "smp", tmp_path / "smp")
    assert list(tmp_path.iterdir()) == [file]


def broken(*arguments):
    raise OSError("no space left")


def test_what_is_no_run(run, tmp_path):
    with pytest.raises(InputError, match="not a run folder"):
        export(tmp_path, "onnx")
    with pytest.raises(InputError, match="best.safetensors is not an exported model: name a run folder"):
        export(run / WEIGHTS, "onnx")
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="a.safetensors is not an exported model"):
        load_run(tmp_path / "a.safetensors")


def test_a_missing_package_is_named_with_the_extra(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match="onnxscript") as error:
        export(run, "onnx", tmp_path / "model.onnx")
    assert EXTRA in str(error.value) and not list(tmp_path.iterdir())


def test_the_command(run, tmp_path, command):
    out = tmp_path / "town.safetensors"
    code, said, _ = command("export", run, "--to", "safetensors", "--out", out)
    assert code == 0 and f"written to {out}" in said and out.is_file()


def adapted_run(folder, method: str) -> Path:
    """A checkpoint as training writes it: an adapter that has learnt something, and no base."""
    small = {"decoder_pyramid_channels": 16, "decoder_segmentation_channels": 32}
    torch.manual_seed(0)
    base = Path(folder) / "sam.pth"
    trunk = smp.encoders.get_encoder(SMALL, weights=None).trunk
    torch.save({f"image_encoder.{name}": value for name, value in trunk.state_dict().items()}, base)
    run = write_run(Path(folder) / "run")
    adapter = {"name": method}
    model_config = ModelConfig("fpn", SMALL, str(base), adapter=adapter, decoder=small)
    config = replace(read_run_config(run), model=model_config)
    save_config(config, run / "config.yaml")
    config = read_run_config(run)
    model, base = build_model(config.model, len(CLASSES))
    for parameter in adapter_parameters(model):
        torch.nn.init.normal_(parameter, std=0.1)
    save_weights(trained_part(model.state_dict(), base), run / WEIGHTS, base.metadata())
    return run


@pytest.mark.parametrize("method", list(METHODS))
def test_an_adapter_is_stored_without_its_base_and_exported_with_it(method, tmp_path, images):
    run = adapted_run(tmp_path, method)
    expected = logits_of(run, images)
    stored = read_weights(run / WEIGHTS)[0]
    assert any(is_adapter_tensor(name) for name in stored)
    assert not any(name.startswith("encoder.trunk.") and not is_adapter_tensor(name) for name in stored)
    file = export(run, "safetensors")
    if method == "lora":
        folder = export(run, "smp")
    else:
        with pytest.raises(InputError, match=f"SMP knows no {method}"):
            export(run, "smp")
    (tmp_path / "sam.pth").unlink()
    torch.testing.assert_close(logits_of(file, images), expected, rtol=1e-4, atol=1e-4)
    if method == "lora":
        with torch.inference_mode():
            found = smp.from_pretrained(folder).eval()(images)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("to", ["safetensors", "torch-export", "smp"])
def test_a_full_disk_leaves_nothing(run, tmp_path, to):
    with small_disk(tmp_path / "disk", 256) as disk:
        with pytest.raises(InputError, match="town cannot be written .No space left on device.: make room"):
            export(run, to, disk / "town")
        assert not list(disk.iterdir())


def test_the_folders_of_the_makers_machine_stay_there(tmp_path, scenes):
    run = write_run(tmp_path / "somebody" / "run", root=str(scenes))
    file = export(run, "safetensors", tmp_path / "town.safetensors")
    text = read_metadata(file)["config"]
    assert str(tmp_path) not in text and str(scenes.parent) not in text
    assert load_run(file)[1].data.root == scenes.name


def test_an_export_is_damaged_or_made_by_hand(run, tmp_path):
    file = export(run, "safetensors", tmp_path / "town.safetensors")
    data = file.read_bytes()
    for place in (data.index(b"image_size") + 14, len(data) // 2, len(data) - 1):
        file.write_bytes(flipped(data, place))
        with pytest.raises(InputError, match="town.safetensors"):
            load_run(file)
    state, metadata = read_weights(run / WEIGHTS)
    text = (run / "config.yaml").read_text()
    save_weights(state, file, metadata | {"config": text, "base": "sa-1b"})
    with pytest.raises(WeightsError, match="town.safetensors names its base weights, sa-1b, but not their sha256"):
        load_run(file)
    save_weights(state, file, metadata | {"config": text.replace("arch: unet", "arch: nonsense")})
    with pytest.raises(InputError, match="nonsense"):
        load_run(file)
    save_weights(state, file, metadata | {"config": text.replace("seed: 0", "seed: ${oc.env:HOME}")})
    with pytest.raises(InputError, match=r"town.safetensors holds \$\{oc.env:HOME\}"):
        load_run(file)
