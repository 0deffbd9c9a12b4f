"""The objects of maps, predicted and labelled, window by window: figures, and vectors of them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import shapely
from rasterio.transform import Affine

from samseg.data.classes import IGNORE_INDEX, names_nothing
from samseg.data.formats.vectors import projected
from samseg.data.preprocess import Preprocessing
from samseg.data.sources import Source
from samseg.maps.disk import written
from samseg.maps.parts.plan import Box
from samseg.maps.polygons.areas import labelled, traced
from samseg.maps.polygons.files import write_layer
from samseg.tasks.matching import Matches, partners


class ScoredObject(NamedTuple):
    """An object of a window, as it is drawn: ``kind`` is true (found and there), missed or false."""

    kind: str
    index: int
    iou: float
    polygon: shapely.Polygon
    window: str


class ObjectScores:
    """Counts what a network makes of the objects of a split, image by image, beside the task's own metrics.

    Connected areas of a class are compared with the objects of that class in pixels; what an image's border cuts is an
    object on either side. Where `Source.instances` tells no objects apart (labels are rasters) nothing is counted.
    """

    def __init__(self, source: Source, classes: dict[str, Any], preprocessing: Preprocessing):
        """``classes``: by name, as ``data.classes`` has them."""
        self._source, self._names, self._preprocessing = source, list(classes), preprocessing
        self._empty = {index for index, entry in enumerate(classes.values()) if names_nothing(entry)}
        self._found: list[ScoredObject] = []
        self._counted = False

    def count(self, item: dict, classes: np.ndarray | None) -> None:
        """One image: an evaluation item of `SegmentationDataset`, and its predicted classes (H, W) uint8, if any."""
        name = item["name"]
        objects = self._source.instances(name)
        if objects is None or classes is None:
            return
        self._counted = True
        truth, valid = item["classes"].numpy(), self._preprocessing.valid_pixels(item["image"])
        if valid is not None:
            classes = np.where(valid, classes, IGNORE_INDEX)
        for index in set(range(len(self._names))) - self._empty:
            mine, there = np.where(classes == index, index, IGNORE_INDEX), np.where(truth == index, objects, 0)
            self._found += compared(mine, there, index, name)

    def compute(self) -> dict[str, Any] | None:
        """The way, and `Matches.figures` by class; None where nothing was counted."""
        classes = {
            name: matches(one for one in self._found if one.index == index).figures()
            for index, name in enumerate(self._names)
            if index not in self._empty
        }
        return {"way": "components", "classes": classes} if self._counted else None

    def write(self, path: Path) -> bool:
        """Write the true, missed and false objects as a GeoPackage in the coordinates of the split's first map.

        False: none were counted, or they have no place on Earth.
        """
        places = {name: self._source.georeference(name) for name in self._source.names}
        crs = next((place.crs for place in places.values() if place and place.crs), None)
        if not self._counted or crs is None:
            return False
        polygons = []
        for one in self._found:
            place = places[one.window]
            transform = Affine(*place.transform)
            ground = shapely.transform(one.polygon, lambda x, y, t=transform: np.stack(t @ (x, y)), interleaved=False)
            polygons.append(shapely.to_wkb(projected(ground, place.crs, crs)))
        columns = {
            "geometry": pa.array(polygons, pa.binary()),
            "kind": pa.array([one.kind for one in self._found], pa.string()),
            "class": pa.array([self._names[one.index] for one in self._found], pa.string()),
            "iou": pa.array([one.iou for one in self._found], pa.float64()),
        }
        with written(path) as temporary:
            write_layer(temporary, path.stem, pa.table(columns), "GPKG", crs)
        return True


def compared(classes: np.ndarray, objects: np.ndarray, index: int, window: str) -> Iterator[ScoredObject]:
    """The areas of one class (h, w), 255 elsewhere, and the objects (h, w), 0 elsewhere, matched by `partners`."""
    areas, _ = labelled(classes.astype(np.uint8))
    pairs = partners(areas, objects)
    box = Box(0, 0, *areas.shape)
    for area, polygon in enumerate(traced(areas, box), start=1):
        kind, iou = ("true", pairs[area][1]) if area in pairs else ("false", 0.0)
        yield ScoredObject(kind, index, iou, polygon, window)
    missed = (objects != 0) & ~np.isin(objects, [one for one, _ in pairs.values()])
    outlines, _ = labelled(np.where(missed, 0, IGNORE_INDEX).astype(np.uint8))
    labels, first = np.unique(outlines, return_index=True)
    polygons = defaultdict(list)  # by object, which may be of several outlines
    for polygon, one in zip(traced(outlines, box), objects.ravel()[first[labels > 0]].tolist(), strict=True):
        polygons[one].append(polygon)
    for parts in polygons.values():
        yield ScoredObject("missed", index, 0.0, shapely.union_all(parts), window)


def matches(found: Iterable[ScoredObject]) -> Matches:
    """How many objects are true, false and missed, and the sum of their IoUs."""
    found = list(found)
    kinds = [one.kind for one in found]
    return Matches(*(kinds.count(kind) for kind in ("true", "false", "missed")), sum(one.iou for one in found))
