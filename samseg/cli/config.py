"""List the shipped configurations, or print one, with its comments."""

from argparse import ArgumentParser, Namespace

EPILOG = """\
examples:
  samseg config                          what there is
  samseg config buildings > my.yaml      one of them, to be changed and trained with: samseg train my.yaml
  samseg config --keys                   every key there is, with its default and what it means
"""


def add_arguments(parser: ArgumentParser) -> None:
    one = parser.add_mutually_exclusive_group()
    one.add_argument("name", metavar="NAME", nargs="?", help="a shipped configuration")
    one.add_argument("--keys", action="store_true", help="every key there is, as YAML")


def run(args: Namespace) -> None:
    from samseg.encoders.adapters.methods import described
    from samseg.runs.config.keys import documented
    from samseg.runs.config.schema import RunConfig
    from samseg.runs.config.shipped import shipped, shipped_config

    if args.keys:
        print(documented(RunConfig))
        print("\n# model.adapter is null or one of these; what is left out has the value given here:")
        print("\n".join(f"# {line}" for line in described().splitlines()))
    elif args.name:
        print(shipped_config(args.name).read_text(encoding="utf-8"), end="")
    else:
        configs = shipped()
        width = max(map(len, configs))
        for name, path in configs.items():
            title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
            print(f"{name:<{width}}   {title}")
        print("\nsamseg config NAME prints one, samseg train NAME trains with it")
