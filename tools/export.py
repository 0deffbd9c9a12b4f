"""Make one self-contained file of a trained run: python tools/export.py [RUN] --to FORMAT [--out PATH]

The command `samseg export`, from a clone.
"""

from samseg.cli.main import tool

if __name__ == "__main__":
    tool("export")
