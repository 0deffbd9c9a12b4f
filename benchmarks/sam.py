"""SamPredictor beside the authors' own predictor and transformers': an image set, prompts answered, memory by boxes."""

import statistics
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from segment_anything import SamPredictor, sam_model_registry

import samseg
from benchmarks.encoder import randomise
from benchmarks.memory import PeakMemory
from benchmarks.peers import need
from benchmarks.timed import timed
from samseg.common.errors import InputError
from samseg.models.sam.contract import PromptableSam
from samseg.models.sam.files import empty_sam

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = 1e-4  # of the logits in float32, as a share of the largest
BOXES = 64
SHAPE = (768, 1024)
POINT = dict(point_coords=np.array([[300, 300]]), point_labels=np.array([1]))
SAM1 = {"sam-vit_b": "vit_b", "sam-vit_l": "vit_l", "sam-vit_h": "vit_h"}
SAM2 = {f"sam2-hiera_{size}": f"configs/sam2.1/sam2.1_hiera_{size}.yaml" for size in ("t", "s", "b+", "l")}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--variant", default="sam-vit_b", choices=[*SAM1, *SAM2, "sam3-vit_l"])
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=["float32", "bfloat16"])
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), help="those that have it")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, of which the median counts (3)")
    parser.add_argument("--memory", type=int, nargs="*", default=[BOXES, 512], help="boxes at a time (64 512)")


def run(args: Namespace) -> None:
    peers = list(PEERS) if args.peers is None else args.peers
    for kind in args.dtype:
        print(f"{args.variant}, an image of {SHAPE[1]} x {SHAPE[0]} in {kind}, {torch.get_num_threads()} threads")
        print("\n".join(as_lines(compare(args.variant, kind, peers, args.repeats))), flush=True)
        for count in args.memory:
            names = ["samseg", *peers] if count <= BOXES else ["samseg"]  # the others decode all at once
            for name, gib in memory(args.variant, kind, names, count):
                print(f"{count:>4} boxes  {name:<17} {gib:5.2f} GiB above what was held before", flush=True)


def compare(variant: str, kind: str, peers: list[str], repeats: int) -> dict[str, dict[str, float] | str]:
    """The median seconds of each step by implementation; or why it is left out.

    Raises InputError when logits disagree: a time for other numbers is no comparison.
    """
    found: dict = {}
    with TemporaryDirectory() as folder:
        predictors = {}
        for name in ("samseg", *peers):
            try:
                predictors[name] = _predictor(name, variant, kind, Path(folder))
            except (ImportError, InputError) as error:
                found[name] = str(error)
    image = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    steps = {
        "set_image": lambda predictor: predictor.set_image(image),
        "a point": lambda predictor: predictor.predict(**POINT, multimask_output=False),
        "a box": lambda predictor: predictor.predict(box=_boxes(1), multimask_output=False),
        f"{BOXES} boxes": lambda predictor: predictor.predict(box=_boxes(BOXES), multimask_output=False),
    }
    seconds = {name: {step: [] for step in steps} for name in predictors}
    for repeat in range(repeats + 1):
        for step, call in steps.items():
            answers = {}
            for name, predictor in predictors.items():
                with _autocast(kind):
                    took = timed(lambda: answers.update({name: call(predictor)}))  # noqa: B023
                if repeat > 0:  # the first allocates
                    seconds[name][step].append(took)
            if repeat == 0 and step != "set_image" and kind == "float32":
                _check({name: low for name, (_, _, low) in answers.items()})
    return found | {name: {s: statistics.median(t) for s, t in each.items()} for name, each in seconds.items()}


def as_lines(found: dict[str, dict[str, float] | str]) -> Iterator[str]:
    """What `compare` found, a line for each implementation; a ratio is how many times as fast we are."""
    ours = found["samseg"]
    yield f"{'':<17}" + "".join(f"{step:>20}" for step in ours)
    for name in sorted(found, key=lambda name: name != "samseg"):
        if isinstance(found[name], str):
            yield f"{name:<17} left out: {found[name]}"
        else:
            ratio = "" if name == "samseg" else "  x {:5.2f}"
            parts = (f"{s:8.3f} s{ratio.format(s / ours[step])}" for step, s in found[name].items())
            yield f"{name:<17}" + "".join(f"{part:>20}" for part in parts)


def memory(variant: str, kind: str, names: list[str], boxes: int) -> Iterator[tuple[str, float | None]]:
    """Peak GiB of `predict` for so many boxes, by implementation, each in a process of its own."""
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # or each would reuse the last one's memory
        for name, peak in zip(names, pool.imap(_peak, [(name, variant, kind, boxes) for name in names])):
            if peak is not None:
                yield name, peak


