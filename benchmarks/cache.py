"""A steady epoch on stored features beside one that runs the frozen encoder: the same run, images and weights."""

import sys
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from samseg.config.load import load_config
from samseg.data.check import check_dataset
from samseg.files import written_whole
from samseg.runs.state import RunState
from samseg.sample.write import CLASSES, write_sample
from samseg.training.processes import accelerator_for
from samseg.training.progress import Progress
from samseg.training.trainer import Trainer

CONFIG = """
model: {{arch: {arch}, encoder: {encoder}, weights: null, decoder: {decoder}}}
data: {{root: {root}, image_size: {size}, classes: {classes}}}
train: {{batch_size: {batch}, workers: 0, cache_dir: {cache}, cache_dtype: {dtype}}}
"""


def compare(encoder: str, arch: str, decoder: str, size: int, images: int, batch: int, dtype: str) -> dict:
    """Train on ``images`` generated scenes (size, size), validate on half as many, with the cache and without.

    ``encoder`` is one of SAM's, ``arch`` an SMP decoder with the arguments ``decoder`` (a YAML mapping), ``batch`` the
    images a step, ``dtype`` that of the cache. Images are read by the process that trains: there is no overlap.

    Weights are random, which costs what trained ones do. Returns seconds: ``fill`` of the cache, and for ``cached`` and
    ``uncached`` the steady ``epoch``, its ``training`` and its ``validation``; the ``step`` on stored features by part;
    the ``ratio`` of the epochs, ``ratio_training`` without validation, and the disk in bytes an image.
    """
    with TemporaryDirectory(prefix="samseg-benchmark-") as folder:
        root = Path(folder) / "scenes"
        write_sample(root, train=images, val=max(1, images // 2), test=1, size=size)
        text = CONFIG.format(
            arch=arch, encoder=encoder, decoder=decoder, root=root, size=size, batch=batch,
            cache=Path(folder) / "cache", dtype=dtype, classes={name: i for i, name in enumerate(CLASSES)},
        )  # fmt: skip
        with written_whole(Path(folder) / "run.yaml") as temporary:
            temporary.write_text(text)
        found: dict = {}
        start = time.perf_counter()
        cached = _trainer(Path(folder) / "run.yaml", cached=True)
        found["fill"] = time.perf_counter() - start
        files = [file.stat().st_size for file in (Path(folder) / "cache").rglob("*.safetensors")]
        found["disk_bytes"] = sum(files) // len(files)
        _epoch(cached, 1)  # the first steps allocate and start the reading processes
        found["cached"] = _epoch(cached, 2)
        found["step"] = _step(cached)
        found["uncached"] = _epoch(_trainer(Path(folder) / "run.yaml", cached=False), 1)
    found["ratio"] = found["uncached"]["epoch"] / found["cached"]["epoch"]
    found["ratio_training"] = found["uncached"]["training"] / found["cached"]["training"]
    return found


def _trainer(path: Path, cached: bool) -> Trainer:
    config = load_config(path, [f"train.cache_features={str(cached).lower()}", "train.epochs=3"])
    with redirect_stdout(StringIO()):
        report = check_dataset(config.data, ("train", "val"))
        trainer = Trainer(config, accelerator_for(config.train), report, RunState())
    trainer.stop = lambda: False
    trainer.progress = Progress(trainer.batches.used(), config.train.epochs, shown=False)
    return trainer


def _epoch(trainer: Trainer, epoch: int) -> dict[str, float]:
    trainer.state.part = RunState().part  # from the epoch's beginning
    start = time.perf_counter()
    trainer.train_epoch(epoch)
    trained = time.perf_counter()
    trainer.validate()
    end = time.perf_counter()
    tqdm.write(f"epoch: {trained - start:.1f} s of training, {end - trained:.1f} s of validation", file=sys.stderr)
    return {"training": trained - start, "validation": end - trained, "epoch": end - start}


def _step(trainer: Trainer) -> dict[str, float]:
    """Seconds of one step by part, taken apart and run without overlap: reading in this process, as with no workers."""
    accelerator = trainer.accelerator
    network, seconds = accelerator.unwrap_model(trainer.model), {}
    device = accelerator.device

    def lap(part: str) -> None:
        nonlocal last
        if device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        seconds[part] = now - last
        last = now

    for _ in range(2):  # the first is a warm-up
        last = time.perf_counter()
        batch = next(iter(DataLoader(trainer.training, trainer.settings.batch_size)))
        lap("read")
        taps = [tap.to(device).float().permute(0, 3, 1, 2) for tap in batch["taps"]]
        mask = batch["mask"].to(device)
        lap("convert")
        image = taps[0].new_zeros(1).expand(len(mask), 3, *mask.shape[1:])
        features = network.encoder.from_taps(taps, image)
        lap("pyramid")
        leaves = [features[0], *(level.detach().requires_grad_() for level in features[1:])]
        logits = network.segmentation_head(network.decoder(leaves))
        lap("decoder")
        loss = trainer.loss(logits, mask)
        lap("loss")
        loss.backward()
        lap("decoder and loss, backward")
        used = [(level, leaf.grad) for level, leaf in zip(features[1:], leaves[1:]) if leaf.grad is not None]
        torch.autograd.backward([level for level, _ in used], [grad for _, grad in used])
        lap("pyramid, backward")
        accelerator.clip_grad_norm_(trainer.model.parameters(), trainer.settings.clip_norm)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        lap("optimiser")
    return seconds


def measure(**options) -> str:
    """The figures of `compare` as text."""
    found = compare(**options)
    step = "\n".join(f"  {part:<28} {seconds:7.3f} s" for part, seconds in found["step"].items())
    return (
        f"{' '.join(f'{name} {value}' for name, value in options.items())}; {torch.get_num_threads()} threads\n"
        f"fill {found['fill']:.1f} s, once; {found['disk_bytes'] / 1e6:.1f} MB on disk an image\n"
        f"epoch     uncached {found['uncached']['epoch']:8.2f} s  cached {found['cached']['epoch']:8.2f} s  "
        f"{found['ratio']:.1f} times faster (training {found['ratio_training']:.1f} times)\n"
        f"a step on stored features, {sum(found['step'].values()):.2f} s:\n{step}"
    )
