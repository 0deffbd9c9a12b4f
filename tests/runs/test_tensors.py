"""Weights are what was written, or are refused."""

import pytest
import safetensors.torch
import torch

from samseg.common.errors import WeightsError
from samseg.runs.tensors import read_weights, save_weights
from tests.faults import flipped, small_disk

STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3), "c": torch.ones(5, dtype=torch.bfloat16)}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "best.safetensors"
    save_weights(STATE, path, {"base": "sa-1b", "base_sha256": "0" * 64})
    return path


def same(state) -> bool:
    return state.keys() == STATE.keys() and all(state[name].equal(STATE[name]) for name in STATE)


def test_a_flipped_bit_anywhere_changes_nothing_unseen(file):
    data, refused = file.read_bytes(), 0
    _, before = read_weights(file)
    for place in range(len(data)):
        file.write_bytes(flipped(data, place, place % 8))
        try:
            state, metadata = read_weights(file)
        except WeightsError as error:
            assert str(file) in str(error) and "\n" not in str(error)
            refused += 1
        else:  # the name of the digest itself, without which a file is one of an older version
            metadata = {name: value for name, value in metadata.items() if name in before}
            assert same(state) and metadata == before
    assert refused >= len(data) - len("sha256")


def test_older_files_carry_no_digest(file):
    safetensors.torch.save_file(STATE, file, {"base": "sa-1b"})
    state, metadata = read_weights(file)
    assert same(state) and metadata == {"base": "sa-1b"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(file, value):
    save_weights(STATE | {"a": torch.tensor([0, value])}, file)
    with pytest.raises(WeightsError, match=r"best\.safetensors holds NaN or infinity in a"):
        read_weights(file)


def test_a_full_disk(tmp_path):
    with small_disk(tmp_path / "disk", 64) as disk:
        save_weights(STATE, disk / "best.safetensors")
        with pytest.raises(ValueError, match="best.safetensors cannot be written .No space left on device"):
            save_weights({"a": torch.zeros(2**16)}, disk / "best.safetensors")
        assert same(read_weights(disk / "best.safetensors")[0])
        assert [path.name for path in disk.iterdir()] == ["best.safetensors"]
