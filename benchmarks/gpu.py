"""What a GPU has to do, in ten minutes: the right numbers, runs of every kind, class maps, and speed beside others.

Each item is a process of its own with a limit, so that a failure or a hang ends nothing but itself. Data are generated.
"""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

REPOSITORY = Path(__file__).parents[1]
LIMIT_S = 200  # of an item
OUTCOME = "outcome.json"
PEERS = ["segment-anything", "timm", "transformers"]
RESUMED_TOLERANCE = 1e-2  # of the weights' norm: some of CUDA's gradients are sums in no fixed order


class Skipped(Exception):
    """What cannot be tried here, with the reason."""


@dataclass(frozen=True)
class Place:
    """Where and at which size an item runs; ``folder`` is there for all of them, and the items before have run."""

    device: str
    size: int
    folder: str


def exact(place: Place, kind: str) -> dict[str, Any]:
    import torch

    from benchmarks.encoder import TOLERANCE, _embedding, _network, _ours

    torch.backends.cudnn.allow_tf32 = False
    dtype, peer = getattr(torch, kind), "segment-anything" if place.size == 1024 else "timm"  # the former's one size
    image = torch.randn(1, 3, place.size, place.size, device=place.device)
    with torch.inference_mode():
        reference = _network(peer, "sam-vit_b", place.size, torch.float32, False, False, place.device)
        expected = _embedding(reference(image))
        found = _embedding(_ours("sam-vit_b").to(place.device, dtype)(image.to(dtype))).float()
    error = ((found - expected).norm() / expected.norm()).item()
    if not error <= TOLERANCE[dtype]:
        raise AssertionError(f"differs from {peer} in float32 by {error:.1e}, more than {TOLERANCE[dtype]:.0e}")
    return {"reference": peer, "error": error}


def trained(place: Place, name: str, *settings: str) -> dict[str, Any]:
    """A run of `samseg train`; its last loss."""
    from samseg.runs.config.load import load_config
    from samseg.runs.folder import read_run_config
    from samseg.training.run import train

    folder = train(load_config(*configuration(place, name, *settings)), name)
    return {"loss": last_loss(folder), "batch": read_run_config(folder).train.batch_size}


def in_fp16(place: Place) -> dict[str, Any]:
    on_gpu(place, "train.precision=fp16 needs a GPU")
    return trained(place, "fp16", "train.precision=fp16")


def compiled(place: Place) -> dict[str, Any]:
    os.environ["ACCELERATE_DYNAMO_BACKEND"] = "inductor" if place.device == "cuda" else "aot_eager"
    return trained(place, "compiled", "train.precision=bf16")


def batch_size_auto(place: Place) -> dict[str, Any]:
    on_gpu(place, "train.batch_size=auto measures a GPU's memory")
    return trained(place, "auto", "train.batch_size=auto", "train.precision=bf16")


def sharded(place: Place) -> dict[str, Any]:
    on_gpu(place, "accelerate shards on GPUs alone")
    launch = ["-m", "accelerate.commands.launch", "--use_fsdp", "--fsdp_version", "2", "--num_processes", "1"]
    path = write_configuration(place, "sharded", "train.precision=bf16")
    subprocess.run([sys.executable, *launch, "-m", "samseg", "train", path], check=True)
    return {"loss": last_loss(Path(place.folder) / "sharded")}


def resumed(place: Place) -> dict[str, Any]:
    """A run that SIGTERM stops after its first epoch and that is resumed, beside one that is not stopped."""
    from safetensors.torch import load_file

    settings = ["train.epochs=4", "train.resume=true"]
    trained(place, "whole", *settings)
    command = [sys.executable, "-m", "samseg", "train", write_configuration(place, "stopped", *settings)]
    stopped = Path(place.folder) / "stopped"
    process = subprocess.Popen(command)
    while process.poll() is None and not (stopped / "state.pt").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code = process.wait()
    if code not in (143, -signal.SIGTERM):
        raise AssertionError(f"SIGTERM ended the run with code {code}, expected 143")
    subprocess.run(command, check=True)
    one, other = (load_file(folder / "best.safetensors") for folder in (Path(place.folder) / "whole", stopped))
    apart = math.sqrt(sum((one[name] - other[name]).double().square().sum().item() for name in one))
    apart /= math.sqrt(sum(value.double().square().sum().item() for value in one.values()))
    if not apart <= RESUMED_TOLERANCE:
        raise AssertionError(f"the resumed run's weights differ by {apart:.1e}")
    return {"weights differ by": apart}


