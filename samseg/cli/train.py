"""Train a segmentation model."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from samseg.cli.options import add_settings

EPILOG = """\
examples:
  samseg train buildings                             a shipped configuration; samseg config lists them
  samseg train my.yaml data.root=/my/images train.epochs=20 model.encoder=resnet34
  samseg train my.yaml --dry-run                     check everything, try two steps, write samples.png, and no run
  samseg train my.yaml train.resume=true             go on after a stop
  samseg train hub:user/buildings data.root=my/data  anew, with the settings of a published run
  accelerate launch -m samseg train my.yaml          on several GPUs; torchrun does, too

Exit codes: 0 done; 2 bad input, in one line; 130 stopped by Ctrl-C; 143 stopped by SIGTERM, the state saved at that
step (a launcher's own code is 1 then). After the latter two, and after any kill, train.resume=true goes on.
All keys and their defaults: samseg config --keys. The run is written to run_dir, by default runs/CONFIG's name.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "config", metavar="CONFIG", help="a YAML file, the name of a shipped configuration, or hub:USER/NAME"
    )
    add_settings(parser)
    parser.add_argument(
        "--dry-run", action="store_true",
        help="check everything, draw training samples with their truth into ./samples.png, try two steps, say what "
        "time and memory an epoch takes, and stop: no run is written",
    )  # fmt: skip


def run(args: Namespace) -> None:
    from samseg.runs.config.load import load_config
    from samseg.runs.config.shipped import find_config
    from samseg.runs.hub.pull import hub_name
    from samseg.runs.load import run_config_of

    published = hub_name(args.config)
    if published is not None:
        name, config = published.name, run_config_of(args.config, args.overrides)
    else:
        path = find_config(args.config)
        name, config = path.stem, load_config(path, args.overrides)

    from samseg.data.workers import expect_workers

    expect_workers(config.train.workers)

    from samseg.training.processes import prepare_process, processes
    from samseg.training.rehearsal import rehearse
    from samseg.training.run import train

    prepare_process()
    main = processes().is_main_process
    with processes().main_process_first():
        prepare_sample(Path(config.data.root))
    if args.dry_run:
        rehearse(config, name=name)
        if main:
            print("no run was written; next: the same command without --dry-run")
        return
    folder = train(config, name=name)
    if main:
        print(f"next: samseg evaluate {folder}, samseg infer {folder} IMAGE ...")


def prepare_sample(root: Path) -> None:
    """Generate the sample scenes where the default data.root holds nothing yet."""
    from samseg.data.config import DataConfig
    from samseg.sample.write import write_sample

    if str(root) != DataConfig().root or (root.is_dir() and any(root.iterdir())):
        return
    print(f"generating sample scenes in {root}")
    write_sample(root)
