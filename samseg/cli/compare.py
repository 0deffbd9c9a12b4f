"""Train encoders and methods on your data under one budget, and say which is best, how surely, and at what cost."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from samseg.cli.options import add_cluster, add_settings, shard

EPILOG = """\
examples:
  samseg compare my.yaml --encoders sam-vit_b dinov3-vit_s resnet34 --methods frozen lora free --budget 30m
  samseg compare my.yaml train.lr=0.001 --encoders sam-vit_t resnet18 --methods free --budget 5e --repeats 3
  samseg compare my.yaml --encoders sam-vit_b sam-vit_b:medsam.pth --methods frozen --budget 10m --fractions 0.1 0.3 1

Methods: frozen (through the feature cache where the data allow it), free, and the adapters: lora, conv_lora, adapter,
sam_adapter. An encoder is any that model.encoder takes; its weights are those published for it, or none where the
configuration has model.weights=null, or those named behind a colon. A method that an encoder does not take is left
out, with a word. All runs have the same data, splits and budget: 30m are minutes of training and validation, the
learning rate at zero by then; 5e are epochs. With --fractions give minutes, as an epoch of a tenth of the images is a
tenth of the steps.

Each run is an ordinary one in its own folder under --out. What is finished is not done again, and what was stopped
goes on: the same command, also with more encoders, methods, fractions or repeats. compare.html and compare.csv have
validation scores with confidence intervals, paired differences to the best, and what each costs; the test split is
looked at for the best alone. Runs that share a machine slow each other down: spread them over machines of one kind.
Exit codes: 0 all done, 1 some runs failed and were left out, 2 bad input, before anything is trained.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a YAML file or the name of a shipped configuration")
    add_settings(parser)
    parser.add_argument("--encoders", metavar="ENCODER[:WEIGHTS]", nargs="+", required=True, help="as in model.encoder")
    parser.add_argument("--methods", metavar="METHOD", nargs="+", default=["frozen"], help="default: frozen")
    parser.add_argument("--budget", required=True, help="of each run: minutes (30m) or epochs (5e)")
    parser.add_argument(
        "--fractions", metavar="F", nargs="+", type=float, default=[1.0],
        help="of the training images, the same for all, each a part of the larger ones: for the curve over them",
    )  # fmt: skip
    parser.add_argument(
        "--repeats", metavar="N", type=int, default=1, help="runs of each, with other seeds and fractions (1)"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="default: runs/CONFIG-compare")
    parser.add_argument("--shard", type=shard, metavar="I/N", help="train the I-th of N shares of the runs only")
    add_cluster(parser, "one process a run; all machines see the same folders")


def run(args: Namespace) -> int:
    from samseg.cli.train import prepare_sample
    from samseg.common.errors import InputError
    from samseg.compare.plan import plan
    from samseg.compare.run import compare
    from samseg.runs.config.shipped import find_config

    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("each run of a comparison has one process: start it without a launcher, spread it by --shard")
    if args.engine and args.shard:
        raise InputError("--engine ray divides the work itself; leave out --shard")
    source = find_config(args.config)
    out = args.out or Path("runs") / f"{source.stem}-compare"
    asked = dict(budget=args.budget, fractions=args.fractions, repeats=args.repeats)
    planned = plan(source, args.overrides, args.encoders, args.methods, out=out, **asked)
    prepare_sample(Path(planned.trials[0].config.data.root))
    how = {}
    if args.engine:
        from samseg.compare.engine_ray import on_ray

        how["engine"] = on_ray(args.address, args.gpus_per_worker)
    return 1 if compare(planned, out, args.shard, **how) else 0