def photos(place: Place) -> dict[str, Any]:
    images = sorted((Path(place.folder) / "data" / "test" / "images").iterdir())
    return classified(place, images, "photos")


def a_map(place: Place) -> dict[str, Any]:
    if find_spec("rasterio") is None:
        raise Skipped("rasterio is not installed: pip install 'samseg[maps]'")
    from benchmarks.maps import write_raster

    raster = Path(place.folder) / "map.tif"
    write_raster(raster, 2 * place.size, "")
    return classified(place, [raster], "map")


def speed(place: Place, variant: str, train: bool) -> dict[str, Any]:
    from benchmarks.encoder import compare

    on_cpu = place.device == "cpu"
    found = compare(variant, 1, place.size, "bfloat16", train, PEERS, repeats=1 if on_cpu else 5)
    rows = found["implementations"].items()
    return {name: {"images/s": 1 / row["seconds"], "peak GiB": row["peak_gib"]} for name, row in rows} | found[
        "missing"
    ]


def items(place: Place) -> dict[str, Callable[[Place], dict[str, Any]]]:
    """Every item by name, the cheap and telling ones first."""
    found: dict[str, Callable[[Place], dict[str, Any]]] = {
        "exact in float32": lambda place: exact(place, "float32"),
        "exact in bfloat16": lambda place: exact(place, "bfloat16"),
        "trained in bf16": lambda place: trained(place, "bf16", "train.precision=bf16"),
        "trained in fp16": in_fp16,
        "photos": photos,
        "a map": a_map,
        "stopped and resumed": resumed,
        "train.batch_size=auto": batch_size_auto,
        "FSDP2, one process": sharded,
        "torch.compile": compiled,
    }
    for variant in ("sam-vit_b",) if place.device == "cpu" else ("sam-vit_b", "sam-vit_l", "sam-vit_h"):
        for train in (False, True):
            what = f"{variant} in bfloat16, {'training' if train else 'inference'}"
            found[what] = lambda place, variant=variant, train=train: speed(place, variant, train)
    return found


def on_gpu(place: Place, reason: str) -> None:
    if place.device == "cpu":
        raise Skipped(reason)


def configuration(place: Place, name: str, *settings: str) -> tuple[dict[str, Any], list[str]]:
    """What a run is configured by: ViT-B, free, on the generated scenes."""
    from samseg.sample.scene import CLASSES

    folder = Path(place.folder)
    content = {
        "run_dir": str(folder / name),
        "model": {"arch": "fpn", "weights": None, "freeze_encoder": False},
        "data": {
            "root": str(folder / "data"),
            "classes": {label: index for index, label in enumerate(CLASSES)},
            "image_size": place.size,
        },
        "train": {"epochs": 2, "batch_size": 2, "workers": 0 if place.device == "cpu" else 2, "trackers": []},
    }
    return content, list(settings)


def write_configuration(place: Place, name: str, *settings: str) -> str:
    from samseg.runs.config.load import load_config, save_config

    path = Path(place.folder) / f"{name}.yaml"
    save_config(load_config(*configuration(place, name, *settings)), path)
    return str(path)


def last_loss(folder: Path) -> float:
    with open(folder / "history.csv", newline="") as file:
        return float(list(csv.DictReader(file))[-1]["loss"])


