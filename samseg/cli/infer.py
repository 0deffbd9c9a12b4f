"""Classify every pixel of images with a trained model."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

EPILOG = """\
examples:
  samseg infer                                     the newest run under runs/, on its test images
  samseg infer runs/buildings photo.jpg scenes/    an image and a folder's images
  samseg infer runs/buildings map.tif --tile       a large image at its own resolution

Per image: STEM.png (class indices, palette PNG), STEM_overlay.jpg (to look at, 4096 pixels a side at most) and, with
--probabilities, STEM.npy (classes x height x width, float32: np.load). legend.png says which colour is what.
Exit code: 0 all done, 1 some images could not be read and were skipped, 2 bad arguments.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "paths", metavar="[RUN] INPUT", nargs="*", type=Path,
        help="a run folder or an exported .safetensors file (default: the newest run under runs/), then images or "
        "folders of images (default: the run's test split; folders inside folders are not searched)",
    )  # fmt: skip
    parser.add_argument("--out", metavar="DIR", type=Path, help="where to write; default: RUN/predictions")
    parser.add_argument("--probabilities", action="store_true", help="write the probability of each class, too")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--tile", action="store_true", default=None, help="overlapping tiles at native resolution")
    way.add_argument("--whole", dest="tile", action="store_false", help="the whole image at the network's size")
    parser.add_argument("--device", help="cuda, cuda:1, mps, cpu ...; default: a GPU if there is one")


def run(args: Namespace) -> int:
    from samseg.inference.batch import predict_images, run_and_images
    from samseg.inference.predictor import Predictor
    from samseg.runs.folder import PREDICTIONS

    folder, images = run_and_images(args.paths)
    out = (folder.parent if folder.is_file() else folder) / PREDICTIONS
    predictor = Predictor.from_run(folder, args.device, tile=args.tile)
    return 1 if predict_images(predictor, images, args.out or out, args.probabilities) else 0
