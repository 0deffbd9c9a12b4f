"""Faults put in on purpose, row by row the table of docs/reliability.md: kills, bits, disks, files, settings."""

import contextlib
import csv
import os
import random
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import safetensors.torch
import torch
import yaml
from PIL import Image

from benchmarks.victims import (
    CACHED,
    CONVOLUTIONS,
    Launched,
    Process,
    damaged,
    disk,
    finished_run,
    odd_files,
    write_scenes,
)
from samseg.common.errors import InputError
from samseg.runs.config.schema import RunConfig
from samseg.runs.config.typed_yaml import dotted_keys
from samseg.runs.export import export
from samseg.runs.folder import CONFIG, STATE, WEIGHTS
from samseg.runs.load import load_run
from samseg.runs.state import load_state

TIMES = 40
SLOW_S = 60  # after so long a command that was given something odd is ended: it took it for good
ODD_VALUES = ["-1", "0", "1e20", "1" + "0" * 25, ".nan", "text", "[]", "{}", "null", "true", "''", "x" * 300, "[1]"]
ODD_VALUES += ["${nothing}", "{a: 1}", "0.5", "-0.0001", "[[1]]", "/", "\\x00"]


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"some of {', '.join(ROWS)} (all)")
    parser.add_argument("--times", type=int, default=TIMES, help="how often each fault is made (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn at random (%(default)s)")


def run(args: Namespace) -> None:
    if unknown := [row for row in args.rows if row not in ROWS]:
        raise InputError(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    torch.set_num_threads(1)
    print("| row | fault | times | what happened |\n| --- | --- | ---: | --- |", flush=True)
    for name in args.rows or ROWS:
        random.seed(args.seed)
        with TemporaryDirectory() as folder, working_in(folder):
            write_scenes(Path("data"))
            Path("tiny.yaml").write_text(yaml.safe_dump(CONVOLUTIONS))
            found = ROWS[name](args.times)
        happened = "; ".join(f"{count} {what}" for what, count in found.most_common())
        print(f"| `{name}` | {ROWS[name].__doc__} | {found.total()} | {happened} |", flush=True)


@contextlib.contextmanager
def working_in(folder: str) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def result(folder: Path) -> tuple:
    """What a run came to: its history without seconds, and its best weights."""
    with open(folder / "history.csv", newline="") as file:
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]
    return rows, {name: value.tolist() for name, value in safetensors.torch.load_file(folder / WEIGHTS).items()}


def killed_and_resumed(times: int, start: Callable[..., "Process"], *settings: str) -> Counter:
    """Kill runs at random moments until that has happened ``times`` times, resuming them to their ends."""
    found = Counter()
    whole = start("run_dir=whole", *settings)
    assert whole.wait(600) and whole.code == 0, whole.log.read_text()
    length, expected, number = time.monotonic() - whole.started, result(Path("whole")), 0
    while found.total() < times:
        number, kills = number + 1, 0
        shutil.rmtree("cache", ignore_errors=True)
        while True:
            process = start(f"run_dir=run{number}", "train.resume=true", *settings)
            if process.wait(random.uniform(0, length / 2) if found.total() + kills < times else 600):
                break
            kills += 1
        folder = Path(f"run{number}")
        if process.code != 0:
            found[f"ENDED WITH CODE {process.code}"] += kills
            print(process.log.read_text(errors="replace"), file=sys.stderr)
        elif left := [path.name for path in folder.iterdir() if path.name.startswith(".")]:
            found[f"LEFT {', '.join(left)}"] += kills
        else:
            same = result(folder) == expected
            found["killed and resumed to the weights and figures of the unbroken run" if same else "OTHER"] += kills
    return found


def kill(times: int) -> Counter:
    """a run killed (SIGKILL) at a random moment and resumed"""
    return killed_and_resumed(times, lambda *settings: Process("train", "tiny.yaml", "data.root=data", *settings))


def kill_cache(times: int) -> Counter:
    """the same, with features computed anew and cached"""
    start = lambda *settings: Process("train", "tiny.yaml", "data.root=data", *CACHED, *settings)  # noqa: E731
    return killed_and_resumed(times, start)


def kill_two(times: int) -> Counter:
    """the same, of two processes that train together"""
    return killed_and_resumed(times, Launched, "train.epochs=20")


