"""Measure on this machine what the README claims: python tools/benchmark.py {table,encoder,cache,train}

The command `samseg benchmark`, from a clone.
"""

from samseg.cli.main import tool

if __name__ == "__main__":
    tool("benchmark")
