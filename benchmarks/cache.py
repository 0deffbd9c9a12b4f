"""A steady epoch on stored features beside one that runs the frozen encoder: the same run, images and weights."""

import math
import sys
import time
from argparse import ArgumentParser, Namespace
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from benchmarks.timed import wait
from samseg.features.store import DTYPES
from samseg.runs.config.load import load_config, task_of
from samseg.runs.state import RunState
from samseg.sample.scene import CLASSES
from samseg.sample.write import write_sample
from samseg.training.processes import accelerator_for, prepare_process
from samseg.training.report import Progress
from samseg.training.stopping import StopRequest
from samseg.training.trainer import Trainer

CONFIG = """
model: {{arch: {arch}, encoder: {encoder}, weights: null, decoder: {decoder}}}
data: {{root: {root}, image_size: {size}, classes: {classes}}}
train: {{batch_size: {batch}, workers: 0, precision: {precision}, cache_dir: {cache}, cache_dtype: {dtype}}}
"""


def add_arguments(parser: ArgumentParser) -> None:
    default = "(%(default)s)"
    parser.add_argument("--encoder", default="sam-vit_b", help=f"one of SAM's {default}")
    parser.add_argument("--arch", default="fpn", help=f"SMP's decoder {default}")
    parser.add_argument("--decoder", default="{}", help=f"its arguments, as YAML {default}")
    parser.add_argument("--size", type=int, default=1024, help=f"pixels a side {default}")
    parser.add_argument("--images", type=int, default=2, help=f"to train on {default}")
    parser.add_argument("--batch", type=int, default=1, help=f"images a step {default}")
    parser.add_argument("--dtype", default="float16", choices=DTYPES, help=f"of the cache {default}")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help=f"of training {default}")


def run(args: Namespace) -> None:
    options = {
        name: getattr(args, name)
        for name in ("encoder", "arch", "decoder", "size", "images", "batch", "dtype", "precision")
    }
    print(as_text(options, compare(**options)))


def compare(
    encoder: str, arch: str, decoder: str, size: int, images: int, batch: int, dtype: str, precision: str
) -> dict:
    """Train on ``images`` generated scenes (size, size), validate on half as many, with the cache and without.

    ``encoder`` is one of SAM's, ``arch`` an SMP decoder with the arguments ``decoder`` (a YAML mapping), ``batch`` the
    images a step, ``dtype`` that of the cache and ``precision`` that of training. Images are read by the process that
    trains: there is no overlap.

    Weights are random, which costs what trained ones do. Returns seconds: ``fill`` of the cache, and for ``cached`` and
    ``uncached`` the steady ``epoch``, its ``training`` and its ``validation``; the ``step`` on stored features by part;
    the ``ratio`` of the epochs, ``ratio_training`` without validation, and the disk in bytes an image.
    """
    prepare_process()
    with TemporaryDirectory(prefix="samseg-benchmark-") as temporary:
        folder = Path(temporary)
        root = folder / "scenes"
        write_sample(root, train=images, val=max(1, images // 2), test=1, size=size)
        text = CONFIG.format(
            arch=arch, encoder=encoder, decoder=decoder, root=root, size=size, batch=batch, precision=precision,
            cache=folder / "cache", dtype=dtype, classes={name: i for i, name in enumerate(CLASSES)},
        )  # fmt: skip
        (folder / "run.yaml").write_text(text)
        found: dict = {}
        start = time.perf_counter()
        cached = _trainer(folder / "run.yaml", cached=True)
        found["fill"] = time.perf_counter() - start
        files = [file.stat().st_size for file in (folder / "cache").rglob("*.safetensors")]
        found["disk_bytes"] = sum(files) // len(files)
        _epoch(cached, 1, folder)  # the first steps allocate and start the reading processes
        found["cached"] = _epoch(cached, 2, folder)
        found["step"] = _step(cached)
        found["uncached"] = _epoch(_trainer(folder / "run.yaml", cached=False), 1, folder)
    found["ratio"] = found["uncached"]["epoch"] / found["cached"]["epoch"]
    found["ratio_training"] = found["uncached"]["training"] / found["cached"]["training"]
    return found


def _trainer(path: Path, cached: bool) -> Trainer:
    config = load_config(path, [f"train.cache_features={str(cached).lower()}", "train.epochs=3"])
    with redirect_stdout(StringIO()):
        task = task_of(config)
        report = task.check(("train", "val"))
        return Trainer(task, config.train, config.seed, accelerator_for(config.train), report, RunState())


def _epoch(trainer: Trainer, epoch: int, folder: Path) -> dict[str, float]:
    trainer.state.part = RunState().part  # from the epoch's beginning
    go_on, progress = StopRequest(), Progress(trainer.batches.used(), 1, math.inf, shown=False)
    start = time.perf_counter()
    trainer.train_epoch(epoch, folder, go_on, progress)
    trained = time.perf_counter()
    trainer.validate(go_on)
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
        wait()
        now = time.perf_counter()
        seconds[part] = now - last
        last = now

    for _ in range(2):  # the first is a warm-up
        last = time.perf_counter()
        batch = next(iter(DataLoader(trainer.training, trainer.settings.batch_size)))
        lap("read")
        taps = [tap.to(device).float().permute(0, 3, 1, 2) for tap in batch["taps"]]
        batch["classes"] = batch["classes"].to(device)
        lap("convert")
        image = taps[0].new_zeros(1).expand(len(batch["classes"]), 3, *batch["classes"].shape[1:])
        with accelerator.autocast():
            features = network.encoder.from_taps(taps, image)
            lap("pyramid")
            leaves = [features[0], *(level.detach().requires_grad_() for level in features[1:])]
            logits = network.segmentation_head(network.decoder(leaves)).float()
            lap("decoder")
        loss = trainer.objective(logits, batch, trainer.objective.weight(batch), batches=1)
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


def as_text(options: dict, found: dict) -> str:
    """What `compare` found with ``options``."""
    step = "\n".join(f"  {part:<28} {seconds:7.3f} s" for part, seconds in found["step"].items())
    return (
        f"{' '.join(f'{name} {value}' for name, value in options.items())}; {torch.get_num_threads()} threads\n"
        f"fill {found['fill']:.1f} s, once; {found['disk_bytes'] / 1e6:.1f} MB on disk an image\n"
        f"epoch     uncached {found['uncached']['epoch']:8.2f} s  cached {found['cached']['epoch']:8.2f} s  "
        f"{found['ratio']:.1f} times faster (training {found['ratio_training']:.1f} times)\n"
        f"a step on stored features, {sum(found['step'].values()):.2f} s:\n{step}"
    )
