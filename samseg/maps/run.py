"""Classify rasters by a trained run: the parts, then the outputs."""

import hashlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from samseg.common.errors import InputError
from samseg.common.files import WriteError, file_digest
from samseg.common.machine import return_freed_memory
from samseg.data.formats.georaster import RasterFile, gdal
from samseg.data.preprocess import Preprocessing
from samseg.inference.each import output_folder
from samseg.inference.predictor import Predictor
from samseg.maps.checks import check_inputs, check_resolution, check_values, share_of_data
from samseg.maps.disk import bytes_wanted, check_space, disk_errors_named
from samseg.maps.options import MapOptions
from samseg.maps.parts.compute import compute_parts
from samseg.maps.parts.plan import MapPlan
from samseg.maps.parts.store import PartStore
from samseg.maps.polygons.files import Place
from samseg.maps.products import Products
from samseg.predict.rows import network_on
from samseg.runs.folder import WEIGHTS

TILES_ON_GPU = 4  # predicted at a time


@dataclass
class MapRun:
    """A trained run, ready for rasters; ``path`` is its folder or exported file, whose weights name its results."""

    predictor: Predictor
    path: Path

    def __post_init__(self) -> None:
        if self.predictor.precision == "auto":
            raise InputError(
                "precision=auto may choose otherwise when a stopped map goes on, or on another machine, so maps and "
                "--engine ray do not take it; name bf16 or fp32"
            )
        self.weights = file_digest(self.path if self.path.is_file() else self.path / WEIGHTS)

    def store(self, path: Path, out: Path, options: MapOptions) -> PartStore:
        """The store of a raster's parts; nothing is written yet. InputError for what cannot be."""
        size = self.predictor.preprocessing.size
        with gdal(), self.raster(path, options) as raster:
            preprocessing = self.preprocessing(raster)
            check_values(raster, preprocessing)
            check_resolution(raster, self.predictor.config.data)
            overlap = size // 4 if self.predictor.overlap is None else self.predictor.overlap
            plan = MapPlan.of(raster.shape, size, overlap, len(self.predictor.classes))
            pixels = options.pixels() | {"tta": self.predictor.tta}
            if self.predictor.precision == "bf16":  # any other is how results were always made, and keeps their digest
                pixels["precision"] = "bf16"
            about = {"raster": str(path), "run": str(self.path), "weights": self.weights[:16], **pixels}
            layers = dict(confidence=options.polygons is not None, probabilities=options.probabilities)
            made_of = {
                "options": pixels,
                "preprocessing": asdict(preprocessing),
                "raster": raster.digest(),
                "bands": raster.bands,
                "weights": self.weights,
                "plan": [*plan.shape, plan.tiles.tile, plan.tiles.overlap],
            }
            place = raster.georeference
        digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
        folder, classes, outputs = out / f"{path.stem}.parts", self.predictor.classes, options.outputs()
        return PartStore(folder, plan, classes, digest, about | layers, place, outputs=outputs, **layers)

    def raster(self, path: Path, options: MapOptions) -> RasterFile:
        """The raster with the bands that the network is given: the options', or the run's."""
        preprocessing = self.predictor.preprocessing
        raster = RasterFile(path, options.bands, options.resolution, options.skip_damaged)
        try:
            if options.bands is None:
                chosen = preprocessing.chosen_bands(len(raster.colour_bands), path)
                raster.bands = [raster.colour_bands[band] for band in dict.fromkeys(chosen)]
            elif len(options.bands) != preprocessing.channels:
                raise InputError(
                    f"the run takes {preprocessing.channels} bands, and --bands names {len(options.bands)}"
                )
        except InputError:
            raster.close()
            raise
        return raster

    def preprocessing(self, raster: RasterFile) -> Preprocessing:
        """The run's, for a raster of which only the bands that are used are read, in their order."""
        preprocessing = self.predictor.preprocessing
        if len(raster.bands) != preprocessing.channels:
            return preprocessing  # one band, taken thrice
        return replace(preprocessing, bands=list(range(1, preprocessing.channels + 1)))

    def compute(self, store: PartStore, path: Path, options: MapOptions, numbers: Sequence[int]) -> None:
        """Compute those of the parts ``numbers`` that are missing, with a progress bar."""
        predictor = self.predictor
        within = options.wanted(path)
        with self.raster(path, options) as raster:
            view = partial(self.preprocessing(raster).tile_input, name=path)
            filled = share_of_data(raster, within)
        missing = store.missing(numbers)
        half = options.probabilities == "float16"
        space = bytes_wanted(store.plan, store.bands, len(store.classes), len(missing), filled, options.cog, half)
        check_space(store.folder.parent, space, math.prod(store.plan.shape))
        store.prepare()
        computed = compute_parts(
            store,
            missing,
            partial(self.raster, path, options),
            view,
            network_on(predictor.device, predictor.model, store.plan.tiles.inside, predictor.autocast, predictor.tta),
            batch=TILES_ON_GPU if predictor.device.type == "cuda" else 1,
            within=within,
        )
        done = len(numbers) - len(missing)
        with tqdm(total=len(numbers), initial=done, desc=path.name, unit="part", disable=None) as bar:
            for _ in computed:
                bar.update()
                return_freed_memory()  # or gaps in it grow with the map