def _peak(job: tuple[str, str, str, int]) -> float | None:
    """The peak of the second call: the first loads and compiles what is kept."""
    name, variant, kind, boxes = job
    with TemporaryDirectory() as folder:
        try:
            predictor = _predictor(name, variant, kind, Path(folder))
        except (ImportError, InputError):
            return None
    with _autocast(kind):
        predictor.set_image(np.zeros((*SHAPE, 3), np.uint8))
        predictor.predict(box=_boxes(1), multimask_output=False)
        with PeakMemory(DEVICE) as peak:
            predictor.predict(box=_boxes(boxes), multimask_output=False)
    return peak.gib


def _predictor(name: str, variant: str, kind: str, folder: Path) -> Any:
    """An implementation with the same random weights as all others; ours with its encoder rounded to bfloat16."""
    torch.manual_seed(0)
    sam = empty_sam(variant).eval()
    randomise(sam.encoder)
    if name != "samseg":
        return PEERS[name](sam, folder)
    if kind == "bfloat16":
        sam.encoder.round_trunk()
    return samseg.SamPredictor(sam.to(DEVICE))


class _SegmentAnything:
    """Its `SamPredictor`, which takes several boxes as tensors alone."""

    def __init__(self, sam: PromptableSam, folder: Path):
        if sam.encoder.variant not in SAM1:
            raise InputError(f"it has no {sam.encoder.variant}")
        sam.save(folder / "sam.pth")
        self.predictor = SamPredictor(sam_model_registry[SAM1[sam.encoder.variant]](folder / "sam.pth").to(DEVICE))

    def set_image(self, image: np.ndarray) -> None:
        self.predictor.set_image(image)

    def predict(self, box: np.ndarray | None = None, **prompt: Any) -> tuple:
        if box is None or len(box) == 1:
            return self.predictor.predict(box=box, **prompt)
        boxes = torch.from_numpy(self.predictor.transform.apply_boxes(box, SHAPE)).float().to(DEVICE)
        return tuple(x.cpu().numpy() for x in self.predictor.predict_torch(None, None, boxes, **prompt))


def _sam2(sam: PromptableSam, folder: Path) -> Any:
    need("sam2", "facebookresearch/sam2")
    from sam2.build_sam import build_sam2
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    if sam.encoder.variant not in SAM2:
        raise InputError(f"it has no {sam.encoder.variant}")
    sam.save(folder / "sam2.pt")
    return SAM2ImagePredictor(build_sam2(SAM2[sam.encoder.variant], str(folder / "sam2.pt"), device=DEVICE))


class _Transformers:
    """Its model of each, between our ways to the square and back."""

    names = {"sam": "SamModel", "sam2": "Sam2Model", "sam3": "Sam3TrackerModel"}  # by our name of the format

    def __init__(self, sam: PromptableSam, folder: Path):
        need("transformers", "transformers")
        import transformers

        sam.save_transformers(folder)
        model = getattr(transformers, self.names[sam.format])
        self.model, self.transform = model.from_pretrained(folder).eval().to(DEVICE), sam.image_transform

    @torch.no_grad()
    def set_image(self, image: np.ndarray) -> None:
        self.embeddings = self.model.get_image_embeddings(self.transform(image)[None].to(DEVICE))

    @torch.no_grad()
    def predict(self, point_coords=None, point_labels=None, box=None, multimask_output=True) -> tuple:
        prompt = {}
        if point_coords is not None:
            points = self.transform.apply_coords(point_coords, SHAPE)
            prompt["input_points"] = torch.as_tensor(points, dtype=torch.float, device=DEVICE)[None, None]
            prompt["input_labels"] = torch.as_tensor(point_labels, device=DEVICE)[None, None]
        if box is not None:
            boxes = self.transform.apply_coords(box.reshape(-1, 2, 2), SHAPE)
            prompt["input_boxes"] = torch.as_tensor(boxes, dtype=torch.float, device=DEVICE).reshape(1, -1, 4)
        answer = self.model(image_embeddings=self.embeddings, multimask_output=multimask_output, **prompt)
        low = answer.pred_masks[0].float().cpu()
        return (self.transform.restore(low, SHAPE) > 0).numpy(), answer.iou_scores[0].float().cpu().numpy(), low.numpy()


PEERS: dict[str, Callable[[PromptableSam, Path], Any]] = {
    "segment-anything": _SegmentAnything,
    "sam2": _sam2,
    "transformers": _Transformers,
}


def _boxes(count: int) -> np.ndarray:
    """(count, 4) over all of the image."""
    corners = np.random.default_rng(1).uniform(0, 0.8, (count, 2)) * (SHAPE[1], SHAPE[0])
    return np.concatenate([corners, corners + 100], axis=1)


def _autocast(kind: str) -> torch.autocast:
    return torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=kind == "bfloat16")


def _check(logits: dict[str, np.ndarray]) -> None:
    ours = logits["samseg"]
    for name, theirs in logits.items():
        error = np.abs(theirs.reshape(ours.shape) - ours).max() / np.abs(ours).max()
        if error > TOLERANCE:
            raise InputError(f"the logits of {name} differ by {error:.1e} of the largest; nothing was timed")
