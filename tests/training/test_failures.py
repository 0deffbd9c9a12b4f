from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from samseg.config.schema import TrainConfig
from samseg.errors import ConfigError, InputError
from samseg.training.failures import check_finite, explained


class Unreadable(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise InputError("a.png is truncated; copy it again")


def explanation(cause) -> str:
    with pytest.raises(InputError) as error, explained(TrainConfig()):
        cause()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_too_little_memory():
    assert "lower train.batch_size" in explanation(lambda: torch.empty(2**55, dtype=torch.uint8))


def test_too_little_gpu_memory():
    def cause():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore")

    assert "train.precision=bf16" in explanation(cause)


def test_batch_normalisation_of_one_value():
    message = explanation(lambda: torch.nn.BatchNorm2d(4)(torch.zeros(1, 4, 1, 1)))
    assert "train.batch_size to 2" in message


def test_an_image_that_a_reading_process_cannot_read():
    message = explanation(lambda: next(iter(DataLoader(Unreadable(), num_workers=1))))
    assert message.endswith("a.png is truncated; copy it again")


def write_text():
    with open("/dev/full", "w") as file:
        file.write("x")


def write_state():
    torch.save({"weight": torch.zeros(10**6)}, "/dev/full")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
@pytest.mark.parametrize("write", [write_text, write_state])
def test_a_full_disk(write):
    assert "disk of the run folder is full" in explanation(write)


def test_defects_keep_their_traceback():
    with pytest.raises(RuntimeError, match="shapes"), explained(TrainConfig()):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number(loss):
    with pytest.raises(ConfigError, match="in epoch 3, step 7: lower train.lr"):
        check_finite(loss, 3, 7, TrainConfig())
    check_finite(1e30, 3, 7, TrainConfig())
