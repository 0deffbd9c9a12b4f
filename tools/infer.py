"""Classify images with a trained run: python tools/infer.py [RUN] [INPUT ...] [--out DIR]

The command `samseg infer`, from a clone.
"""

from samseg.cli.main import tool

if __name__ == "__main__":
    tool("infer")
