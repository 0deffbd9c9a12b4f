"""What `benchmarks.faults` does harm to: data, configurations, commands in processes of their own, small disks."""

import contextlib
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image

CONVOLUTIONS = {
    "model": {
        "encoder": "tu-resnet18",  # timm's builds the stages that are asked for and no more
        "weights": None,
        "freeze_encoder": False,
        "decoder": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
    },
    "data": {"classes": {"ground": 0, "green": 1, "blue": 2}, "image_size": 64, "augment": ["HorizontalFlip"]},
    "train": {"epochs": 12, "batch_size": 2, "lr": 0.002, "workers": 0, "patience": None},
}
CACHED = [
    "model.encoder=sam-vit_t", "model.freeze_encoder=true", "model.arch=fpn", "data.augment=[]",
    "train.cache_features=true", "train.cache_dir=cache", "model.decoder={decoder_pyramid_channels: 16}",
]  # fmt: skip
TWO = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d"]
TWO += ["--rdzv-endpoint=localhost:0", "-m", "samseg"]


@cache
def forked() -> BaseContext:
    """Starts processes that are forked from one that is on one thread, and has nothing open."""
    context = get_context("forkserver")
    context.set_forkserver_preload(
        ["samseg.cli.main", "samseg.cli.train", "samseg.training.run", "samseg.data.augment"]
    )
    first = context.Process(target=int)
    first.start()
    first.join(120)  # then all is imported
    return context


def _call(log: Path, arguments: list[str]) -> None:
    """`samseg` with the ``arguments``; what it prints goes into the file ``log``."""
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)
    sys.argv = ["samseg", *arguments]
    runpy.run_module("samseg", run_name="__main__")


def write_scenes(root: Path) -> None:
    """Noise with a green and a blue square on each picture."""
    generator = np.random.default_rng(0)
    for split, images in (("train", 6), ("val", 3), ("test", 2)):
        for number in range(images):
            image = generator.integers(60, 120, (60 + 9 * number, 80, 3), dtype=np.uint8)
            mask = np.zeros(image.shape[:2], np.uint8)
            for label in (1, 2):
                top, left = generator.integers(0, 40, 2)
                mask[top : top + 20, left : left + 20] = label
                image[top : top + 20, left : left + 20, label] += 90
            for kind, array in (("images", image), ("masks", mask)):
                (root / split / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(root / split / kind / f"{number}.png")


class Process:
    """A command of samseg in a process of its own, which has imported everything already."""

    def __init__(self, *arguments: object):
        self.log = Path("log.txt").absolute()
        self.log.write_bytes(b"")
        self.process = forked().Process(target=_call, args=(self.log, [str(argument) for argument in arguments]))
        self.process.start()
        self.started = time.monotonic()

    def wait(self, seconds: float) -> bool:
        """Whether it ended within so many seconds of its start; it is killed otherwise."""
        self.process.join(max(0, self.started + seconds - time.monotonic()))
        in_time = not self.process.is_alive()
        self.process.kill()
        self.process.join(60)
        return in_time

    @property
    def code(self) -> int | None:
        return self.process.exitcode

    def outcome(self) -> str:
        """The words of the table."""
        text = self.log.read_text(errors="replace")
        errors = [line for line in text.splitlines() if line.startswith("error: ")]
        if "Traceback" in text:
            return "TRACEBACK"
        if self.code == 0:
            return "accepted"
        if self.code == 2 and len(errors) == 1:
            return "refused in one line, code 2"
        return f"ENDED WITH CODE {self.code}"


class Launched(Process):
    """Two processes that train together, as torchrun starts them."""

    def __init__(self, *settings: str):
        self.log, self.started = Path("log.txt").absolute(), time.monotonic()
        with open(self.log, "w") as log:
            command = [*TWO, "train", "tiny.yaml", "data.root=data", "train.batch_size=1", *settings]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def wait(self, seconds: float) -> bool:
        """Whether it ended within so many seconds; else the launcher or one of the two is killed, the rest follows."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0, self.started + seconds - time.monotonic()))
            return True
        all_of_them = [self.process.pid, *children(self.process.pid)]
        os.kill(random.choice(all_of_them), signal.SIGKILL)
        self.process.wait(120)
        deadline = time.monotonic() + 120
        while any(alive(pid) for pid in all_of_them):
            assert time.monotonic() < deadline, "one of the processes is left"
            time.sleep(0.005)
        return False

    @property
    def code(self) -> int | None:
        return self.process.returncode


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:  # it has just ended
        return []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def finished_run(folder: str, *settings: str) -> Path:
    process = Process("train", "tiny.yaml", "data.root=data", "train.epochs=2", f"run_dir={folder}", *settings)
    assert process.wait(600) and process.code == 0, process.log.read_text()
    return Path(folder)


@contextlib.contextmanager
def disk(kib: int) -> Iterator[Path]:
    folder = Path("disk")
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def damaged(folder: Path) -> list[str]:
    """Files that are a part, or were left by a save that failed."""
    bad = []
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        try:
            if path.name.startswith("."):
                raise ValueError
            if path.suffix in (".png", ".jpg"):
                Image.open(path).load()
            elif path.suffix == ".npy":
                np.load(path)
            elif path.suffix == ".safetensors":
                safetensors.torch.load_file(path)
            elif path.suffix == ".pt2":
                torch.export.load(path)
        except Exception:
            bad.append(path.name)
    return bad


def odd_files(folder: Path) -> None:
    """Every kind of file that is no image, or a part of one, under an image's name."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    for suffix in ("png", "jpg", "tif", "webp", "bmp", "gif"):
        picture.save(folder / f"whole.{suffix}")
        data = (folder / f"whole.{suffix}").read_bytes()
        (folder / f"whole.{suffix}").unlink()
        if suffix in ("webp", "bmp", "gif"):
            (folder / f"{suffix}.png").write_bytes(data)
            continue
        for share in (0, 0.01, 0.1, 0.5, 0.9):
            (folder / f"cut{share:g}{suffix}.{suffix}".replace("0.", "")).write_bytes(data[: int(share * len(data))])
        (folder / f"noise{suffix}.{suffix}").write_bytes(data[:12] + random.randbytes(2000))
    for name, data in {"text": b"words\n" * 9, "zeros": bytes(999), "noise": random.randbytes(999)}.items():
        (folder / f"{name}.png").write_bytes(data)
