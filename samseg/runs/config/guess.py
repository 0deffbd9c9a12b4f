"""A configuration for a folder of images and labels of which nothing else is known."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from samseg.common.errors import InputError
from samseg.common.files import READERS
from samseg.data.check import DataProblems, Problem
from samseg.data.classes import IGNORE_INDEX, SMOOTHED, ignored_values, packed_colours
from samseg.data.config import DataConfig, complete_data, open_source, source_settings, split_images
from samseg.data.recognise import recognise, unrecognised
from samseg.data.sources import Source, source_class
from samseg.data.sources.places import SPLITS
from samseg.runs.config import typed_yaml
from samseg.runs.config.load import load_config
from samseg.runs.config.schema import RunConfig


class Guess(NamedTuple):
    """A configuration, what of its keys under ``data`` must be said to have it, and what was recognised, for people."""

    config: RunConfig
    settings: dict[str, Any]
    what: str


def config_for(root: Path, overrides: list[str]) -> Guess:
    """The defaults with ``overrides`` for the data under ``root``.

    What they leave out of ``data`` is found: the source and its keys by the files' places, splits that are to be drawn
    where there are none, and as a class each value of the masks, or each label by its name. InputError where nothing is
    recognised, or no classes can be told.
    """
    given = {override.partition("=")[0] for override in overrides}
    found: dict[str, Any] = {"root": str(root)}
    data = typed_yaml.load(RunConfig, {"data": found}, overrides).data
    asked = data.source is None
    layout = recognise(data)
    if asked and data.source is None and any(root.iterdir()):
        raise unrecognised(root)
    if layout is not None:
        if not layout.splits and "data.split" not in given:
            found["split"] = data.split = _shares(data)
        if layout.ignore and "data.ignore" not in given:
            found["ignore"] = data.ignore = list(layout.ignore)
    if "data.classes" not in given:
        complete_data(data)
        found["classes"] = guess_classes(data) if layout is None or layout.classes is None else layout.classes
    return Guess(load_config({"data": found}, overrides), found, layout.what if layout else "")


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
    wrong = [Problem(source.split, name, error) for source in sources for name, error in source.wrong.items()]
    if wrong and not any(source.names for source in sources):
        raise DataProblems(wrong)
    if source_class(data.source).named:
        names = {name for source in sources for name, objects in source.categories.items() if objects}
        if not names and wrong:
            raise DataProblems(wrong)
        if not names:
            images = sum(len(source.names) for source in sources)
            raise InputError(f"none of the {images} images in {data.root} has an object, so there are no classes")
        nothing = [None, "background"] if "background" in names else None
        return {"background": nothing} | {name: name for name in sorted(names - {"background"})}
    masks = _masks(sources)
    colours = any(one.colours for one in masks)
    if colours:
        masks = _masks(sources, colours)
    found = _all(one.values for one in _clean(masks)) - ignored_values(data.ignore, colours)
    solid = _all(one.solid for one in _clean(masks))
    thin = len(found - solid)
    if thin > SMOOTHED and 2 * thin > len(found):
        kind, some = "colours" if colours else "values", sorted(solid)[:SMOOTHED]
        raise InputError(
            f"the masks of {data.root} hold {len(found)} {kind}, of which {thin} never fill 2 x 2 pixels: they stand "
            "at edges, as antialiasing makes them, or resizing with a smoothing filter. Save masks without either "
            "(resize by nearest neighbour), or name the classes with data.classes, and the others with data.ignore; "
            f"{kind} of areas are {', '.join(_written(one, colours) for one in some) or 'none'}"
        )
    if len(found) > IGNORE_INDEX:
        raise InputError(
            f"the masks of {data.root} hold {len(found)} values, more than there can be classes ({IGNORE_INDEX}): so "
            "many come from smoothing or JPEG, or are numbers of objects; name the classes with data.classes"
        )
    found = sorted(found)
    return {_written(value, colours): f"#{value:06x}" if colours else value for value in found}


class MaskValues(NamedTuple):
    """The values in a mask, or its colours packed as 0xRRGGBB, each once; ``solid``: those that fill 2 x 2 pixels."""

    values: np.ndarray
    solid: np.ndarray
    colours: bool


def _written(value: int, colours: bool) -> str:
    return f"#{value:06x}" if colours else str(value)


def _all(values: Iterable[np.ndarray]) -> set[int]:
    return {value for one in values for value in one.tolist()}


def _shares(data: DataConfig) -> list[float]:
    """``data.split`` for data without splits, or with train and test alone."""
    try:
        source_class(data.source).check_splits(source_settings(data))
        split_images(data, "test")
    except InputError:
        return [0.7, 0.15, 0.15]
    return [0.85, 0.15]


def _clean(masks: list[MaskValues]) -> list[MaskValues]:
    """Those of few values, if there are some."""
    return [one for one in masks if len(one.values) <= SMOOTHED] or masks


def _masks(sources: list[Source], colours: bool = False) -> list[MaskValues]:
    """What each mask holds, with ``colours`` those of all; masks that cannot be read are left out.

    InputError where none can.
    """

    def values(item: tuple[Source, str]) -> MaskValues | InputError:
        source, name = item
        try:
            label = source.label(name, colours=colours)
        except InputError as error:
            return error
        coloured = label.ndim == 3
        label = packed_colours(label) if coloured else label
        squares = (label[:-1, :-1] == label[1:, 1:]) & (label[:-1, :-1] == label[1:, :-1])
        squares &= label[:-1, :-1] == label[:-1, 1:]
        found = np.unique(label), np.unique(label[:-1, :-1][squares])
        return MaskValues(*(one.astype(np.int64) if coloured else _whole(one) for one in found), coloured)

    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(values, [(source, name) for source in sources for name in source.names]))
    errors = [one for one in found if isinstance(one, InputError)]
    if errors and len(errors) == len(found):
        raise errors[0]
    return [one for one in found if not isinstance(one, InputError)]


def _whole(values: np.ndarray) -> np.ndarray:
    return values[(values >= 0) & (values < 2**16) & (values == np.floor(values))].astype(np.int64)
