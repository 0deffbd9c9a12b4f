from dataclasses import replace

import pytest

from samseg.config.load import load_config
from samseg.errors import ConfigError, InputError
from samseg.runs.folder import earlier_run, new_run, read_run_config


@pytest.fixture
def config(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *overrides: load_config(tiny_config, list(overrides))


def test_runs_are_numbered(config):
    folders = [new_run(config(), "town") for _ in range(3)]
    assert [str(folder) for folder in folders] == ["runs/town", "runs/town-2", "runs/town-3"]
    assert earlier_run(config(), "town") is None


def test_resuming_takes_the_latest_of_the_name(config):
    for name in ("town", "town", "town-planning"):
        new_run(config(), name)
    assert str(earlier_run(config("train.resume=true"), "town")) == "runs/town-2"
    assert earlier_run(config("train.resume=true"), "village") is None


def test_the_config_is_written_as_resolved_with_its_folder(config):
    folder = new_run(config("train.resume=true", "seed=3"), "town")
    assert read_run_config(folder) == replace(config("seed=3"), run_dir=str(folder))


def test_a_run_is_not_overwritten(config):
    new_run(config("run_dir=out"), "town")
    with pytest.raises(InputError, match=r"^out already holds a run: .*train\.resume=true.*run_dir$"):
        earlier_run(config("run_dir=out"), "town")
    assert str(earlier_run(config("run_dir=out", "train.resume=true"), "town")) == "out"


def test_a_folder_without_a_run_is_taken(config, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "slurm.log").touch()
    assert earlier_run(config("run_dir=out"), "town") is None
    assert new_run(config("run_dir=out"), "town").samefile(tmp_path / "out")


def test_run_dir_may_not_be_a_file(config, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(InputError, match="run_dir=out is a file"):
        earlier_run(config("run_dir=out"), "town")


def test_a_folder_that_cannot_be_made(config, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(InputError, match="the run folder cannot be written: .*out/run"):
        new_run(config("run_dir=out/run"), "town")


def test_resuming_with_another_configuration_names_the_keys(config):
    new_run(config(), "town")
    with pytest.raises(ConfigError) as error:
        earlier_run(config("train.resume=true", "train.lr=0.1", "model.arch=fpn", "train.workers=2"), "town")
    assert "train.lr was 0.002, is 0.1" in str(error.value)
    assert "model.arch was unet, is fpn" in str(error.value)
    assert "workers" not in str(error.value) and "\n" not in str(error.value)


def test_the_order_of_classes_is_part_of_the_configuration(config):
    new_run(config(), "town")
    other = config("train.resume=true")
    other.data.classes = dict(reversed(other.data.classes.items()))
    with pytest.raises(ConfigError, match="order of data.classes"):
        earlier_run(other, "town")
