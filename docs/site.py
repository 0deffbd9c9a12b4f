"""Pages of the site that are not in this folder, and links that lead out of it: a hook of MkDocs (see mkdocs.yml).

The commands, the configurations and the Python API are read off the code, so these pages cannot differ from it;
CONTRIBUTING.md, CHANGELOG.md and the notebooks are taken from where they lie. Markdown is written for readers of the
repository: links to these files are turned to their pages.
"""

import json
import re
from argparse import HelpFormatter
from pathlib import Path

from mkdocs.structure.files import File

import samseg
from samseg.cli.main import COMMANDS, parser_of
from samseg.encoders.adapters.methods import described
from samseg.runs.config.keys import documented
from samseg.runs.config.schema import RunConfig
from samseg.runs.config.shipped import shipped

ROOT = Path(__file__).parents[1]
LINKS = {  # as they stand in the Markdown, and as they lead to the site's pages
    r"(?:\.\./)?CONTRIBUTING\.md": "contributing.md",
    r"(?:\.\./)?CHANGELOG\.md": "changelog.md",
    r"(?:\.\./)?configs/": "configurations.md",
    r"(?:\.\./)?configs/(\w+)\.yaml": r"configurations.md#\1",
    r"(?:\.\./)?notebooks/(\w+)\.ipynb": r"notebooks/\1.md",
    r"(?:\.\./)?docs/([\w-]+\.md)": r"\1",
}
CONTRACTS = (  # what an extension implements or meets, beside what `samseg` itself offers
    "samseg.encoders.register",
    "samseg.encoders.adapters.adapter.Adapter",
    "samseg.data.sources.source.Source",
    "samseg.tasks.task.Task",
    "samseg.common.errors.InputError",
    "samseg.common.errors.ConfigError",
    "samseg.common.errors.WeightsError",
    "samseg.common.errors.Terminated",
)


def on_files(files, config):
    """MkDocs' event: add the generated pages."""
    pages = {
        "commands.md": commands(),
        "configurations.md": configurations(),
        "python.md": python(),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    }
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        pages[f"notebooks/{notebook.stem}.md"] = page_of(notebook)
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """MkDocs' event: turn links into the repository to the pages of this site."""
    up = "../" if "/" in page.file.src_uri else ""
    for written, led in LINKS.items():
        markdown = re.sub(rf"\]\((?:{written})(#[\w-]+)?\)", lambda m, led=led: f"]({up}{m.expand(led)})", markdown)
    return markdown


def commands() -> str:
    """`samseg COMMAND --help` of every command."""
    parts = ["# Commands\n\n`samseg COMMAND --help` says the same.\n"]
    for name, command in COMMANDS.items():
        parser = parser_of(name)
        parser.formatter_class = _as_written(parser.formatter_class)
        parts.append(f"## {name}\n\n{command.__doc__.strip()}\n\n```text\n{parser.format_help().strip()}\n```\n")
    return "\n".join(parts)


def _as_written(formatter: type[HelpFormatter]):
    return lambda prog: formatter(prog, width=110, max_help_position=32)


def configurations() -> str:
    """The shipped configurations and every key."""
    parts = ["# Configurations\n\n`samseg config` lists them, `samseg config NAME > my.yaml` copies one.\n"]
    for name, path in shipped().items():
        parts.append(f"## {name}\n\n```yaml\n{path.read_text(encoding='utf-8').strip()}\n```\n")
    parts.append(f"## Every key\n\n`samseg config --keys`.\n\n```yaml\n{documented(RunConfig)}\n```\n")
    parts.append(f"Adapters (`model.adapter`):\n\n```yaml\n{described()}\n```\n")
    return "\n".join(parts)


def python() -> str:
    """The public names of `samseg`, by their docstrings."""
    parts = ["# Python\n\nThe names of `samseg`; everything else may move.\n"]
    for name in samseg.__all__:
        if name != "__version__":
            target = getattr(samseg, name)
            parts.append(_documented(f"{target.__module__}.{name}", f"samseg.{name}"))
    parts.append("## For extensions\n\nWhat [adding to samseg](contributing.md) builds on.\n")
    parts += [_documented(path, path) for path in CONTRACTS]
    return "\n".join(parts)


def _documented(path: str, heading: str) -> str:
    return f"::: {path}\n    options:\n      heading: {heading}\n      toc_label: {heading}\n"


def page_of(notebook: Path) -> str:
    """A notebook as Markdown, with the pictures that are saved in it."""
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            pictures = [kind for kind in ("image/png", "image/jpeg") if kind in data]
            if pictures:
                parts.append(f"![](data:{pictures[0]};base64,{''.join(data[pictures[0]].split())})")
            else:
                text = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f"```text\n{text.strip()}\n```")
    return "\n\n".join(parts) + "\n"
