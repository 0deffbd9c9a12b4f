"""Measure a trained run on a split: python tools/evaluate.py [RUN] [split]

The command `samseg evaluate`, from a clone.
"""

from samseg.cli.main import tool

if __name__ == "__main__":
    tool("evaluate")
