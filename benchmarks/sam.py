"""SamPredictor.set_image on `samseg.build_sam` beside segment-anything's own model: same weights, turn by turn."""

import statistics
from argparse import ArgumentParser, Namespace
from tempfile import TemporaryDirectory

import numpy as np
import torch
from segment_anything import SamPredictor, sam_model_registry

from benchmarks.encoder import randomise
from benchmarks.timed import timed
from samseg.common.errors import InputError
from samseg.models.sam.files import build_sam

VARIANTS = {"sam-vit_b": "vit_b", "sam-vit_l": "vit_l", "sam-vit_h": "vit_h"}
TOLERANCE = 1e-4  # of the logits


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--variant", default="sam-vit_b", choices=VARIANTS)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, of which the median counts (3)")


def run(args: Namespace) -> None:
    found = compare(args.variant, args.repeats)
    ours, theirs = found["samseg"], found["segment-anything"]
    print(f"{args.variant}, set_image at 1024 px with {torch.get_num_threads()} threads on {found['device']}")
    print(f"samseg            {ours:6.2f} s")
    print(f"segment-anything  {theirs:6.2f} s  x {theirs / ours:.2f}  (logits differ by {found['error']:.1e})")


def compare(variant: str, repeats: int) -> dict:
    """The median seconds of `set_image` for a 1024 x 768 image on both, and how far their answers differ.

    Raises InputError when the logits of a point disagree: a time for other numbers is no comparison.
    """
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    theirs = sam_model_registry[VARIANTS[variant]]()
    randomise(theirs.image_encoder)
    with TemporaryDirectory() as folder:
        torch.save(theirs.state_dict(), f"{folder}/sam.pth")
        models = {"samseg": build_sam(f"{folder}/sam.pth"), "segment-anything": theirs}
    predictors = {name: SamPredictor(model.to(device)) for name, model in models.items()}
    image = np.random.default_rng(0).integers(0, 256, (768, 1024, 3), dtype=np.uint8)
    answers = []
    for predictor in predictors.values():  # which is the warm-up, too
        predictor.set_image(image)
        answers.append(predictor.predict(np.array([[300, 300]]), np.array([1]), return_logits=True)[0])
    error = float(np.abs(answers[0] - answers[1]).max())
    if error > TOLERANCE:
        raise InputError(f"the two models' logits differ by {error:.1e}; nothing was timed")
    seconds = {name: [] for name in predictors}
    for _ in range(repeats):
        for name, predictor in predictors.items():
            seconds[name].append(timed(lambda predictor=predictor: predictor.set_image(image)))
    return {name: statistics.median(each) for name, each in seconds.items()} | {"error": error, "device": device}
