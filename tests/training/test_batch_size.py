from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from samseg.common.errors import ConfigError
from samseg.data.check import Report, SplitReport
from samseg.runs.config.load import load_config, task_of
from samseg.tasks.semantic import task as semantic
from samseg.training import batch_size
from samseg.training.batch_size import find_batch_size, largest
from tests.feigned_gpu import feigned_gpu


@pytest.mark.parametrize("limit", [1, 2, 7, 64, 1000])
def test_the_largest_is_found_with_few_tries(limit):
    for most in (0, 1, 2, 3, 5, 6, 7, 8, 63, 64, 65, 999, 1000, 5000):
        tried = []
        assert largest(lambda size: tried.append(size) or size <= most, limit) == min(most, limit)  # noqa: B023
        assert len(tried) == len(set(tried)) <= 21 and max(tried) <= limit


@pytest.fixture
def report():
    counts = SplitReport(images=50, pixels=[1, 1, 1], occurs=[1, 1, 1], ignored=0, sizes=None)
    return Report(["ground", "green", "blue"], {"train": counts, "val": counts}, {})


def automatic(path):
    config = load_config(path, ["train.batch_size=auto"])
    return task_of(config), config.train


def test_steps_that_run_out_of_memory_do_not_fit(tiny_config, report, monkeypatch):
    """Real steps, whose memory ends at five images."""
    config, accelerator = load_config(tiny_config, ["data.image_size=32"]), Accelerator(cpu=True)
    task = task_of(config)
    sizes = []

    class Short(semantic.SegmentationLoss):
        def forward(self, logits, mask, *rest):
            sizes.append(len(mask))
            if len(mask) > 5:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(logits, mask, *rest)

    monkeypatch.setattr(semantic, "SegmentationLoss", Short)
    assert largest(lambda size: batch_size._fits(task, config.train, accelerator, report, size), limit=50) == 5
    assert set(sizes) == {1, 2, 4, 8, 6, 5} and sizes.count(5) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can do it")
def test_a_cpu_has_no_such_limit(tiny_config, report):
    with pytest.raises(
        ConfigError, match="train.batch_size=auto measures a GPU's memory, this is the cpu: set a number"
    ):
        find_batch_size(*automatic(tiny_config), Accelerator(cpu=True), report)


def test_memory_is_limited_on_a_gpu_without_a_number(tiny_config, report, monkeypatch):
    """As accelerate names the GPU of a single process."""
    limits = []
    monkeypatch.setattr("torch.cuda.memory._lazy_init", lambda: None)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr("torch._C._cuda_setMemoryFraction", lambda *limit: limits.append(limit), raising=False)
    monkeypatch.setattr(batch_size, "_fits", lambda task, settings, accelerator, report, size: size == 1)
    accelerator = SimpleNamespace(device=torch.device("cuda"), num_processes=1, gather=lambda found: found)
    with feigned_gpu():
        assert find_batch_size(*automatic(tiny_config), accelerator, report) == 1
    assert limits == [(batch_size.HEADROOM, 0), (1.0, 0)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(tiny_config, report):
    before = torch.random.get_rng_state()
    assert find_batch_size(*automatic(tiny_config), Accelerator(), report) == 50
    assert torch.random.get_rng_state().equal(before)
