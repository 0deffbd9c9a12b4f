"""Publish a run on the Hugging Face hub, with a model card."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

EPILOG = """\
examples:
  samseg push runs/buildings user/buildings                        then, anywhere: samseg infer hub:user/buildings ...
  samseg push runs/buildings user/buildings --private --license cc-by-4.0

The best weights, the settings without the folders of this machine, figures and history are published; images of the
data and the state are not. SAM's own weights stay where they are: the card names them, and whoever uses the run fetches
them. A base from a file of this machine is published with the run, as nobody else has it.
Needs a token that may write: hf auth login, or HF_TOKEN.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    parser.add_argument("repository", metavar="USER/NAME", help="the repository; it is made if it is not there")
    parser.add_argument("--private", action="store_true", help="make it a private one")
    parser.add_argument("--license", metavar="ID", help="of what is published, by the hub's name, such as apache-2.0")


def run(args: Namespace) -> None:
    from samseg.runs.hub.push import push

    name = push(args.run, args.repository, args.private, args.license)
    print(f"published: {name.address}; next: samseg infer {name} photo.jpg")
