"""Class maps of photos, from reading to writing: how much of the time is the network's, in a folder and in tiles.

The photos are generated scenes, written as JPEG, and the network has random weights. Each way is a call of what
`samseg infer` calls, after one photo that is not counted; imports and loading are not measured.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

import samseg
from benchmarks.timed import NetworkTime, timed
from samseg.common.machine import keep_freed_memory
from samseg.data.config import DataConfig, complete_data
from samseg.inference.photos import predict_images
from samseg.inference.predictor import Predictor
from samseg.runs.config.schema import RunConfig
from samseg.sample.scene import CLASSES, render_scene


def add_arguments(parser: ArgumentParser) -> None:
    default = "(%(default)s)"
    parser.add_argument("--encoder", default="sam-vit_b", help=f"one of SAM's {default}")
    parser.add_argument("--arch", default="unet", help=f"SMP's decoder {default}")
    parser.add_argument("--size", type=int, default=1024, help=f"pixels a side of the network and the photos {default}")
    parser.add_argument("--images", type=int, default=6, help=f"photos in the folder {default}")
    parser.add_argument("--large", type=int, default=2560, help=f"pixels a side of the photo in tiles {default}")
    parser.add_argument("--precision", nargs="+", default=["fp32"], choices=("fp32", "bf16"), help=default)


def run(args: Namespace) -> None:
    print(f"{args.arch} on {args.encoder} at {args.size} px, {torch.get_num_threads()} threads")
    for precision in args.precision:
        for row in compare(args.encoder, args.arch, args.size, args.images, args.large, precision):
            print(
                f"{precision}  {row['what']:<28} {row['seconds']:7.2f} s  {row['network']:6.1%} in the network  "
                f"{row['megapixels'] / row['seconds']:6.2f} Mpx/s",
                flush=True,
            )


def compare(encoder: str, arch: str, size: int, images: int, large: int, precision: str) -> Iterator[dict]:
    """What was classified, its `megapixels`, the `seconds` of the call and the share of the `network` in them.

    First ``images`` photos (size, size) in a folder, each seen whole, then one (large, large) in tiles of ``size``.
    """
    keep_freed_memory()  # as the command does
    torch.manual_seed(0)
    network = samseg.create_model(arch, encoder, encoder_weights=None, classes=len(CLASSES))
    data = complete_data(DataConfig(classes={name: i for i, name in enumerate(CLASSES)}, image_size=size))
    config = RunConfig(data=data)
    inside = NetworkTime(network)
    with TemporaryDirectory(prefix="samseg-benchmark-") as temporary:
        folder = Path(temporary)
        scenes = [render_scene(seed, size)[0] for seed in range(images)]
        repeats = -(-large // size)
        pictures = {f"{i}.jpg": scene for i, scene in enumerate(scenes)}
        pictures["large.jpg"] = np.tile(scenes[0], (repeats, repeats, 1))[:large, :large]
        for name, pixels in pictures.items():
            Image.fromarray(pixels).save(folder / name, quality=92)
        photos = [folder / f"{i}.jpg" for i in range(images)]
        for tile, paths, what in (
            (False, photos, f"{images} photos, whole"),
            (True, [folder / "large.jpg"], f"{large} x {large}, in tiles"),
        ):
            predictor = Predictor(network, config, tile=tile, precision=precision)
            with redirect_stdout(StringIO()):
                predict_images(predictor, photos[:1], folder / "first")
                inside.seconds = 0.0
                seconds = timed(partial(predict_images, predictor, paths, folder / "out"))
            megapixels = sum(pictures[path.name].size for path in paths) / 3e6
            yield dict(what=what, megapixels=megapixels, seconds=seconds, network=inside.seconds / seconds)
