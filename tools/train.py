"""Train a segmentation model: python tools/train.py CONFIG [key=value ...]

The command `samseg train`, from a clone.
"""

from samseg.cli.main import tool

if __name__ == "__main__":
    tool("train")