def loaded(path: Path) -> dict[str, torch.Tensor]:
    return load_run(path)[0].state_dict()


def resumed(folder: Path) -> dict[str, torch.Tensor]:
    return load_state(folder).model


def bits(times: int) -> Counter:
    """a bit flipped anywhere in `state.pt`, `best.safetensors`, `config.yaml`, an export, a cache entry"""
    run, cached = finished_run("run"), finished_run("cached", *CACHED)
    exported, expected = export(run, "safetensors", "model.safetensors"), result(cached)
    reads = {run / STATE: (resumed, run), run / WEIGHTS: (loaded, run), run / CONFIG: (loaded, run)}
    reads |= {exported: (loaded, exported)}
    found = Counter()
    for path, (read, source) in reads.items():
        before, data = read(source), path.read_bytes()
        for _ in range(times):
            place = random.randrange(len(data))
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :])
            try:
                state = read(source)
            except InputError:
                found["refused in one line"] += 1
            else:
                same = all(state[name].equal(value) for name, value in before.items())
                found["without effect on the weights" if same else "OTHER WEIGHTS"] += 1
        path.write_bytes(data)
    for number in range(times):
        entry = random.choice(sorted(Path("cache").rglob("*.safetensors")))
        data = entry.read_bytes()
        place = random.randrange(len(data))
        entry.write_bytes(data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :])
        again = finished_run(f"again{number}", *CACHED)
        found["computed again, to the same figures" if result(again) == expected else "OTHER FIGURES"] += 1
        shutil.rmtree(again)
    return found


def writers(run: Path) -> dict[str, list[object]]:
    """Commands that write to the disk, by the KiB they write at most."""
    out = Path("disk")
    commands = {f"export {to}": ["export", run, "--to", to, "--out", out / "model"] for to in ("safetensors", "smp")}
    commands |= {"torch-export": ["export", run, "--to", "torch-export", "--out", out / "model.pt2"]}
    infer = ["infer", run, "data/test/images", "--out", out / "maps"]
    commands |= {"infer": infer, "infer --probabilities": [*infer, "--probabilities"]}
    commands |= {"train": ["train", "tiny.yaml", "data.root=data", "train.epochs=2", f"run_dir={out}/run"]}
    return commands


SIZES = {"infer": 60, "infer --probabilities": 250}  # KiB that a command writes, about; others: those of the weights


def full(times: int) -> Counter:
    """a disk that fills up under `train`, `infer` and `export` (tmpfs of a random size)"""
    run = finished_run("run")
    commands, found = writers(run), Counter()
    whole = (run / WEIGHTS).stat().st_size // 1024
    for number in range(times):
        name = list(commands)[number % len(commands)]
        with disk(random.randrange(4, SIZES.get(name, whole))) as folder:
            process = Process(*commands[name])
            process.wait(600)
            found["PARTS LEFT: " + ", ".join(bad) if (bad := damaged(folder)) else process.outcome()] += 1
    return found


def read_only(times: int) -> Counter:
    """a read-only disk under `train`, resuming, `evaluate`, `infer` and `export`"""
    commands, found = writers(finished_run("run")), Counter()
    resume = ["train", "tiny.yaml", "data.root=data", "train.epochs=2", "train.resume=true", "run_dir=disk/held"]
    commands |= {"resume": resume, "evaluate": ["evaluate", "disk/held"]}
    with disk(2**20) as folder:
        shutil.copytree("run", folder / "held")
        text = (folder / "held" / CONFIG).read_text().replace("run_dir: run", "run_dir: disk/held")
        (folder / "held" / CONFIG).write_text(text)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        for number in range(times):
            process = Process(*list(commands.values())[number % len(commands)])
            process.wait(600)
            found[process.outcome()] += 1
    return found


