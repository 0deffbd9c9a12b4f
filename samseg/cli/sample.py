"""Write generated aerial scenes: images and masks to try everything on."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

EPILOG = """\
examples:
  samseg sample                                              data/sample, where the shipped configurations look
  samseg sample scenes --train 100 --size 1024 --seed 1      others, larger

Masks hold 0 background, 1 road, 2 building, 3 tree. A scene depends on the seed, the split, its number and the size.
"""


def add_arguments(parser: ArgumentParser) -> None:
    default = "default: %(default)s"
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, default=Path("data/sample"), help=default)
    for split, scenes in (("train", 32), ("val", 8), ("test", 8)):
        parser.add_argument(f"--{split}", metavar="N", type=int, default=scenes, help=f"scenes in {split}; {default}")
    parser.add_argument("--size", metavar="PX", type=int, default=512, help=f"pixels a side; {default}")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help=f"another one gives other scenes; {default}")


def run(args: Namespace) -> None:
    from samseg.sample.write import write_sample

    write_sample(args.folder, train=args.train, val=args.val, test=args.test, size=args.size, seed=args.seed)
    print(f"{args.train + args.val + args.test} scenes in {args.folder}; next: samseg train quickstart")
