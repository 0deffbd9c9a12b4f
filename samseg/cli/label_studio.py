"""Answer Label Studio: a run pre-annotates its tasks, SAM answers clicks and boxes."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from samseg.cli.options import add_device, add_objects

EPILOG = """\
examples:
  samseg label-studio runs/cells                            predictions of a run; clicks where it trained SAM's decoder
  samseg label-studio runs/cells --sam sam-vit_b            and clicks, by SAM itself
  samseg label-studio --sam sam_vit_l_0b3195.pth            clicks alone
  samseg label-studio runs/cells --root /data/slides        images from a folder of this machine
  samseg label-studio runs/cells --host 0.0.0.0 --token X   for a Label Studio on another machine

It prints an address, which shows the steps and a labelling interface in a browser: in the project's Settings > Model,
"Connect Model" to it. Images come from --root, else from the Label Studio that asks, by its own access token, or by
that in LABEL_STUDIO_API_KEY (a personal access token) where it has turned its own kind off, as new ones have. Whatever
is refused is said here, too.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="RUN", nargs="?", help="a run folder, an exported .safetensors file or hub:USER/NAME"
    )
    parser.add_argument(
        "--sam", metavar="SAM", help="answer clicks with this SAM: a variant such as sam-vit_b, or a file"
    )
    add_objects(parser, "how the run finds objects")
    parser.add_argument("--root", metavar="DIR", type=Path, help="a folder of the images")
    parser.add_argument("--server", metavar="URL", help="where Label Studio is; default: where it says that it is")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets in whoever has the token")
    parser.add_argument("--port", type=int, default=9090)
    parser.add_argument("--token", help="the password (of any user) that Label Studio gives")
    add_device(parser)


def run(args: Namespace) -> None:
    import os

    from samseg.labelling.build import backend, steps
    from samseg.labelling.server import Server

    way = None if args.objects == "auto" else args.objects
    built = backend(
        args.run, args.sam, args.device, way, args.root, args.server, os.environ.get("LABEL_STUDIO_API_KEY")
    )
    with Server(built, args.host, args.port, args.token, steps(built)) as server:
        print(f"connect Label Studio to {server.url}, which shows the steps in a browser (Ctrl-C ends it)", flush=True)
        server.serve_forever()