def classified(place: Place, images: list[Path], name: str) -> dict[str, Any]:
    """What `samseg infer` makes of images by the run in bf16."""
    out, run = Path(place.folder) / name, Path(place.folder) / "bf16"
    command = ["-m", "samseg", "infer", run, *images, "--out", out, "--device", place.device]
    start = time.perf_counter()
    subprocess.run([sys.executable, *map(str, command)], check=True)
    return {"images": len(images), "seconds with imports": time.perf_counter() - start}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--device", default="cuda", choices=["cuda", "cpu"], help="cpu: to try this program itself (cuda)"
    )
    parser.add_argument("--size", type=int, default=1024, help="pixels a side (1024)")
    parser.add_argument("--minutes", type=float, default=10, help="what has not begun by then is left out (10)")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="where to write what was found (gpu.json)")


def run(args: Namespace) -> int:
    """Run all items, print a line for each and write them down; 1 if any failed."""
    from samseg.cli.version import version
    from samseg.common.errors import InputError
    from samseg.inference.predictor import find_device
    from samseg.sample.write import write_sample

    find_device(args.device)
    if args.size % 32:
        raise InputError(f"--size must be a multiple of 32, got {args.size}")
    print(version())
    with TemporaryDirectory(prefix="samseg-gpu-") as folder:
        place = Place(args.device, args.size, folder)
        write_sample(Path(folder) / "data", train=4, val=2, test=2, size=args.size)
        found = measured(list(items(place)), place, 60 * args.minutes)
    args.json.write_text(json.dumps({"version": version(), **asdict(place), "items": found}, indent=2))
    failed = [name for name, row in found.items() if row["outcome"] == "failed"]
    left = [name for name, row in found.items() if row["outcome"] == "skipped"]
    print(f"{len(found) - len(failed) - len(left)} of {len(found)} items passed; written to {args.json}")
    for what, names in (("skipped", left), ("FAILED", failed)):
        for name in names:
            print(f"{what}: {name}: {found[name]['reason']}")
    return 1 if failed else 0


def measured(names: list[str], place: Place, seconds: float) -> dict[str, dict[str, Any]]:
    """The outcome of each item (passed, failed or skipped), with its figures or the reason, printed as it is known."""
    found, end, width = {}, time.monotonic() + seconds, max(map(len, names))
    for name in names:
        start = time.monotonic()
        left = end - start
        row = {"outcome": "skipped", "reason": "no time was left"} if left <= 0 else in_its_process(name, place, left)
        found[name] = row | {"seconds": round(time.monotonic() - start, 1)}
        figures = row.get("reason") or "; ".join(f"{key} {as_text(value)}" for key, value in row["figures"].items())
        print(f"{name:<{width}}  {row['outcome']:<7}  {found[name]['seconds']:6.1f} s  {figures}", flush=True)
    return found


def in_its_process(name: str, place: Place, left: float) -> dict[str, Any]:
    """An item's outcome; it is ended, and what it started with it, after `LIMIT_S` or when no time is ``left``."""
    log, limit = Path(place.folder) / "log.txt", min(LIMIT_S, left)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    if place.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    program = "import sys; from benchmarks.gpu import main; main(*sys.argv[1:])"
    command = [sys.executable, "-c", program, name, json.dumps(asdict(place))]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, cwd=place.folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return {"outcome": "failed", "reason": f"ended after {limit:.0f} s"}
    if process.returncode == 0:
        return json.loads((Path(place.folder) / OUTCOME).read_text())
    lines = log.read_text(errors="replace").strip().splitlines()
    return {"outcome": "failed", "reason": lines[-1] if lines else f"code {process.returncode}", "log": lines[-40:]}


def as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{as_text(one)} {key}" for key, one in value.items() if one is not None)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main(name: str, settings: str) -> None:
    """The process of an item, which writes its outcome into the folder."""
    place = Place(**json.loads(settings))
    try:
        outcome = {"outcome": "passed", "figures": items(place)[name](place)}
    except Skipped as reason:
        outcome = {"outcome": "skipped", "reason": str(reason)}
    (Path(place.folder) / OUTCOME).write_text(json.dumps(outcome))
