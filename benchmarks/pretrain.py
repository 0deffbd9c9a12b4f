"""Small SAMs pretrained on generated objects, then fine-tuned on real ones, beside the same without pretraining."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.generated import FromNothing, GeneratedTask
from samseg.common.errors import InputError
from samseg.common.files import write_json
from samseg.data.raster import as_picture
from samseg.data.sources.folder_layouts import FoldersConfig
from samseg.data.sources.folders import FolderSource
from samseg.encoders import Row, register
from samseg.encoders.hiera import Sam2Hiera
from samseg.encoders.layouts import SAM2
from samseg.evaluation.evaluate_run import evaluate_run
from samseg.models.sam.save import save_sam
from samseg.predict.draw import save_picture
from samseg.runs.config.load import load_config, task_of
from samseg.runs.load import load_run
from samseg.tasks import TASKS
from samseg.training.processes import prepare_process
from samseg.training.run import train

THIN = dict(width=32, heads=1, stages=(1, 1, 3, 1), global_blocks=(3,), windows=(8, 4, 8, 4))
ENCODERS = ("sam2-hiera_thin", "sam-vit_t")
PART = 4  # a tile's share of each side of a real image: its objects are then tens of pixels wide for the network
BATCH, EPOCH = 2, 200  # images a step; steps of pretraining between two looks at validation images
WAYS = {"box": "box", "clicks_1": "point", "clicks_3": "3 clicks", "clicks_8": "8 clicks"}  # of prompting


def add_arguments(parser: ArgumentParser) -> None:
    default = "(%(default)s)"
    parser.add_argument("data", type=Path, help="real objects: a folder with train, val, test, of images and instances")
    parser.add_argument("--out", type=Path, default=Path("pretrained"), help=f"runs, weights, results.json {default}")
    parser.add_argument("--encoder", nargs="+", choices=ENCODERS, default=ENCODERS, help="one of them (both)")
    parser.add_argument("--size", type=int, default=96, help=f"pixels a side of what the network sees {default}")
    parser.add_argument("--steps", type=int, default=2000, help=f"of pretraining, {BATCH} images each {default}")
    parser.add_argument("--weights", type=Path, help="to pretrain further: an earlier sam.pt (random ones)")
    parser.add_argument("--epochs", type=int, default=3, help=f"of fine-tuning {default}")


def run(args: Namespace) -> None:
    """What was begun in ``--out`` is gone on with."""
    prepare_process()
    register("sam2-hiera_thin", Row(Sam2Hiera, (), THIN, SAM2))
    TASKS.update({"generated": GeneratedTask, "from-nothing": FromNothing})
    for split, every in (("train", 1), ("val", 4), ("test", 1)):
        write_tiles(args.data, args.out / "tiles", split, every)
    for encoder in args.encoder:
        found = experiment(args.out, encoder, args.size, args.steps, args.epochs, args.weights)
        print(as_text(encoder, found))


def write_tiles(root: Path, out: Path, split: str, every: int = 1) -> None:
    """Cut one in ``every`` image of a split into overlapping tiles of a `PART` of each side.

    An object stands, whole, in the tile whose middle is nearest; for training in the others that hold all of it, too.
    Tiles in which no object stands are left out, and objects that fit into no tile.
    """
    for kind in ("images", "instances"):
        (out / split / kind).mkdir(parents=True, exist_ok=True)
    source = FolderSource(root, split, FoldersConfig())
    for name in source.names[::every]:
        objects = source.instances(name)
        if objects is None:
            raise InputError(f"{root}/{split} has no instances/: 16-bit PNG, each object a number of its own")
        image, shape = as_picture(source.image(name)), np.array(objects.shape)
        side = shape // PART
        steps = [np.linspace(0, length - part, 2 * PART - 1).astype(int) for length, part in zip(shape, side)]
        corners = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 2)
        numbers = np.unique(objects[objects > 0])
        places = [np.argwhere(objects == number) for number in numbers]
        low, high = (np.array([getattr(place, end)(0) for place in places]).reshape(-1, 1, 2) for end in ("min", "max"))
        whole = ((corners <= low) & (high < corners + side)).all(-1)  # objects x tiles
        distance = np.where(whole, np.linalg.norm(corners + side / 2 - (low + high) / 2, axis=-1), np.inf)
        nearest = whole & (np.arange(len(corners)) == distance.argmin(1)[:, None])
        standing = whole if split == "train" else nearest
        for tile in np.flatnonzero(nearest.any(0)):
            top, left = corners[tile]
            window, file = np.s_[top : top + side[0], left : left + side[1]], f"{name}_{top}_{left}.png"
            kept = np.where(np.isin(objects[window], numbers[standing[:, tile]]), objects[window], 0)
            Image.fromarray(image[window]).save(out / split / "images" / file)
            Image.fromarray(kept.astype(np.uint16)).save(out / split / "instances" / file)


def experiment(out: Path, encoder: str, size: int, steps: int, epochs: int, weights: Path | None) -> dict:
    """Pretrain from ``weights`` or none, fine-tune, and fine-tune random weights for as long.

    The figures are of the test tiles, and written to results.json.

    Returns:
        The IoU of each way of prompting, "before" and "after" fine-tuning and "without" pretraining, the "shapes" that
        a box alone tells, of the same number of "objects".
    """
    folder, model = out / encoder, {"arch": "sam", "encoder": encoder, "freeze_encoder": False}
    GeneratedTask.images = {"train": min(steps, EPOCH) * BATCH, "val": 16}
    pretrained = _train(folder / "pretraining", {
        "task": "generated",
        "model": model | {"weights": weights and str(weights)},
        "data": {"image_size": size},
        "prompts": {"objects": 12, "rounds": 1, "box": 0.8},
        "train": {"epochs": -(-steps // EPOCH), "batch_size": BATCH, "lr": 7e-4, "encoder_lr": 7e-4},
    })  # fmt: skip
    save_sam(load_run(pretrained)[0], folder / "sam.pt")
    figures = {}
    for name, task, start in (("tuned", "promptable", str(folder / "sam.pt")), ("untrained", "from-nothing", None)):
        trained = _train(folder / name, {
            "task": task,
            "model": model | {"weights": start},
            "data": {"root": str(out / "tiles"), "image_size": size, "views": 8},
            "prompts": {"rounds": 1, "box": 0.7, "min_pixels": 20},
            "train": {"epochs": epochs, "batch_size": 4, "lr": 5e-4, "encoder_lr": 5e-4},
        })  # fmt: skip
        evaluation = evaluate_run(trained, "test")
        evaluation.write()
        figures[name] = evaluation.figures
        network, config = load_run(trained)
        shown = task_of(config)
        save_picture(folder / f"{name}.png", shown.picture(network, shown.dataset("test", train=False, seed=0)))
    tuned, untrained = figures["tuned"], figures["untrained"]
    columns = {"before": tuned["before"], "after": tuned, "without": untrained}
    found = {column: {key: values[key] for key in WAYS} for column, values in columns.items()}
    found |= {"shapes": tuned["shapes"], "objects": tuned["objects"]}
    write_json(found, folder / "results.json")
    return found


def _train(folder: Path, config: dict) -> Path:
    """The run of ``config`` in ``folder``, from where it has come to."""
    always = {"workers": 0, "trackers": [], "resume": True}
    config |= {"run_dir": str(folder), "train": config["train"] | always}
    return train(load_config(config), folder.name)


def as_text(encoder: str, found: dict) -> str:
    """What `experiment` found."""
    shapes = found["shapes"]
    lines = [
        f"{encoder}: IoU, mean of {found['objects']} objects; the box filled {shapes['box']:.3f}, its ellipse "
        f"{shapes['ellipse']:.3f}",
        f"{'':<10} {'pretrained':>10} {'and tuned':>10} {'tuned alone':>12}",
    ]
    for key, way in WAYS.items():
        before, after, without = (found[column][key] for column in ("before", "after", "without"))
        lines.append(f"{way:<10} {before:10.3f} {after:10.3f} {without:12.3f}")
    return "\n".join(lines)
