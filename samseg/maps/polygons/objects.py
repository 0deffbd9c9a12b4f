"""Objects found and objects there: precision, recall and F1 at IoU 0.5, as SpaceNet scores buildings."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyogrio
import pyproj
import shapely
from rasterio.transform import Affine

from samseg.data.config import DataConfig
from samseg.data.preprocess import valid_pixels
from samseg.data.sources import Source
from samseg.data.target import class_target
from samseg.maps.disk import written
from samseg.maps.parts.plan import Box
from samseg.maps.polygons.areas import labelled, traced

IOU = 0.5  # of a found and a true object that are one


class Found(NamedTuple):
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

    def __init__(self, source: Source, data: DataConfig):
        self._source, self._data, self._target = source, data, class_target(data, source)
        self._empty = {index for index, entry in enumerate(data.classes.values()) if _names_nothing(entry)}
        self._found: list[Found] = []
        self._counted = False

    def count(self, item: dict, classes: np.ndarray) -> None:
        """One image: an evaluation item of `SegmentationDataset`, and its predicted classes (H, W) uint8."""
        name = item["name"]
        objects = self._source.instances(name)
        if objects is None:
            return
        self._counted = True
        truth, valid = self._target(self._source, name), valid_pixels(item["image"], self._data)
        if valid is not None:
            classes, truth = np.where(valid, classes, 255), np.where(valid, truth, 255)
        for index in set(range(len(self._data.classes))) - self._empty:
            mine, there = np.where(classes == index, index, 255), np.where(truth == index, objects, 0)
            self._found += compared(mine, there, index, name)

    def compute(self) -> dict[str, Any] | None:
        """Precision, recall and F1 by class; None where nothing was counted."""
        names = list(self._data.classes)
        wanted = [name for index, name in enumerate(names) if index not in self._empty]
        return figures(self._found, wanted, names) if self._counted else None

    def table(self) -> str:
        """What `compute` gives, for people."""
        return table(self.compute() or {})

    def write(self, path: Path) -> bool:
        """Write the true, missed and false objects as a GeoPackage; False: none were counted, or they have no place on
        Earth."""
        return self._counted and _write(path, self._found, self._source, list(self._data.classes))


def compared(classes: np.ndarray, objects: np.ndarray, index: int, window: str) -> Iterator[Found]:
    """The areas of one class (h, w), 255 elsewhere, and the objects (h, w), 0 elsewhere: matched where IoU >= 0.5."""
    areas, count = labelled(classes.astype(np.uint8))
    numbers, objects = np.unique(objects, return_inverse=True)
    objects = objects.reshape(areas.shape).astype(np.int32)
    if numbers[0] != 0:
        objects += 1
    there = int(objects.max(initial=0))
    both = np.bincount(areas.ravel() * (there + 1) + objects.ravel(), minlength=(count + 1) * (there + 1))
    both = both.reshape(count + 1, there + 1)
    union = both.sum(1, keepdims=True) + both.sum(0, keepdims=True) - both
    iou = (both / np.maximum(union, 1))[1:, 1:]
    pairs: dict[int, int] = {}
    for area, one in sorted(np.argwhere(iou >= IOU).tolist(), key=lambda pair: -iou[tuple(pair)]):
        if area not in pairs and one not in pairs.values():
            pairs[area] = one
    box = Box(0, 0, *areas.shape)
    for area, polygon in enumerate(traced(areas, box)):
        matched = pairs.get(area)
        kind, value = ("false", 0.0) if matched is None else ("true", float(iou[area, matched]))
        yield Found(kind, index, value, polygon, window)
    missed = np.isin(objects, [one + 1 for one in range(there) if one not in pairs.values()])
    outlines, _ = labelled(np.where(missed, 0, 255).astype(np.uint8))
    polygons = defaultdict(list)
    for polygon, one in zip(traced(outlines, box), _first(outlines, objects)):
        polygons[one].append(polygon)
    for parts in polygons.values():
        yield Found("missed", index, 0.0, shapely.union_all(parts), window)


def figures(found: list[Found], names: list[str], classes: list[str]) -> dict[str, dict[str, float | None]]:
    """By class: how many are true, missed and false, precision, recall and F1 (None where there is nothing)."""
    result = {}
    for name in names:
        kinds = [one.kind for one in found if classes[one.index] == name]
        true, missed, false = (kinds.count(kind) for kind in ("true", "missed", "false"))
        result[name] = {
            "true": true, "missed": missed, "false": false,
            "precision": true / (true + false) if true + false else None,
            "recall": true / (true + missed) if true + missed else None,
            "f1": 2 * true / (2 * true + missed + false) if true + missed + false else None,
        }  # fmt: skip
    return result


def table(result: dict[str, dict[str, float | None]]) -> str:
    rows = [["objects at IoU 0.5", "precision", "recall", "F1", "true", "missed", "false"]]
    for name, row in result.items():
        scores = ["-" if row[key] is None else f"{row[key]:.3f}" for key in ("precision", "recall", "f1")]
        rows.append([name, *scores, *(str(row[key]) for key in ("true", "missed", "false"))])
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)


def _first(outlines: np.ndarray, objects: np.ndarray) -> list[int]:
    """The object that each outline is of, in the order of the outlines."""
    labels, at = np.unique(outlines, return_index=True)
    return [int(objects.ravel()[place]) for label, place in zip(labels, at) if label]


def _names_nothing(entry: Any) -> bool:
    return entry is None or isinstance(entry, list) and None in entry


def _write(path: Path, found: list[Found], source: Source, classes: list[str]) -> bool:
    """In the coordinates of the split's first map; False where no map has any."""
    crs = next((place.crs for name in source.names if (place := source.georeference(name)) and place.crs), None)
    if crs is None:
        return False
    polygons = []
    for one in found:
        place = source.georeference(one.window)
        transform, there = Affine(*place.transform), pyproj.Transformer.from_crs(place.crs, crs, always_xy=True)
        ground = shapely.transform(one.polygon, lambda x, y, t=transform: np.stack(t @ (x, y)), interleaved=False)
        if place.crs != crs:
            ground = shapely.transform(ground, lambda x, y, t=there: np.stack(t.transform(x, y)), interleaved=False)
        polygons.append(shapely.to_wkb(ground))
    content = pa.table(
        {
            "geometry": pa.array(polygons, pa.binary()),
            "kind": pa.array([one.kind for one in found], pa.string()),
            "class": pa.array([classes[one.index] for one in found], pa.string()),
            "iou": pa.array([one.iou for one in found], pa.float64()),
        }
    )
    with written(path) as temporary:
        temporary.unlink()
        pyogrio.write_arrow(
            content,
            temporary,
            layer=path.stem,
            driver="GPKG",
            geometry_name="geometry",
            geometry_type="Unknown",
            crs=crs,
        )
    return True
