"""Make one map of the parts that shards have computed."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

EPILOG = """\
examples:
  samseg infer runs/buildings map.tif --out maps --shard 1/3     on one machine
  samseg infer runs/buildings map.tif --out maps --shard 2/3     on another, the same --out; and 3/3
  samseg merge maps/map.parts                                    maps/map.tif, as one machine would have made it

What the shards were asked for (--probabilities, --polygons ...) is made. The parts are removed at the end.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("parts", metavar="STEM.parts", nargs="+", type=Path, help="folders that shards have filled")
    parser.add_argument("--cog", action="store_true", help="write cloud-optimised GeoTIFFs")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results")


def run(args: Namespace) -> int:
    from samseg.maps.products import merge

    for folder in args.parts:
        merge(folder, args.cog, args.overwrite)
    return 0
