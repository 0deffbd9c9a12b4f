"""Rasters through a trained run: the parts, then the one map with its overlay and polygons."""

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import shapely
from rasterio.errors import RasterioError
from torch import Tensor
from tqdm import tqdm

from samseg.data.preprocess import normalised, padded
from samseg.data.raster import Raster, gdal
from samseg.data.vectors import Burner, read_vectors
from samseg.errors import InputError
from samseg.inference.predictor import Predictor
from samseg.maps.compute import compute_parts
from samseg.maps.network import tile_network
from samseg.maps.options import MapOptions, digest
from samseg.maps.parts import PartStore
from samseg.maps.plan import Box, MapPlan
from samseg.maps.products import Products
from samseg.maps.write import check_space
from samseg.predict.rows import AUTOCAST
from samseg.runs.folder import WEIGHTS

TILES_ON_GPU = 4  # predicted at a time


@dataclass
class MapRun:
    """A trained run, ready for rasters; ``path`` is its folder or exported file, whose weights name its results."""

    predictor: Predictor
    path: Path

    def __post_init__(self) -> None:
        weights = self.path if self.path.is_file() else self.path / WEIGHTS
        self.weights = hashlib.sha256(weights.read_bytes()).hexdigest()

    def store(self, path: Path, out: Path, options: MapOptions) -> PartStore:
        """Where the parts of a raster go, and what they are; nothing is written yet. InputError for what cannot be."""
        data = self.predictor.config.data
        with gdal(), self.raster(path, options) as raster:
            overlap = data.image_size // 4 if self.predictor.overlap is None else self.predictor.overlap
            plan = MapPlan.of(raster.shape, data.image_size, overlap, len(self.predictor.classes))
            about = {"raster": path.name, "run": str(self.path), "weights": self.weights[:16], **options.pixels()}
            layers = dict(confidence=options.polygons is not None, probabilities=options.probabilities)
            content = {
                **about,
                "run": asdict(data),
                "raster": raster.digest(),
                "weights": self.weights,
                "plan": [*plan.shape, plan.tiles.tile, plan.tiles.overlap],
            }
            return PartStore(
                out / f"{path.stem}.parts", plan, self.predictor.classes, digest(content), about | layers,
                raster.georeference, **layers,
            )  # fmt: skip

    def raster(self, path: Path, options: MapOptions) -> Raster:
        """The raster with as many bands as the network takes."""
        channels = len(self.predictor.config.data.mean)
        raster = Raster(path, options.bands, options.resolution, options.skip_damaged)
        if len(raster.bands) < channels or options.bands and len(raster.bands) > channels:
            found = f"{len(raster.bands)} band{'s' if len(raster.bands) > 1 else ''}"
            raster.close()
            raise InputError(f"{path}: the run takes {channels} bands and gets {found}; name them with --bands")
        raster.bands = raster.bands[:channels]
        return raster

    def compute(self, store: PartStore, path: Path, options: MapOptions, numbers: Iterable[int]) -> None:
        """Compute those of the parts ``numbers`` that are missing, with a progress bar."""
        numbers = list(numbers)
        predictor, data = self.predictor, self.predictor.config.data
        on_gpu = predictor.device.type == "cuda"
        autocast = (
            AUTOCAST[predictor.config.train.precision] if on_gpu else None
        )  # as trained; CPUs gain little from it
        store.prepare()
        missing = store.missing(numbers)
        check_space(store, store.folder, len(missing))
        computed = compute_parts(
            store,
            missing,
            partial(self.raster, path, options),
            partial(network_input, data=data),
            tile_network(predictor.model, predictor.device, autocast, options.tta),
            batch=TILES_ON_GPU if on_gpu else 1,
            within=wanted(path, options),
        )
        with tqdm(
            total=len(numbers), initial=len(numbers) - len(missing), desc=path.name, unit="part", disable=None
        ) as bar:
            for _ in computed:
                bar.update()


