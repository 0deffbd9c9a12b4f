"""Make one self-contained file of a trained run: python tools/export.py [RUN] --to FORMAT [--out PATH]"""

import argparse
from pathlib import Path

from samseg.cli.exit_codes import run

EPILOG = """\
formats:
  safetensors    model.safetensors: all weights and the configuration; samseg.load_run(FILE), Predictor.from_run(FILE)
  onnx           model.onnx: ONNX Runtime and others; needs pip install "samseg[export]"
  torch-export   model.pt2: torch.export.load(FILE).module()(images)
  smp            smp/: a folder for smp.from_pretrained(FOLDER), after import samseg

onnx and torch-export take normalised images (B, 3, S, S) of data.image_size and give logits (B, classes, S, S). Class
names, mean, std and size lie in every one of them.

examples:
  python tools/export.py --to onnx                                       the newest run under runs/
  python tools/export.py runs/buildings --to smp --out buildings-model
"""
FORMATS = ("safetensors", "onnx", "torch-export", "smp")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Write a run's best model as one file that needs nothing else.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "run", metavar="RUN", nargs="?", type=Path, help="a run folder; default: the newest under runs/"
    )
    parser.add_argument("--to", required=True, choices=FORMATS, help="see below")
    parser.add_argument("--out", metavar="PATH", type=Path, help="what to write; default: model.* or smp/ in RUN")
    args = parser.parse_args()

    from samseg.runs.export import export
    from samseg.runs.folder import newest_run

    print(f"written to {export(args.run or newest_run(), args.to, args.out)}")


if __name__ == "__main__":
    run(main)
