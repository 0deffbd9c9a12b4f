"""Classify images with a trained run, from a clone: the command `samseg infer`."""

import sys

from samseg.cli.main import main

if __name__ == "__main__":
    main(["infer", *sys.argv[1:]])
