"""Classify every pixel of images with a trained model."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

WAYS = ("components", "prompts", "amg")  # to objects
EPILOG = """\
examples:
  samseg infer                                     the newest run under runs/, on its test images
  samseg infer runs/buildings photo.jpg scenes/    an image and a folder's images
  samseg infer runs/buildings map.tif --tile       a large image at its own resolution
  samseg infer runs/cells slides/ --objects        each object by itself

Per image: STEM.png (class indices, palette PNG), STEM_overlay.jpg (to look at, 4096 pixels a side at most) and, with
--probabilities, STEM.npy (classes x height x width, float32: np.load). legend.png says which colour is what.
With --objects: STEM.png holds the objects' numbers (16 bits; above 65535 objects STEM.tif, 32 bits), and
annotations.json all of them in COCO's format. The ways: components (connected areas of a class), prompts (SAM's masks
for points in the middle of these, which parts objects that touch), amg (SAM's automatic mask generator).
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
    parser.add_argument("--objects", metavar="WAY", nargs="?", const="auto", choices=("auto", *WAYS),
                        help="objects instead of classes: components, prompts or amg, see below; without WAY: prompts "
                        "for a run that trained SAM's mask decoder, else components")  # fmt: skip
    parser.add_argument("--device", help="cuda, cuda:1, mps, cpu ...; default: a GPU if there is one")


def run(args: Namespace) -> int:
    from samseg.inference.batch import predict_images, run_and_images
    from samseg.inference.predictor import Predictor
    from samseg.runs.folder import OBJECTS, PREDICTIONS

    folder, images = run_and_images(args.paths)
    place = folder.parent if folder.is_file() else folder
    predictor = Predictor.from_run(folder, args.device, tile=args.tile)
    if args.objects is not None:
        from samseg.inference.object_files import ObjectFinder, find_in_images

        finder = ObjectFinder(predictor, None if args.objects == "auto" else args.objects)
        return 1 if find_in_images(finder, images, args.out or place / OBJECTS) else 0
    return 1 if predict_images(predictor, images, args.out or place / PREDICTIONS, args.probabilities) else 0
