"""Train a segmentation model, from a clone: the command `samseg train`."""

import sys

from samseg.cli.main import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
