"""The generated sample: aerial scenes that make the first run need no download."""

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import cv2
from tqdm import tqdm

from samseg.common.errors import InputError
from samseg.sample.scene import render_scene


def write_sample(
    root: str | Path, *, train: int = 32, val: int = 8, test: int = 8, size: int = 512, seed: int = 0
) -> None:
    """Write ``root/{train,val,test}/{images,masks}/scene_000.png``: RGB images, grey masks holding class indices.

    All of it appears at once when it is complete, or nothing does. ``root`` may exist if it is empty; anything else
    there is an `InputError`.
    """
    root = Path(root).resolve()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"{root} exists and is not an empty folder; delete it or choose another for the sample data")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}-") as temporary:
        staged = Path(temporary) / root.name
        scenes = []
        for part, (split, count) in enumerate((("train", train), ("val", val), ("test", test))):
            for folder in ("images", "masks"):
                (staged / split / folder).mkdir(parents=True)
            first = 1_000_000 * seed + 100_000 * part  # no scene in two splits, none moved by another split's count
            scenes += [(staged / split, index, first + index) for index in range(count)]
        _write_scenes(scenes, size)
        if root.exists():
            root.rmdir()
        staged.rename(root)


def _write_scenes(scenes: list[tuple[Path, int, int]], size: int) -> None:
    """Render and write (folder, index, seed), a few at a time."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        jobs = [pool.submit(_write_scene, *scene, size) for scene in scenes]
        try:
            for job in tqdm(as_completed(jobs), total=len(jobs), desc="sample scenes", unit="scene"):
                job.result()
        except BaseException:  # Ctrl-C too: without this the pool would first render all that is left
            pool.shutdown(cancel_futures=True)
            raise


def _write_scene(folder: Path, index: int, seed: int, size: int) -> None:
    image, classes = render_scene(seed, size)
    for name, pixels in (("images", image[..., ::-1]), ("masks", classes)):  # OpenCV writes BGR
        _, png = cv2.imencode(".png", pixels)
        (folder / name / f"scene_{index:03}.png").write_bytes(png.tobytes())