@contextmanager
def locked_products(
    run: MapRun, path: Path, out: Path, options: MapOptions
) -> Iterator[tuple[PartStore, Products] | None]:
    """What is to be computed of a raster and made of it; None, with a word, where it is finished already.

    For the block no other process begins it. InputError for what cannot be read, for an output of something else that
    may not be overwritten, and for one that another process is at.
    """
    store = run.store(path, out, options)
    if options.polygons is not None:
        Place(store.place, path)  # before hours of computing
    products = Products(store, out, options)
    if not options.overwrite and products.finished():
        store.remove()  # by a call that was stopped before it could
        print(f"{products.classes} is finished already; --overwrite makes it anew")
        yield None
        return
    output_folder(out)
    with products.lock():
        if options.overwrite:
            store.clear()
        yield store, products


def infer_map(run: MapRun, path: Path, out: Path, options: MapOptions) -> None:
    """Write the class map of a raster, and what else ``options`` ask for, into the folder ``out``.

    What an earlier call left unfinished is gone on with; what it finished is left as it is. InputError for what cannot
    be read or written.
    """
    with locked_products(run, path, out, options) as found:
        if found is None:
            return
        store, products = found
        with disk_errors_named(out):
            run.compute(store, path, options, range(store.plan.parts))
            products.write()
            store.remove()


def infer_shard(run: MapRun, path: Path, out: Path, options: MapOptions, index: int, count: int) -> None:
    """Compute the ``index``-th of ``count`` shards of a raster's parts into ``out/<stem>.parts``."""
    store = run.store(path, out, options)
    numbers = store.plan.shard(index, count)
    if options.overwrite:
        store.clear()
    with disk_errors_named(out):
        run.compute(store, path, options, numbers)
    print(f"{len(numbers)} of {store.plan.parts} parts in {store.folder}; samseg merge {store.folder} makes the map")


def infer_maps(
    run: MapRun, paths: list[Path], out: Path, options: MapOptions, shard: tuple[int, int] | None = None
) -> int:
    """`infer_map` (or a shard) of each raster; returns how many could not be done: they are reported and left out.

    Raises InputError before anything is written for two rasters of one name, for outputs that would lie among the
    inputs, and for rasters that differ in their bands.
    """
    check_inputs(paths, out, options)
    failed = 0
    for path in paths:
        try:
            if shard is None:
                infer_map(run, path, out, options)
            else:
                infer_shard(run, path, out, options, *shard)
        except InputError as error:
            if len(paths) == 1 or isinstance(error, WriteError):  # what one cannot have the others will not have
                raise
            tqdm.write(f"skipped: {error}", file=sys.stderr)
            failed += 1
    return failed
