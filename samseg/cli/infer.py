"""Classify every pixel of images and maps with a trained model."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from samseg.cli.options import add_cluster, add_device, add_objects, add_precision, add_tta, shard

EPILOG = """\
examples:
  samseg infer                                     the newest run under runs/, on its test images
  samseg infer runs/buildings photo.jpg scenes/    an image and a folder's images
  samseg infer runs/buildings scene.tif --tile     a large image at its own resolution
  samseg infer runs/buildings photo.jpg --tta      averaged over flips and turns
  samseg infer hub:user/buildings photo.jpg        a run that somebody has published
  samseg infer runs/cells slides/ --objects        each object by itself
  samseg infer runs/cells slides/ --to coco        objects for CVAT to correct
  samseg infer runs/buildings map.tif --out maps   a georeferenced raster of any size, in tiles
  samseg infer runs/buildings map.tif --out maps --polygons gpkg --min-area 10

Per photo: STEM.png (class indices, palette PNG), STEM_overlay.jpg (to look at, 4096 pixels a side at most) and, with
--probabilities, STEM.npy (classes x height x width, float32: np.load). legend.png says which colour is what.
With --objects: STEM.png holds the objects' numbers (16 bits; above 65535 objects STEM.tif, 32 bits), and
annotations.json all of them in COCO's format. The ways: components (connected areas of a class), prompts (SAM's masks
for points in the middle of these, which parts objects that touch), amg (SAM's automatic mask generator).
With --to, instead of all these: coco: annotations.json; yolo: data.yaml and labels/STEM.txt, outlines without holes and
scores; label-studio: tasks.json, brush strokes as predictions, and labeling_config.xml, the interface that shows them.
Per map (what has coordinates, control points or RPCs, or 268 million pixels or more): STEM.tif (class indices, 255
nodata, in the map's place), STEM_overlay.jpg and, with --probabilities, STEM_probabilities.tif (a band a class: uint8,
254 is 1 and 255 nodata; or float16 with NaN for nodata). With --polygons and --objects each polygon is an object
(components), with its number. Stopped at any moment, the same command goes on.
--precision auto is for photos without --engine: it might choose otherwise when a map goes on, or on another machine.
Exit code: 0 all done, 1 some images could not be read and were skipped, 2 bad arguments.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "paths", metavar="[RUN] INPUT", nargs="*", type=Path,
        help="a run folder, an exported .safetensors file or hub:USER/NAME (default: the newest run under runs/), then "
        "images or folders of images (default: the run's test split; folders inside folders are not searched)",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="where to write; default: RUN/predictions, of a run on the hub hub/USER/NAME/predictions",
    )
    parser.add_argument("--probabilities", nargs="?", const="uint8", choices=("uint8", "float16"),
                        help="write the probability of each class, too; of maps as uint8, the default, or float16, of "
                        "photos as float32")  # fmt: skip
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--tile", action="store_true", default=None, help="overlapping tiles at native resolution")
    way.add_argument("--whole", dest="tile", action="store_false", help="the whole image at the network's size")
    add_tta(parser)
    add_precision(parser)
    add_objects(parser, "objects instead of classes")
    parser.add_argument(
        "--to", choices=("coco", "yolo", "label-studio"),
        help="the objects of photos as annotations that a tool opens (coco: CVAT, too), to RUN/objects/TOOL; they are "
        "components, or those of --objects",
    )  # fmt: skip
    add_device(parser)
    maps = parser.add_argument_group("maps")
    maps.add_argument("--bands", type=_band_numbers, metavar="1,2,3", help="bands to use, from 1; default: the run's")
    maps.add_argument("--resolution", type=float, metavar="METRES", help="resample to this pixel size on the fly")
    place = maps.add_mutually_exclusive_group()
    place.add_argument("--area", type=Path, metavar="FILE", help="polygons outside of which all is nodata")
    place.add_argument(
        "--bounds", type=float, nargs=4, metavar=("LEFT", "BOTTOM", "RIGHT", "TOP"),
        help="the same, as a rectangle in the map's coordinates",
    )  # fmt: skip
    maps.add_argument(
        "--polygons", choices=("gpkg", "geojson", "fgb", "parquet"),
        help="write the connected areas of all classes but 'background' as polygons, too: class, square metres, mean "
        "probability",
    )  # fmt: skip
    maps.add_argument("--min-area", type=float, default=0, metavar="M2", help="leave out smaller polygons")
    maps.add_argument(
        "--simplify", type=float, default=0, metavar="METRES", help="let borders move so far, both sides alike"
    )
    maps.add_argument("--cog", action="store_true", help="write cloud-optimised GeoTIFFs")
    maps.add_argument("--skip-damaged", action="store_true", help="what cannot be read is nodata, not an error")
    maps.add_argument("--overwrite", action="store_true", help="replace earlier results")
    cluster = add_cluster(parser, "maps in parts, and photos; all machines see the same folders")
    cluster.add_argument("--workers", type=int, metavar="N", help="each with a model; default: as many as CPUs or GPUs")
    maps.add_argument(
        "--shard", type=shard, metavar="I/N", help="compute the I-th of N shares only; samseg merge makes the map"
    )