def infer_map(run: MapRun, path: Path, out: Path, options: MapOptions) -> None:
    """Write the class map of a raster, and what else ``options`` ask for, into the folder ``out``.

    What an earlier call left unfinished is gone on with; what it finished is left as it is. InputError for what cannot
    be read or written.
    """
    store = run.store(path, out, options)
    products = Products(store, path, out, options)
    if not options.overwrite and products.finished():
        store.remove()  # by a call that was stopped before it could
        print(f"{products.classes} is finished already; --overwrite makes it anew")
        return
    if options.overwrite and store.differs():
        store.remove()
    with _disk(out):
        run.compute(store, path, options, range(store.plan.parts))
        products.write()
    store.remove()


def infer_shard(run: MapRun, path: Path, out: Path, options: MapOptions, index: int, count: int) -> None:
    """Compute the ``index``-th of ``count`` shards of a raster's parts into ``out/<stem>.parts``."""
    store = run.store(path, out, options)
    with _disk(out):
        run.compute(store, path, options, store.plan.shard(index, count))


def wanted(path: Path, options: MapOptions) -> partial | None:
    """A function from a box to which of its pixels lie in the area or the bounds; None: all do."""
    if options.area is None and options.bounds is None:
        return None
    with gdal(), Raster(path, options.bands, options.resolution) as raster:
        place = raster.georeference
    if "transform" not in place:
        raise InputError(f"{path} has no geotransform, so no area can be cut out of it; leave out --area and --bounds")
    if options.bounds is not None:
        areas = np.array([shapely.box(*options.bounds)])
    else:
        areas = read_vectors(options.area, place.get("crs")).geometries
        areas = areas[shapely.get_dimensions(areas) == 2]
    burner = Burner(areas, np.ones(len(areas)), place["transform"])
    if not len(burner.touching(0, 0, *raster.shape)):
        raise InputError(f"{options.area or '--bounds'} does not touch {path}")
    return partial(_inside, burner)


def _inside(burner: Burner, box: Box) -> np.ndarray:
    return burner(*box) > 0


def network_input(pixels: np.ndarray, valid: np.ndarray, data) -> Tensor:
    """Bands (C, h, w) of a tile as the network's input (C, S, S) float32: what is not valid is 0, as padding is."""
    if pixels.dtype != np.uint8:
        raise InputError(f"the raster has pixels of {pixels.dtype}, and the run takes 8 bits")
    tensor = normalised(pixels.transpose(1, 2, 0), data.mean, data.std)
    tensor[:, ~valid] = 0
    return padded(tensor, data.image_size)


class _disk:
    """Errors of the disk and of GDAL while writing as one line."""

    def __init__(self, out: Path):
        self.out = out

    def __enter__(self) -> None:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {self.out} ({error.strerror}); name another with --out") from None

    def __exit__(self, kind, error, _) -> None:
        if isinstance(error, (OSError, RasterioError)):
            raise InputError(
                f"{self.out} cannot be written: {str(error.__cause__ or error).splitlines()[0]}"
            ) from error


def infer_maps(
    run: MapRun, paths: list[Path], out: Path, options: MapOptions, shard: tuple[int, int] | None = None
) -> int:
    """`infer_map` (or a shard) of each raster; returns how many could not be done: they are reported and left out.

    Raises InputError before anything is written for two rasters of one name, and for outputs among the inputs.
    """
    stems: dict[str, Path] = {}
    for path in paths:
        if path.stem in stems:
            raise InputError(
                f"{path} and {stems[path.stem]} would both be written to {out / path.stem}.tif; rename one, or "
                "give them to two calls with different --out"
            )
        if path.resolve().parent == out.resolve():
            raise InputError(f"{out} holds the input {path.name}, which could be overwritten; name another --out")
        stems[path.stem] = path
    failed = 0
    for path in paths:
        try:
            if shard is None:
                infer_map(run, path, out, options)
            else:
                infer_shard(run, path, out, options, *shard)
        except InputError as error:
            if len(paths) == 1:
                raise
            tqdm.write(f"skipped: {error}", file=sys.stderr)
            failed += 1
    return failed