def files(times: int) -> Counter:
    """files that are no images, or parts of them: among images to classify, and as image or mask to train on"""
    run, found, odd = finished_run("run"), Counter(), Path("odd")
    odd.mkdir()
    odd_files(odd)
    names = sorted(path.name for path in odd.iterdir())
    shutil.copy("data/test/images/0.png", odd / "sound.png")
    process = Process("infer", run, odd, "--out", "maps")
    process.wait(600)
    text = process.log.read_text()
    for name in names:
        told = [line for line in text.splitlines() if "skipped: " in line and f"odd/{name} " in line]
        sound = process.code == 1 and "Traceback" not in text and Path("maps/sound.png").exists() and len(told) == 1
        found["skipped with a line of its own, the next one classified" if sound else "NOT SKIPPED"] += 1
    for name in random.sample(names, min(times, len(names))):
        for kind in ("images", "masks"):
            shutil.rmtree("bad", ignore_errors=True)
            shutil.copytree("data", "bad")
            (Path("bad/train") / kind / "0.png").unlink()
            shutil.copy(odd / name, Path("bad/train") / kind / f"0{Path(name).suffix}")
            process = Process("train", "tiny.yaml", "data.root=bad", "run_dir=new")
            process.wait(SLOW_S)
            found[process.outcome() if not Path("new").exists() else "A RUN FOLDER LEFT"] += 1
    return found


def settings(times: int) -> Counter:
    """an odd value for a random key of the configuration"""
    found = Counter()
    for _ in range(times):
        key, value = random.choice(dotted_keys(RunConfig)), random.choice(ODD_VALUES)
        process = Process("train", "tiny.yaml", "data.root=data", "run_dir=new", "train.epochs=1", f"{key}={value}")
        ended = process.wait(SLOW_S)
        outcome = process.outcome() if ended else "accepted"
        if outcome.isupper() or "CODE" in outcome:
            print(f"{key}={value}: {outcome}\n{process.log.read_text()[-2000:]}", file=sys.stderr)
        left = outcome.startswith("refused") and Path("new").exists()
        found["A RUN FOLDER LEFT" if left else outcome] += 1
        for folder in (Path("new"), Path("runs"), Path(value)) if key == "run_dir" and value != "/" else (Path("new"),):
            shutil.rmtree(folder, ignore_errors=True)
    return found


def data(times: int) -> Counter:
    """an image or mask removed, added or altered between a stop and resuming"""
    run, found = finished_run("run"), Counter()
    more = ["train", "tiny.yaml", "data.root=data", "train.epochs=2", "train.resume=true", f"run_dir={run}"]
    state = load_state(run)
    state.epoch, state.history = 1, state.history[:1]
    state.save(run)
    for _ in range(times):
        shutil.copytree("data", "before")
        split, kind = random.choice(("train", "val")), random.choice(("images", "masks"))
        path = Path("data") / split / kind / f"{random.randrange(3)}.png"
        change = random.choice(("removed", "added", "altered"))
        for other in (Path("data") / split / "images", Path("data") / split / "masks"):
            if change == "removed":
                (other / path.name).unlink()
            elif change == "added":
                shutil.copy(other / path.name, other / "new.png")
        if change == "altered":
            array = np.array(Image.open(path))
            array[3, 3] = (array[3, 3] + 1) % 3
            Image.fromarray(array).save(path)
        process = Process(*more)
        process.wait(600)
        found[process.outcome()] += 1
        shutil.rmtree("data")
        Path("before").rename("data")
    return found


class Code:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("it-ran",)


def code(times: int) -> Counter:
    """pickled code in `state.pt` and in the weights a run starts from"""
    run, found = finished_run("run"), Counter()
    resume = ["train", "tiny.yaml", "data.root=data", "train.epochs=2", "train.resume=true", f"run_dir={run}"]
    start = ["train", "tiny.yaml", "data.root=data", "run_dir=new", "model.weights=weights.pth"]
    for number in range(times):
        path, command = ((run / STATE, resume), (Path("weights.pth"), start))[number % 2]
        content = {f"key{number}": Code(), "epoch": number}
        torch.save(content, path, pickle_protocol=2, _use_new_zipfile_serialization=number % 4 < 2)
        process = Process(*command)
        process.wait(600)
        found["THE CODE RAN" if Path("it-ran").exists() else process.outcome()] += 1
    return found


# A row's docstring is its line in the table.
ROWS: dict[str, Callable[[int], Counter]] = {
    "kill": kill, "kill-cache": kill_cache, "kill-two": kill_two, "bits": bits, "full": full, "read-only": read_only,
    "files": files, "settings": settings, "data": data, "code": code,
}  # fmt: skip
