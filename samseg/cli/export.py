"""Write a run's best model as one file that needs nothing else."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from samseg.cli.options import add_run

EPILOG = """\
formats:
  safetensors    model.safetensors: all weights and the configuration; samseg.load_run(FILE), Predictor.from_run(FILE)
  onnx           model.onnx: ONNX Runtime and others; needs pip install "samseg-smp[export]"
  torch-export   model.pt2: torch.export.load(FILE).module()(images)
  smp            smp/: a folder for smp.from_pretrained(FOLDER), after import samseg
  sam            sam.pth, of task: promptable: segment-anything's checkpoint, for labelling tools and others
  sam2           sam2.pt, of task: promptable on SAM 2.1: sam2's checkpoint
  sam3           sam3.pt, of task: promptable on SAM 3: the tracker by the names of sam3's checkpoint
  transformers   transformers/, of task: promptable: from_pretrained(FOLDER) of SamModel, Sam2Model, Sam3TrackerModel

onnx and torch-export take normalised images (B, 3, S, S) of data.image_size and give logits (B, classes, S, S). Class
names, mean, std and size lie in every one of them.

examples:
  samseg export --to onnx                                       the newest run under runs/
  samseg export runs/buildings --to smp --out buildings-model
"""


def add_arguments(parser: ArgumentParser) -> None:
    from samseg.runs.export import FORMATS

    add_run(parser)
    parser.add_argument("--to", required=True, choices=FORMATS, help="see below")
    parser.add_argument("--out", metavar="PATH", type=Path, help="what to write; default: in RUN, named as below")


def run(args: Namespace) -> None:
    from samseg.runs.export import export
    from samseg.runs.folder import newest_run

    print(f"written to {export(args.run or newest_run(), args.to, args.out)}")
