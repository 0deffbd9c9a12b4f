import os
from contextlib import ExitStack
from dataclasses import replace

import pytest

from samseg.common.errors import ConfigError, InputError
from samseg.runs import folder as runs_folder
from samseg.runs.config.load import load_config
from samseg.runs.config.schema import RunConfig
from samseg.runs.folder import STATE, discard_unless_begun, earlier_run, read_run_config, sweep_saves
from tests.processes import start


@pytest.fixture
def config(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *overrides: load_config(tiny_config, list(overrides))


def new_run(config, name, begun=True):
    """A run's folder, let go of again; as after its first saved state unless it has not ``begun``."""
    with ExitStack() as lock:
        folder = runs_folder.new_run(config, name, lock)
        if begun:
            (folder / STATE).touch()
    return folder


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


def test_a_damaged_config_is_one_line(config):
    folder = new_run(config(), "town")
    file = folder / "config.yaml"
    file.write_bytes(file.read_bytes()[:-3] + b"\x8a\n")
    with pytest.raises(InputError, match=f"^{file} is not a YAML text file"):
        read_run_config(folder)


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
    with pytest.raises(InputError, match="the run folder out/run cannot be written .Not a directory"):
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


@pytest.mark.parametrize("overrides", [[], ["run_dir=out"]])
def test_a_run_that_was_killed_before_its_first_state_gives_way(config, overrides):
    folder = new_run(config(*overrides), "town", begun=False)
    for leftover in (".state-abcd_123.pt", "events.out.tfevents.1.host", "slurm.log"):
        (folder / leftover).touch()
    assert earlier_run(config(*overrides), "town") is None
    again = new_run(config("seed=3", *overrides), "town")
    assert again == folder and read_run_config(folder).seed == 3
    assert sorted(os.listdir(folder)) == ["config.yaml", "slurm.log", "state.pt"]


def make_run(config: RunConfig) -> None:
    try:
        print(new_run(config, "town"))
    except InputError as error:
        print(error)


def test_one_that_lives_does_not(config, tmp_path):
    with ExitStack() as lock:
        runs_folder.new_run(config(), "town", lock)
        living = runs_folder.new_run(config("run_dir=out"), "town", lock)
        # Within one process a lock lets pass, so another one asks.
        for overrides, expected in (([], "runs/town-2"), (["run_dir=out"], "out is in use by process")):
            process = start(make_run, config(*overrides), folder=tmp_path)
            process.join(60)
            assert expected in (tmp_path / "output.txt").read_text().splitlines()[-1]
        assert (living / "config.yaml").exists()


def test_what_failed_before_its_first_state_leaves_nothing(config, tmp_path):
    with ExitStack() as lock:
        folder = runs_folder.new_run(config(), "town", lock)
        (folder / "events.out.tfevents.1.host").touch()
        discard_unless_begun(folder, lock)
        assert not folder.exists()
        folder = runs_folder.new_run(config(), "town", lock)
        (folder / STATE).touch()
        discard_unless_begun(folder, lock)
        assert sorted(os.listdir(folder)) == ["config.yaml", "state.pt"]


def test_half_written_files_of_a_run_are_swept_and_no_others(config):
    folder = new_run(config(), "town")
    half = (
        ".state-abcd_123.pt",
        ".best-abcd_123.safetensors",
        ".tmpa1B2c3",
        ".validation-abcd_123.png",
        ".details_val-abcd_123.npz",
    )
    for name in (*half, ".model-abcd_123.onnx", ".tmp", "predictions"):
        (folder / name).touch()
    sweep_saves(folder)
    assert sorted(os.listdir(folder)) == [".model-abcd_123.onnx", ".tmp", "config.yaml", "predictions", "state.pt"]


@pytest.mark.parametrize("run_dir", ["{root}/train/images", "{root}", "{root}/../scenes/out", "link/out"])
def test_a_run_does_not_lie_among_its_data(config, scenes, tmp_path, run_dir):
    root = tmp_path / "scenes"
    root.mkdir()
    (tmp_path / "link").symlink_to(root)
    with pytest.raises(InputError, match="lies in data.root .*run_dir="):
        earlier_run(config(f"data.root={root}", "run_dir=" + run_dir.format(root=root)), "town")
    assert earlier_run(config(f"data.root={root}", f"run_dir={root}-out"), "town") is None
