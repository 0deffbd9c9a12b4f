import os

import pytest
import torch

from samseg.common.errors import InputError, WeightsError
from samseg.models.build import build_model
from samseg.runs.config.load import load_config, save_config
from samseg.runs.folder import newest_run
from samseg.runs.load import load_run
from samseg.runs.tensors import read_weights, save_weights


@pytest.fixture
def run(tiny_config, tmp_path):
    """A run folder of untrained weights, and the model they are of."""
    config = load_config(tiny_config)
    model = build_model(config.model, classes=3).model
    save_config(config, tmp_path / "runs" / "town" / "config.yaml")
    save_weights(model.state_dict(), tmp_path / "runs" / "town" / "best.safetensors")
    return tmp_path / "runs" / "town", model


def test_a_run_is_loaded_as_it_was_saved(run, tiny_config):
    folder, model = run
    loaded, config = load_run(folder)
    image = torch.randn(2, 3, 64, 64)
    assert not loaded.training
    assert loaded(image).equal(model.eval()(image))
    assert config == load_config(tiny_config)


def test_weights_may_share_memory_and_can_be_read_by_others(tmp_path):
    weight = torch.randn(4)
    save_weights({"one": weight, "other": weight}, tmp_path / "a.safetensors")
    module = torch.nn.Module()
    module.one, module.other = torch.nn.Parameter(torch.zeros(4)), torch.nn.Parameter(torch.zeros(4))
    module.load_state_dict(read_weights(tmp_path / "a.safetensors")[0])
    assert module.one.equal(weight) and module.other.equal(weight)
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_no_run_folder(tmp_path):
    with pytest.raises(InputError, match="no such run folder"):
        load_run(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"not a run folder.*config\.yaml"):
        load_run(tmp_path)


def test_a_run_that_finished_no_epoch(run):
    folder, _ = run
    (folder / "best.safetensors").unlink()
    with pytest.raises(InputError, match=r"town has no best\.safetensors: no epoch .* finished"):
        load_run(folder)


@pytest.mark.parametrize("keep", [0, 5, 1000])
def test_damaged_weights(run, keep):
    path = run[0] / "best.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"best\.safetensors cannot be read") as error:
        load_run(run[0])
    assert "\n" not in str(error.value)


def test_weights_of_another_model(run):
    folder, model = run
    state = model.state_dict()
    state["segmentation_head.0.bias"] = torch.zeros(7)
    save_weights(state, folder / "best.safetensors")
    with pytest.raises(WeightsError, match=r"does not fit .*1 tensors differ, such as segmentation_head\.0\.bias"):
        load_run(folder)
    state.pop("segmentation_head.0.bias")
    save_weights(state, folder / "best.safetensors")
    with pytest.raises(WeightsError, match=r"such as segmentation_head\.0\.bias"):
        load_run(folder)


def test_the_newest_run_is_the_one_with_the_latest_weights(run, tmp_path):
    (tmp_path / "runs" / "just-begun").mkdir()
    (tmp_path / "runs" / "a" / "b").mkdir(parents=True)
    older = tmp_path / "runs" / "village" / "best.safetensors"
    save_weights({"a": torch.zeros(1)}, older)
    os.utime(older, (0, 0))
    assert newest_run(tmp_path / "runs") == run[0]
    with pytest.raises(InputError, match="no trained run under .*: train one"):
        newest_run(tmp_path / "elsewhere")


def test_a_run_whose_config_was_changed(run):
    folder, model = run
    text = (folder / "config.yaml").read_text()
    save_weights(model.state_dict(), folder / "best.safetensors", {"config": text})
    (folder / "config.yaml").write_text(text.replace("- 0.485", "- 0.5"))
    with pytest.raises(InputError, match=r"changed since .*best.safetensors.*: data.mean was \[0.485.*, is \[0.5"):
        load_run(folder)
    loaded, config = load_run(folder / "best.safetensors")  # which knows its own
    assert config.data.mean[0] == 0.485
