"""Training SAM with prompts: an epoch with the feature cache and without, objects a second, and memory by objects."""

import math
import sys
import time
from argparse import ArgumentParser, Namespace
from contextlib import redirect_stdout
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm

from benchmarks.memory import PeakMemory
from samseg.models.trainable import freeze_encoder
from samseg.runs.config.load import load_config, task_of
from samseg.runs.state import RunState
from samseg.sample.scene import CLASSES
from samseg.sample.write import write_sample
from samseg.training.processes import accelerator_for, prepare_process
from samseg.training.report import Progress
from samseg.training.stopping import StopRequest
from samseg.training.trainer import Trainer

CONFIG = """
task: promptable
model: {{arch: sam, encoder: {encoder}, weights: null}}
data: {{root: {root}, image_size: {size}, classes: {classes}}}
prompts: {{objects: {objects}, rounds: {rounds}, classes: [building, tree]}}
train: {{epochs: 3, batch_size: 1, workers: 0, cache_dir: {cache}, precision: {precision}}}
"""


def add_arguments(parser: ArgumentParser) -> None:
    default = "(%(default)s)"
    parser.add_argument("--encoder", default="sam-vit_b", help=f"one of SAM's {default}")
    parser.add_argument("--size", type=int, default=1024, help=f"pixels a side {default}")
    parser.add_argument("--images", type=int, default=2, help=f"an epoch {default}")
    parser.add_argument("--objects", type=int, default=10, help=f"an image {default}")
    parser.add_argument("--rounds", type=int, default=8, help=f"of corrections {default}")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help=default)
    parser.add_argument("--memory", nargs="*", type=int, default=[5, 10, 20, 40], help="objects in a step (5 10 20 40)")


def run(args: Namespace) -> None:
    options = {name: getattr(args, name) for name in ("encoder", "size", "images", "objects", "rounds", "precision")}
    print(as_text(options, compare(**options), memory(args.encoder, args.size, args.rounds, args.memory)))


def compare(encoder: str, size: int, images: int, objects: int, rounds: int, precision: str) -> dict[str, float]:
    """Seconds of an epoch of training on ``images`` generated scenes, its encoder frozen, ``cached`` and ``uncached``.

    Both runs see the same images, and random weights cost what trained ones do. ``objects`` of each image are prompted
    for, with ``rounds`` of corrections. Validation is not part of it: its clicks cost the same either way.
    """
    prepare_process()
    seconds = {}
    with TemporaryDirectory(prefix="samseg-benchmark-") as temporary:
        folder = Path(temporary)
        write_sample(folder / "scenes", train=images, val=1, test=1, size=size)
        text = CONFIG.format(
            encoder=encoder, root=folder / "scenes", size=size, objects=objects, rounds=rounds,
            cache=folder / "cache", precision=precision, classes={name: i for i, name in enumerate(CLASSES)},
        )  # fmt: skip
        (folder / "run.yaml").write_text(text)
        for way, cached in (("cached", True), ("uncached", False)):
            config = load_config(folder / "run.yaml", [f"train.cache_features={str(cached).lower()}"])
            with redirect_stdout(StringIO()):
                task = task_of(config)
                report = task.check(("train", "val"))
                trainer = Trainer(task, config.train, config.seed, accelerator_for(config.train), report, RunState())
            go_on, progress = StopRequest(), Progress(trainer.batches.used(), 1, math.inf, shown=False)
            for epoch in (1, 2) if cached else (1,):  # the first steps allocate
                trainer.state.part = RunState().part
                start = time.perf_counter()
                trainer.train_epoch(epoch, folder, go_on, progress)
                seconds[way] = time.perf_counter() - start
            tqdm.write(f"{way}: {seconds[way]:.1f} s", file=sys.stderr)
    return seconds


def memory(encoder: str, size: int, rounds: int, counts: list[int]) -> dict[int, float | None]:
    """Peak GiB of a training step on stored features with so many objects in the image, by their number."""
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # or each would reuse the last one's memory
        jobs = [(encoder, size, rounds, count) for count in counts]
        return dict(zip(counts, pool.imap(_peak, jobs), strict=True))


def _peak(job: tuple[str, int, int, int]) -> float | None:
    encoder, size, rounds, count = job
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with TemporaryDirectory(prefix="samseg-benchmark-") as temporary:
        path = Path(temporary) / "run.yaml"
        text = CONFIG.format(
            encoder=encoder, root="none", size=size, objects=count, rounds=rounds, cache="none",
            precision="fp32", classes={name: i for i, name in enumerate(CLASSES)},
        )  # fmt: skip
        path.write_text(text)
        task = task_of(load_config(path))
    torch.manual_seed(0)
    model = task.build_model().model.to(device).train()
    freeze_encoder(model)
    batch = task.random_batch(1, torch.device(device))
    taps = [torch.randn(1, size // s, size // s, c, device=device) for c, s in zip(
        model.encoder.tap_channels, model.encoder.tap_strides, strict=True
    )]  # fmt: skip
    objective = task.objective(None)
    with PeakMemory(device) as peak:
        outputs = model(task.inputs(batch | {"taps": taps}))
        objective(outputs, batch, objective.weight(batch), batches=1).backward()
    return peak.gib


def as_text(options: dict, seconds: dict[str, float], peaks: dict[int, float | None]) -> str:
    """What `compare` and `memory` found."""
    objects = options["images"] * options["objects"]
    lines = [
        f"{' '.join(f'{name} {value}' for name, value in options.items())}; {torch.get_num_threads()} threads",
        f"training epoch: uncached {seconds['uncached']:.2f} s, cached {seconds['cached']:.2f} s, "
        f"{seconds['uncached'] / seconds['cached']:.1f} times faster; "
        f"{objects / seconds['cached']:.2f} objects a second",
    ]
    lines += [f"{count:>4} objects in a step: {_gib(peak)}" for count, peak in peaks.items()]
    return "\n".join(lines)


def _gib(peak: float | None) -> str:
    return "memory is not known on this system" if peak is None else f"{peak:.2f} GiB"
