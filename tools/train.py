"""Train a segmentation model: python tools/train.py CONFIG [key=value ...]"""

import argparse
from pathlib import Path

from samseg.cli.exit_codes import run
from samseg.config.load import load_config
from samseg.data.config import DataConfig

EPILOG = """\
examples:
  python tools/train.py configs/buildings.yaml
  python tools/train.py configs/buildings.yaml data.root=/my/images train.epochs=20 model.encoder=resnet34
  python tools/train.py configs/buildings.yaml train.resume=true      go on after a stop
  accelerate launch tools/train.py configs/buildings.yaml             on several GPUs; torchrun does, too

Exit codes: 0 done; 2 bad input, in one line; 130 stopped by Ctrl-C; 143 stopped by SIGTERM, the state saved at that
step. After the latter two, and after any kill, train.resume=true goes on.
All keys and their defaults: samseg/config.py. The run is written to run_dir, by default runs/CONFIG's name.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Train a segmentation model.", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, see configs/")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="settings that go before the file's")
    args = parser.parse_args()
    config = load_config(args.config, args.overrides)

    from samseg.training.processes import processes  # what takes seconds to import comes once the arguments proved good
    from samseg.training.run import train

    with processes().main_process_first():
        prepare_sample(Path(config.data.root))
    train(config, name=Path(args.config).stem)


def prepare_sample(root: Path) -> None:
    """Generate the sample scenes where the default data.root holds nothing yet."""
    if str(root) != DataConfig().root or (root.is_dir() and any(root.iterdir())):
        return
    from samseg.sample.write import write_sample

    print(f"generating sample scenes in {root}")
    write_sample(root)


if __name__ == "__main__":
    run(main)
