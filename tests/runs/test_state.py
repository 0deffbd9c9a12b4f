"""A state is what was written, or is refused; no code in it runs."""

import os
import pickle

import pytest
import torch

from samseg.common.errors import ConfigError, InputError
from samseg.runs.state import RunState, load_state
from tests.faults import flipped, small_disk

CONFIG = "seed: 0\ndata:\n  root: here\n  classes: {a: 0, b: 1}\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    state().save(tmp_path)
    return tmp_path


def state(**changed) -> RunState:
    history = [{"epoch": 1, "loss": 0.5, "val_miou": None}]
    return RunState(1, model={"a": torch.arange(5.0)}, history=history, config=CONFIG, **changed)


def refused(folder) -> str:
    with pytest.raises(InputError) as error:
        load_state(folder)
    assert "\n" not in str(error.value) and "weights_only" not in str(error.value)
    return str(error.value)


def test_a_state_is_read_as_it_was_saved(folder):
    found = load_state(folder)
    assert found.model["a"].equal(torch.arange(5.0))
    assert vars(found) | {"model": 0} == vars(state()) | {"model": 0}
    assert load_state(folder / "elsewhere") is None


def test_a_flipped_bit_anywhere_is_seen(folder):
    path = folder / "state.pt"
    data = path.read_bytes()
    for place in range(0, len(data), 3):
        path.write_bytes(flipped(data, place, place % 8))
        try:
            found = load_state(folder)
        except InputError as error:
            assert "state.pt" in str(error) and "\n" not in str(error)
        else:  # the mark before the digest, without which a file is one of an older version
            assert place >= len(data) - 72 and found.model["a"].equal(torch.arange(5.0))


@pytest.mark.parametrize("place", [0, 500, -500])
def test_a_stretch_of_zeros(folder, place):
    path = folder / "state.pt"
    data = bytearray(path.read_bytes())
    data[place : place + 400 if place + 400 else None] = bytes(400)
    path.write_bytes(data)
    assert "the run cannot be resumed" in refused(folder)


def test_a_state_of_an_older_version_carries_no_digest(folder):
    content = vars(state())
    del content["config"], content["data"]
    torch.save(content, folder / "state.pt")
    assert load_state(folder).model["a"].equal(torch.arange(5.0))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("run",)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_state_is_named_and_not_run(folder, write, monkeypatch):
    monkeypatch.chdir(folder)
    write({"epoch": Evil()}, folder / "state.pt")
    assert "holds pickled Python objects" in refused(folder)
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    "content",
    [
        [1],
        {"epoch": "one"},
        {"epoch": 1},  # without its history
        {"part": {}},
        {"part": {"images": 0, "steps": "no", "loss": 0.0, "seconds": 0.0}},
        {"model": {"a": 3}},
        {"history": [3], "epoch": 1},
        {"nonsense": 1},
    ],
)
def test_a_state_of_wrong_types(folder, content):
    torch.save(content, folder / "state.pt")
    assert "is no state of a run" in refused(folder)


def test_weights_that_are_not_finite_are_neither_saved_nor_read(folder):
    broken = state()
    broken.model = {"a": torch.tensor([0, float("nan")])}
    with pytest.raises(ConfigError, match="NaN or infinity after epoch 1, in a: lower train.lr"):
        broken.save(folder)
    assert load_state(folder).model["a"].equal(torch.arange(5.0)), "the one before stays"
    torch.save(vars(broken), folder / "state.pt")
    assert "holds NaN or infinity in a" in refused(folder)


def test_a_changed_configuration_is_said_with_what_changed(folder):
    (folder / "config.yaml").write_text(CONFIG.replace("seed: 0", "seed: 1").replace("{a: 0, b: 1}", "{b: 1, a: 0}"))
    message = refused(folder)
    assert "config.yaml was changed since" in message and "seed was 0, is 1" in message
    assert "the order of data.classes" in message
    (folder / "config.yaml").write_text("# moved\n" + CONFIG.replace("here", "there"))
    assert load_state(folder).epoch == 1


def test_a_full_disk_keeps_the_state_before(tmp_path):
    with small_disk(tmp_path / "disk", 64) as disk:
        (disk / "config.yaml").write_text(CONFIG)
        state().save(disk)
        larger = state()
        larger.model = {"a": torch.zeros(2**16)}
        with pytest.raises(InputError, match="state.pt cannot be written .No space left on device"):
            larger.save(disk)
        assert load_state(disk).model["a"].equal(torch.arange(5.0))
        assert sorted(os.listdir(disk)) == ["config.yaml", "state.pt"]
