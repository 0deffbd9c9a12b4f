"""A configuration for a folder of images and labels of which nothing else is known."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from samseg.config import typed_yaml
from samseg.config.load import load_config
from samseg.config.schema import RunConfig
from samseg.data.classes import IGNORE_INDEX, SMOOTHED, packed_colours
from samseg.data.config import DataConfig, complete_data, open_source
from samseg.data.sources import Source, source_class
from samseg.errors import InputError
from samseg.files import READERS

SPLITS = ("train", "val", "test")


def config_for(root: Path, overrides: list[str]) -> RunConfig:
    """The defaults with ``overrides`` for the data under ``root``.

    What they leave out of ``data.source`` and ``data.classes`` is found: the source by the files' places, and as a
    class each value of the masks, or each label by its name. InputError where no classes can be told.
    """
    given = {override.partition("=")[0] for override in overrides}
    found: dict[str, Any] = {"root": str(root), "source": guess_source(root)}
    if "data.classes" not in given:
        data = typed_yaml.load(RunConfig, {"data": found}, overrides).data
        complete_data(data)
        found["classes"] = guess_classes(data)
    return load_config({"data": found}, overrides)


def guess_source(root: Path) -> str:
    """The source whose files lie under ``root``; folders where they do or none is known by its files."""
    folders = [root / split for split in SPLITS]
    if any((folder / kind).is_dir() for folder in folders for kind in ("masks", "instances")):
        return "folders"
    if any((folder / "annotations.json").is_file() for folder in folders):
        return "coco"
    return "labelme" if any(any(folder.glob("[!.]*.json")) for folder in folders) else "folders"


def guess_classes(data: DataConfig) -> dict[str, Any]:
    """``data.classes`` that name everything in the labels. InputError where none can be read.

    Values that occur in masks of over `SMOOTHED` values alone are no classes: smoothing made them, or JPEG.
    """
    sources, errors = [], []
    for split in SPLITS:
        try:
            sources.append(open_source(data, split))
        except InputError as error:
            errors.append(error)
    if not sources:
        raise errors[0]
    if source_class(data.source).named:
        names = sorted({name for source in sources for name in source.categories} - {"background"})
        nothing = [None, "background"] if any("background" in source.categories for source in sources) else None
        return {"background": nothing} | {name: name for name in names}
    masks = _masks(sources, colours=False)
    if colours := any(one.ndim == 2 for one in masks):
        masks = [packed_colours(one) for one in _masks(sources, colours)]
    found = sorted({value for one in _clean(masks) for value in one.tolist()})
    if len(found) > IGNORE_INDEX:
        raise InputError(
            f"the masks of {data.root} hold {len(found)} values, more than there can be classes ({IGNORE_INDEX}): so "
            "many come from smoothing or JPEG, or are numbers of objects; name the classes with data.classes"
        )
    return {f"#{value:06x}" if colours else str(value): f"#{value:06x}" if colours else value for value in found}


def _clean(masks: list[np.ndarray]) -> list[np.ndarray]:
    """Those of few values, if there are some."""
    return [one for one in masks if len(one) <= SMOOTHED] or masks


def _masks(sources: list[Source], colours: bool) -> list[np.ndarray]:
    """The values of each mask, each once: (N,) whole numbers, or (N, 3) of one in colours.

    Masks that cannot be read are left out; InputError where none can.
    """

    def values(item: tuple[Source, str]) -> np.ndarray | InputError:
        source, name = item
        try:
            label = source.label(name, colours=colours)
        except InputError as error:
            return error
        if label.ndim == 3:
            _, first = np.unique(packed_colours(label), return_index=True)
            return label.reshape(-1, 3)[first]
        found = np.unique(label)
        return found[(found >= 0) & (found < 2**16) & (found == np.floor(found))].astype(np.int64)

    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(values, [(source, name) for source in sources for name in source.names]))
    errors = [one for one in found if isinstance(one, InputError)]
    if errors and len(errors) == len(found):
        raise errors[0]
    return [one for one in found if not isinstance(one, InputError)]
