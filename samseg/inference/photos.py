"""Many images through a predictor, each to its own files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import cv2
import numpy as np
from numpy.lib.format import write_array_header_1_0
from tqdm import tqdm

from samseg.common.files import written_whole
from samseg.data.classes import IGNORE_INDEX
from samseg.data.formats.images import read_image
from samseg.data.preprocess import resized_shape
from samseg.data.raster import Raster
from samseg.inference.each import LEGEND, check_names, each_image, output_folder
from samseg.inference.predictor import Predictor
from samseg.predict.draw import background_of, legend, overlay, save_class_map, save_picture
from samseg.predict.rows import likeliest

OVERLAY_PX = 4096  # an overlay is for looking at: larger ones are shrunk to this longest side


def predict_images(predictor: Predictor, images: list[Path], out: Path, probabilities: bool = False) -> int:
    """Classify ``images`` into the folder ``out``; returns how many could not be read: they are reported and skipped.

    For each image ``<stem>.png`` (class indices at the image's own size, 255 where it has no data, palette PNG),
    ``<stem>_overlay.jpg`` and, if asked for, ``<stem>.npy`` (probabilities (C, H, W) float32); and once
    ``legend.png``, the colours of the classes. An image that does not fit into memory is skipped, too.
    Raises InputError before anything is written when two images would get one name, ``out`` holds an input, or a file
    that is no class map of an earlier call would be lost, such as a mask of the same name.
    """
    check_names(images, out)
    output_folder(out)
    names = predictor.classes
    background = background_of(names)
    save_picture(out / LEGEND, legend(names))
    done = each_image(images, lambda path: _predict_image(predictor, path, out, probabilities, background))
    failed = len(images) - len(done)
    print(f"{len(done)} of {len(images)} images classified in {out}" + (f"; {failed} skipped" if failed else ""))
    if done:
        print(f"open {out / f'{done[0].stem}_overlay.jpg'} ({LEGEND} beside it says which colour is what)")
    return failed


def _predict_image(predictor: Predictor, path: Path, out: Path, probabilities: bool, background: int | None) -> None:
    image = read_image(path)
    predictor.preprocessing.check_pixels(image.pixels, path)
    classes = _classify(predictor, image, out / f"{path.stem}.npy" if probabilities else None)
    picture = overlay(*shrunk(predictor.preprocessing.picture(image), classes), background)
    save_class_map(out / f"{path.stem}.png", classes)
    save_picture(out / f"{path.stem}_overlay.jpg", picture)


def _classify(predictor: Predictor, image: Raster, file: Path | None) -> np.ndarray:
    """Classes (H, W) uint8; the probabilities go to ``file``, a few rows at a time, as they may not fit in memory."""
    height, width = image.pixels.shape[1:]
    classes = np.empty((height, width), np.uint8)
    with (
        _rows_of(file, (len(predictor.classes), height, width)) if file else nullcontext() as write_rows,
        tqdm(total=height, unit="row", leave=False, delay=2, disable=None) as bar,
    ):
        for rows, logits in predictor.rows(image):
            classes[rows] = likeliest(logits)
            if write_rows is not None:
                write_rows(rows, logits.softmax(dim=0).cpu().numpy())
            bar.update(rows.stop - rows.start)
    valid = predictor.preprocessing.valid_pixels(image)
    if valid is not None:
        classes[~valid] = IGNORE_INDEX
    return classes


@contextmanager
def _rows_of(path: Path, shape: tuple[int, int, int]) -> Iterator[Callable[[slice, np.ndarray], None]]:
    """Write an .npy file of ``shape`` (C, H, W) float32, some rows (C, h, W) at a time.

    Not mapped into memory: on a full disk that ends the process.
    """
    _, height, width = shape
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        start = file.tell()

        def write(rows: slice, values: np.ndarray) -> None:
            for index, plane in enumerate(values):
                file.seek(start + 4 * width * (index * height + rows.start))
                file.write(np.ascontiguousarray(plane, "<f4"))

        yield write


def shrunk(image: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W, 3) and its classes (H, W), both shrunk if they are too large to be looked at."""
    height, width = classes.shape
    if max(height, width) <= OVERLAY_PX:
        return image, classes
    height, width = resized_shape(height, width, OVERLAY_PX)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return small, cv2.resize(classes, (width, height), interpolation=cv2.INTER_NEAREST)
