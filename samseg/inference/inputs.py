"""What the paths on a command line mean: a run, photos, and maps."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from samseg.common.errors import InputError
from samseg.data.config import split_images
from samseg.data.formats.images import SUFFIXES
from samseg.runs.folder import is_run, newest_run
from samseg.runs.hub.pull import hub_name
from samseg.runs.load import run_config_of

EXPORTED = ".safetensors"
MAP_SUFFIXES = (".vrt", ".jp2", ".j2k", ".img", ".bil", ".asc", ".nc", ".ecw", ".hgt")  # that GDAL alone reads
PLACE_TAGS = (33922, 34264, 34735)  # GeoTIFF's tie points, transform and keys


def run_and_images(paths: list[Path]) -> tuple[Path, list[Path]]:
    """What the command line means: the run (the newest if ``paths`` does not begin with one) and the images.

    The first path is the run if it holds a config.yaml, is an exported .safetensors file, or names a run on the hub
    (hub:USER/NAME, which is returned as it is). The images are files, or those of folders (not of folders inside them),
    each once; without any, the run's test split. Raises InputError for a path that is neither.
    """
    named = bool(paths) and (hub_name(paths[0]) is not None or is_run(paths[0]) or paths[0].suffix == EXPORTED)
    inputs = paths[1:] if named else paths
    images = images_of(inputs)
    run = paths[0] if named else newest_run()
    if not inputs:
        try:
            images = split_images(run_config_of(run).data, "test")
        except InputError as error:
            raise InputError(f"the test images of {run} are not there ({error}); name images or a folder") from error
    return run, images


def images_of(inputs: Iterable[Path]) -> list[Path]:
    """The images that paths of files and folders name, each once; InputError for a path that is neither."""
    images: dict[Path, Path] = {}
    for path in inputs:
        if not path.exists():
            raise InputError(f"no such image, folder or run: {path}")
        if is_run(path):
            raise InputError(f"{path} is a run; give one run, before the images")
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.is_file() and _is_image(file))
        elif not path.is_file():
            raise InputError(f"{path} is neither a file nor a folder")
        elif _is_image(path):
            found = [path]
        else:
            raise InputError(f"{path} is not an image ({', '.join(SUFFIXES + MAP_SUFFIXES)})")
        if not found:
            raise InputError(f"{path} holds no images ({', '.join(SUFFIXES)}), and no config.yaml as a run does")
        images |= {image.resolve(): image for image in found}
    return list(images.values())


def maps_among(images: list[Path]) -> tuple[list[Path], list[Path]]:
    """(photos, maps) of image files; maps have a place on Earth, or more pixels than are read whole.

    InputError, naming the extra, for a map where what reads it is not installed.
    """
    try:
        from samseg.data.formats.georaster import is_map
    except InputError as error:
        for path in images:
            if path.suffix.lower() in MAP_SUFFIXES or _has_place(path):
                raise InputError(f"{path} is a map: {error}") from None
        return images, []
    maps = [path for path in images if path.suffix.lower() in MAP_SUFFIXES or is_map(path)]
    return [path for path in images if path not in maps], maps


def _has_place(path: Path) -> bool:
    try:
        with Image.open(path, formats=("TIFF",)) as image:
            return any(tag in image.tag_v2 for tag in PLACE_TAGS)
    except (OSError, SyntaxError):
        return False


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES + MAP_SUFFIXES) and not path.name.startswith(".")
