"""Values that would fail, do nothing or end the process later are refused before the first step, in one line."""

import re

import pytest

from samseg.common.errors import ConfigError
from samseg.runs.config.load import load_config, run_config, to_yaml
from samseg.training.run import train


@pytest.mark.parametrize(
    "override, expected",
    [
        ("data.classes={roof: 1}", "data.classes names roof alone.*background: 0, roof: 255"),
        ("data.std=[1e-30,0.2,0.2]", "data.std is given on the scale 0..1 .std at least 0.0001"),
        ("train.batch_size=100000000000000000000", "train.batch_size must be from 1 to 1 000 000"),
        ("train.epochs=100000000000000000000", "train.epochs must be from 1 to 1 000 000"),
        ("train.workers=100000000000000000000", "train.workers must be from 0 to 1024"),
        ("train.epochs=1e20", "train.epochs must be an integer"),
        ("model.decoder={activation: softmax}", "cannot hold activation: the network gives logits"),
        ("model.decoder={aux_params: {classes: 2}}", "cannot hold aux_params"),
        ("model.decoder={classes: 5}", "cannot hold classes: data.classes says"),
        ("model.decoder={in_channels: 4}", "cannot hold in_channels"),
    ],
)
def test_when_the_configuration_is_read(tiny_config, override, expected):
    with pytest.raises(ConfigError, match=expected) as error:
        load_config(tiny_config, [override])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (["data.image_size=1048576"], "one image and its logits take .* GiB, this machine has .*: lower it"),
        (["model.decoder={encoder_depth: 3, decoder_channels: [16, -8, 8]}"], "unet with tu-resnet18 cannot be built"),
        (
            ["model.arch=fpn", "model.decoder={}", "data.image_size=80"],
            "data.image_size must be a multiple of 32 for FPN, got 80; try 64 or 96",
        ),
        (["data.augment=[{ToGray: {p: 1, num_output_channels: 1}}]"], "data.augment makes 1 channels of 3"),
    ],
)
def test_before_a_run_folder_is_made(tiny_config, tmp_path, monkeypatch, overrides, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=expected) as error:
        train(load_config(tiny_config, overrides), "tiny")
    assert type(error.value).__module__ == "samseg.common.errors" and "\n" not in str(error.value)
    assert not (tmp_path / "runs" / "tiny").exists()


def test_what_a_run_was_written_with_reads_nothing_of_this_machine(tiny_config, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    config = load_config(tiny_config, ["data.root=${oc.env:SECRET}"])
    assert config.data.root == "hunter2", "the user's own configuration may"
    text = to_yaml(config)
    assert run_config(text, "a run") == config
    with pytest.raises(ConfigError, match=r"^a run holds \$\{oc.env:SECRET\}, which is not resolved") as error:
        run_config(text.replace("hunter2", "${oc.env:SECRET}"), "a run")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("key", ["data.root", "model.weights", "run_dir"])
def test_a_path_of_300_letters(tiny_config, command, key):
    code, _, errors = command("train", tiny_config, f"{key}={'x' * 300}")
    assert code == 2 and errors.startswith("error: ") and errors.count("\n") == 1
    # From Python 3.14 on, what cannot be is not there when it is read.
    assert "ame too long" in errors or (key != "run_dir" and re.search("no such folder|no weights", errors))
