"""List the encoders' published weights, and fetch them or put a downloaded file in place."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

EPILOG = """\
examples:
  samseg weights                                      every encoder: who publishes it, under which licence, is it here
  samseg weights sam-vit_b                            fetch it from the first source that gives it
  samseg weights sam-vit_b --whole                    with SAM's prompt encoder and mask decoder
  samseg weights --from ~/Downloads/sam_vit_b_01ec64.pth

Training and prediction fetch what they need by themselves. A download that breaks off goes on with the same command.
A machine without a network is served by copying the folder that `samseg weights` names.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("encoder", metavar="ENCODER", nargs="?", help="such as sam-vit_b; default: list them all")
    parser.add_argument("--whole", action="store_true", help="with SAM's prompt encoder and mask decoder")
    parser.add_argument("--weights", metavar="NAME", default="pretrained", help="which set of them; default: the first")
    parser.add_argument("--from", metavar="FILE", dest="file", type=Path, help="put this file in place, say what it is")


def run(args: Namespace) -> None:
    from samseg.encoders.fetch import fetch, known_variant, put, weights_table

    if args.encoder is not None:
        known_variant(args.encoder)
    if args.file is not None:
        print(put(args.file, args.encoder, args.weights))
    elif args.encoder is not None:
        print(f"{args.encoder}: {fetch(args.encoder, args.whole, weights=args.weights)}")
    else:
        print(weights_table())
