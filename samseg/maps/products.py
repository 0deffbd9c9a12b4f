"""The outputs made of a raster's parts: the map, probabilities, polygons, an overlay to look at."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from samseg.common.errors import InputError
from samseg.common.files import sweep
from samseg.data.formats.georaster import RasterFile, gdal
from samseg.data.raster import Raster, as_picture
from samseg.maps.disk import disk_errors_named, written
from samseg.maps.options import OVERLAY_PX, MapOptions
from samseg.maps.parts.store import PartStore
from samseg.maps.polygons.areas import areas
from samseg.maps.polygons.files import Place, write_polygons
from samseg.maps.write import made_of, write_classes, write_probabilities
from samseg.predict.draw import background_of, legend, overlay, save_picture
from samseg.runs.lock import locked


@dataclass
class Products:
    """The outputs of one raster in the folder ``out``."""

    store: PartStore
    out: Path
    options: MapOptions

    @property
    def classes(self) -> Path:
        return self._file(".tif")

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes from making them: two would delete each other's files. Shards may be computed."""
        return locked(self.out / f".{self.store.folder.stem}.lock", self.classes, "--out")

    def finished(self) -> bool:
        """Whether all outputs are there; InputError when they are another's, or were made with less."""
        if not self.classes.exists():
            return False
        digest, outputs = made_of(self.classes)
        if digest != self.store.digest:
            raise InputError(
                f"{self.classes} exists and was made of another raster, run or options; name another --out, or replace "
                "it with --overwrite"
            )
        asked = self.options.outputs()
        lacking = [file for key, file in self._files().items() if not file.exists() or asked[key] != outputs.get(key)]
        if lacking and not self.store.folder.is_dir():
            raise InputError(
                f"{self.classes} is finished, without {lacking[0].name} as it is asked for; --overwrite makes both"
            )
        return not lacking

    def write(self) -> None:
        """Write all outputs, the map last: where it is, the others are. They are locked meanwhile."""
        missing = self.store.missing(range(self.store.plan.parts))
        if missing:
            raise InputError(
                f"{self.store.folder} lacks {len(missing)} of {self.store.plan.parts} parts, such as "
                f"{self.store.file(missing[0]).name}: run the shards that were not finished"
            )
        for file in (self.classes, self._overlaid, *self._files().values()):
            sweep(file)
        with gdal():
            if self.options.probabilities:
                with written(self._file("_probabilities.tif")) as temporary:
                    write_probabilities(self.store, temporary, self.options.cog)
            with written(self.classes) as temporary:
                write_classes(self.store, temporary, self.options.cog)
                if self.options.polygons is not None:
                    self._polygons()
                self._overlay(temporary)
        self._tell()

    def _tell(self) -> None:
        damaged, empty = self.store.damaged(), not self.store.holds_data()
        if damaged:
            print(f"{damaged} blocks of {self.store.about['raster']} could not be read and are nodata")
        if empty:
            print(f"{self.classes} is done, and nothing but nodata")
        else:
            print(f"{self.classes} is done; open {self._overlaid} (legend.png says which colour is what)")

    def _polygons(self) -> None:
        place = Place(self.store.place, self.store.about["raster"])
        found = areas(self.store, background_of(self.store.classes))
        file = self._file(f".{self.options.polygons.suffix}")
        count = write_polygons(file, found, self.store.classes, place, self.options.polygons)
        print(f"{count} polygons in {file}")

    @property
    def _overlaid(self) -> Path:
        return self._file("_overlay.jpg")

    def _overlay(self, classes: Path) -> None:
        try:
            with RasterFile(self.store.about["raster"], self.options.bands, self.options.resolution) as raster:
                pixels, valid = raster.small(OVERLAY_PX)
        except InputError:
            return  # parts that were computed elsewhere, of a raster that is not here
        with RasterFile(classes) as raster:
            found = raster.small(OVERLAY_PX)[0][0]
        picture = as_picture(Raster(pixels, valid))
        picture[~valid] = 255
        save_picture(self._overlaid, overlay(picture, found, background_of(self.store.classes)))
        save_picture(self.out / "legend.png", legend(self.store.classes))

    def _files(self) -> dict[str, Path]:
        """What is asked for beside the map, by the name of its option."""
        files = {"probabilities": self._file("_probabilities.tif")} if self.options.probabilities else {}
        polygons = self.options.polygons
        return files | ({"polygons": self._file(f".{polygons.suffix}")} if polygons else {})

    def _file(self, ending: str) -> Path:
        return self.out / (self.store.folder.stem + ending)


def merge(folder: Path, cog: bool = False, overwrite: bool = False) -> None:
    """Make what the shards in ``folder`` (STEM.parts) were asked for, beside it, and remove the parts.

    InputError for a folder that holds no parts or not all of them, and for a map of another result that is there.
    """
    store = PartStore.opened(folder)
    products = Products(store, folder.parent, MapOptions.from_outputs(store.outputs, cog=cog, overwrite=overwrite))
    with products.lock(), disk_errors_named(folder.parent):
        if overwrite or not products.finished():
            products.write()
        store.remove()
