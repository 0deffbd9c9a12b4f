"""Many images through a predictor, each to its own files."""

import sys
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
from numpy.lib.format import open_memmap
from tqdm import tqdm

from samseg.data.classes import IGNORE_INDEX
from samseg.data.images import Raster, read_image
from samseg.data.preprocess import check_pixels, resized_shape, shown, valid_pixels
from samseg.errors import InputError
from samseg.files import written_whole
from samseg.inference.predictor import Predictor
from samseg.predict.draw import legend, overlay, save_class_map, save_picture
from samseg.predict.rows import likeliest

OVERLAY_PX = 4096  # an overlay is for looking at: larger ones are shrunk to this longest side
LEGEND = "legend.png"


def predict_images(predictor: Predictor, images: list[Path], out: Path, probabilities: bool = False) -> int:
    """Classify ``images`` into the folder ``out``; returns how many could not be read: they are reported and skipped.

    For each image ``<stem>.png`` (class indices at the image's own size, 255 where it has no data, palette PNG), ``<stem>_overlay.jpg`` and, if
    asked for, ``<stem>.npy`` (probabilities (C, H, W) float32); and once ``legend.png``, the colours of the classes.
    Raises InputError before anything is written when two images would get one name, ``out`` holds an input, or a file
    that is no class map of an earlier call would be lost, such as a mask of the same name.
    """
    _check_names(images, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {out} ({error.strerror}); name another with --out") from None
    names = predictor.classes
    background = names.index("background") if "background" in names else None
    save_picture(out / LEGEND, legend(names))
    done = []
    for path in tqdm(images, unit="image", disable=None):
        try:
            image = read_image(path)
            check_pixels(image.pixels, predictor.config.data, path)
        except InputError as error:
            tqdm.write(f"skipped: {error}", file=sys.stderr)
            continue
        classes = _classify(predictor, image, out / f"{path.stem}.npy" if probabilities else None)
        save_class_map(out / f"{path.stem}.png", classes)
        picture = shown(image, predictor.config.data)
        save_picture(out / f"{path.stem}_overlay.jpg", overlay(*_for_looking(picture, classes), background))
        done.append(path)
    failed = len(images) - len(done)
    print(f"{len(done)} of {len(images)} images classified in {out}" + (f"; {failed} skipped" if failed else ""))
    if done:
        print(f"open {out / f'{done[0].stem}_overlay.jpg'} ({LEGEND} beside it says which colour is what)")
    return failed


def _check_names(images: list[Path], out: Path) -> None:
    """No output may land on an input, on another output, or on a file that no earlier call has written."""
    ours = (out / LEGEND).exists()
    taken = {Path(LEGEND).stem: "the legend of the colours"}
    for image in images:
        if image.stem in taken:
            raise InputError(
                f"{image} and {taken[image.stem]} would both be written to {out / image.stem}.png; rename one, or "
                "classify them in two calls with different --out"
            )
        if image.resolve().parent == out.resolve():
            raise InputError(f"{out} holds the input {image.name}, which could be overwritten; name another --out")
        file = out / f"{image.stem}.png"
        if file.exists() and not ours:
            raise InputError(f"{file} exists, and {out} holds no class maps ({LEGEND} is missing); name another --out")
        taken[image.stem] = str(image)


def _classify(predictor: Predictor, image: Raster, file: Path | None) -> np.ndarray:
    """Classes (H, W) uint8; the probabilities go to ``file``, a few rows at a time, as they may not fit in memory."""
    height, width = image.pixels.shape[1:]
    classes = np.empty((height, width), np.uint8)
    with (
        written_whole(file) if file else nullcontext() as temporary,
        tqdm(total=height, unit="row", leave=False, delay=2, disable=None) as bar,
    ):
        shape = (len(predictor.classes), height, width)
        probabilities = open_memmap(temporary, "w+", np.float32, shape) if temporary else None
        for rows, logits in predictor.rows(image):
            classes[rows] = likeliest(logits)
            if probabilities is not None:
                probabilities[:, rows] = logits.softmax(dim=0).cpu().numpy()
            bar.update(rows.stop - rows.start)
        if probabilities is not None:
            probabilities.flush()
    valid = valid_pixels(image, predictor.config.data)
    if valid is not None:
        classes[~valid] = IGNORE_INDEX
    return classes


def _for_looking(image: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    height, width = classes.shape
    if max(height, width) <= OVERLAY_PX:
        return image, classes
    height, width = resized_shape(height, width, OVERLAY_PX)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return small, cv2.resize(classes, (width, height), interpolation=cv2.INTER_NEAREST)
