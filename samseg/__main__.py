"""`python -m samseg` is the command `samseg`: for launchers that start a module, such as `accelerate launch -m`."""

from samseg.cli.main import main

if __name__ == "__main__":
    main()