def run(args: Namespace) -> int:
    from samseg.common.errors import InputError
    from samseg.common.machine import keep_freed_memory
    from samseg.inference.each import check_stems
    from samseg.inference.inputs import maps_among, run_and_images
    from samseg.inference.photos import predict_images
    from samseg.inference.predictor import Predictor
    from samseg.runs.folder import OBJECTS, PREDICTIONS
    from samseg.runs.hub.pull import local_run, outputs_folder

    run, images = run_and_images(args.paths)
    photos, maps = maps_among(images)
    given = [name for name in MAP_OPTIONS if getattr(args, name)]
    if photos and given:
        raise InputError(f"--{given[0].replace('_', '-')} is for maps, and {photos[0]} has no place on Earth")
    if photos and args.probabilities == "float16":
        raise InputError(f"--probabilities float16 is for maps, and {photos[0]} has no place on Earth")
    if maps and args.tile is False:
        raise InputError(f"{maps[0]} is a map, which is seen in tiles; leave out --whole")
    if (args.min_area or args.simplify) and not args.polygons:
        raise InputError("--min-area and --simplify are for --polygons; name a format")
    if maps and args.objects not in (None, "auto", "components"):
        raise InputError(f"{maps[0]} is a map, whose objects are connected areas; leave out {args.objects}")
    if maps and args.objects is not None and not args.polygons:
        raise InputError(f"{maps[0]} is a map, whose objects are polygons; name a format, as in --polygons gpkg")
    if args.to and maps:
        raise InputError(
            f"{maps[0]} is a map, and --to is for photos; name a format of polygons, as in --polygons gpkg"
        )
    if args.to and args.objects is None:
        args.objects = "components"
    if args.objects is not None and args.probabilities and photos:
        given = "--to" if args.to else "--objects"
        raise InputError(
            f"--probabilities are of classes, and {given} gives objects of {photos[0]}; leave one of them out"
        )
    if args.engine and args.shard:
        raise InputError("--engine ray divides the work itself; leave out --shard")
    if args.engine and photos and args.objects is not None:
        given = "--to" if args.to else "--objects"
        raise InputError(f"--engine ray makes class maps of photos such as {photos[0]}; leave out {given}")
    folder, place = local_run(run), outputs_folder(run)
    keep_freed_memory()
    predictor = Predictor.from_run(folder, args.device, tile=args.tile, tta=args.tta, precision=args.precision)
    out, failed = args.out or place / (PREDICTIONS if args.objects is None else OBJECTS) / (args.to or ""), 0
    if maps and photos:
        check_stems([*photos, *maps], out, "_overlay.jpg")
    if maps or args.engine:
        from samseg.maps.options import MapOptions, PolygonOptions
        from samseg.maps.run import MapRun, infer_maps

        numbered = args.objects is not None
        polygons = PolygonOptions(args.polygons, args.min_area, args.simplify, numbered) if args.polygons else None
        given = {name: getattr(args, name) for name in OPTIONS}
        options = MapOptions(probabilities=args.probabilities, polygons=polygons, **given)
        if args.engine:
            from samseg.maps.engine_ray import infer_on_ray

            cluster = dict(address=args.address, workers=args.workers, gpus=args.gpus_per_worker, device=args.device)
            return 1 if infer_on_ray(MapRun(predictor, folder), maps, photos, out, options, **cluster) else 0
        failed += infer_maps(MapRun(predictor, folder), maps, out, options, args.shard)
    if photos and args.objects is not None:
        from samseg.inference.objects.files import ObjectFinder, annotate_images, find_in_images

        finder = ObjectFinder(predictor, None if args.objects == "auto" else args.objects)
        failed += annotate_images(finder, photos, out, args.to) if args.to else find_in_images(finder, photos, out)
    elif photos:
        failed += predict_images(predictor, photos, out, args.probabilities is not None)
    return 1 if failed else 0


OPTIONS = ("bands", "resolution", "area", "bounds", "cog", "skip_damaged", "overwrite")
MAP_OPTIONS = (*OPTIONS, "shard", "polygons", "min_area", "simplify")


def _band_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise ArgumentTypeError(f"numbers with commas between them, got {text!r}") from None
