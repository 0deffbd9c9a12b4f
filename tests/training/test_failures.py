import os
import signal
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import Dataset

from samseg.common.errors import ConfigError, InputError
from samseg.data.loader import Loader
from samseg.runs.config.schema import TrainConfig
from samseg.runs.state import RunState
from samseg.training.failures import check_finite, mendable_errors
from samseg.training.processes import too_few
from tests.faults import small_disk


class Unreadable(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise InputError("a.png is truncated; copy it again")


def explanation(cause) -> str:
    with pytest.raises(InputError) as error, mendable_errors(TrainConfig()):
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


def read(dataset):
    with closing(Loader(dataset, 1)) as loader:
        next(iter(loader))


def test_an_image_that_a_reading_process_cannot_read():
    message = explanation(lambda: read(Unreadable()))
    assert message == "a.png is truncated; copy it again"


class Deadly(Unreadable):
    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_reading_process_that_is_killed():
    """As the system does when memory runs out."""
    message = explanation(lambda: read(Deadly()))
    assert message.startswith("a process that reads images was killed, most likely for memory: lower train.workers (2)")


def write_events():
    with open("/dev/full", "w") as file:
        file.write("x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_a_full_disk():
    assert "disk of the run folder is full" in explanation(write_events)


def test_a_full_disk_while_a_state_is_saved(tmp_path):
    with small_disk(tmp_path / "disk", 64) as disk:
        state = RunState(model={"a": torch.zeros(10**6)})
        message = explanation(lambda: state.save(disk))
    assert "state.pt cannot be written (No space left on device)" in message and "train.resume=true goes on" in message


def test_the_launcher_was_asked_for_more(monkeypatch):
    for name in ("WORLD_SIZE", "MASTER_ADDR", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)
    accelerator = SimpleNamespace(num_processes=1)
    assert too_few(accelerator) is None
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert too_few(accelerator) is None
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert "asked for several processes, but 1 trains" in too_few(accelerator)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "asked for 2 processes, but 1 trains" in too_few(accelerator)
    assert too_few(SimpleNamespace(num_processes=2)) is None


def test_defects_keep_their_traceback():
    with pytest.raises(RuntimeError, match="shapes"), mendable_errors(TrainConfig()):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number(loss):
    with pytest.raises(ConfigError, match="in epoch 3, step 7: lower train.lr"):
        check_finite(loss, 3, 7, TrainConfig())
    check_finite(1e30, 3, 7, TrainConfig())
