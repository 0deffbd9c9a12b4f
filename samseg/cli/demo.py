"""Open a page to try runs and SAM on, in the browser of this machine."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from samseg.cli.options import add_device

EPILOG = """\
examples:
  samseg demo                                the newest run under runs/
  samseg demo runs/frozen runs/lora          two runs side by side, and where they differ
  samseg demo --weights sam-vit_b            click on objects with SAM itself
  samseg demo runs/cells --weights sam.pth   both

Only this machine can open the page, unless --host says otherwise. Images that are uploaded are deleted once they are
read, results after half an hour. Needs pip install "samseg-smp[demo]".
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "runs", metavar="RUN", nargs="*", type=Path, help="run folders or hub:USER/NAME; default: the newest of runs/"
    )
    parser.add_argument("--weights", metavar="SAM", help="click with this SAM: a variant such as sam-vit_b, or a file")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets everybody in who reaches this machine")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860")
    add_device(parser)


def run(args: Namespace) -> None:
    import threading

    from samseg.demo.serve import LOOPBACK, serving

    with serving(args.runs, args.weights, host=args.host, port=args.port, device=args.device) as address:
        if args.host != LOOPBACK:
            print("WARNING: everybody who reaches this machine can use the page; there is no password")
        print(f"open {address} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()  # until Ctrl-C
