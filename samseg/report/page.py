"""Sections to one HTML file: style, script and pictures are in it, and it asks for nothing."""

import base64
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from samseg.report.charts import legend, scatter, svg
from samseg.tasks.sections import Gallery, Picture, Section, Table, Text

HALF_COLUMNS = 64  # letters of code that half of the page is wide


@dataclass(frozen=True)
class Page:
    """A title, a line under it, and groups of sections, each under a heading."""

    title: str
    lead: str
    groups: list[tuple[str, list[Section]]]


def render(page: Page) -> str:
    """The page as HTML."""
    return _template().render(page=page, style=_own("style.css"), script=_own("script.js"))


@lru_cache(maxsize=1)
def _template():
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "svg": svg,
        "scatter": scatter,
        "legend": legend,
        "address": _address,
        "kind": lambda it: type(it).__name__,
    }
    environment.filters["shares"] = lambda counts: [[n / max(1, row.sum()) for n in row] for row in counts]
    environment.tests["broad"] = _is_broad
    return environment.from_string(_own("page.html"))


def _is_broad(section: Section) -> bool:
    """Whether it needs the page's whole width."""
    if isinstance(section, Text):
        return max(map(len, section.text.splitlines()), default=0) > HALF_COLUMNS
    return isinstance(section, Gallery) or (isinstance(section, Table) and len(section.head) > 5)


def _own(name: str) -> Markup:
    return Markup(files(__package__).joinpath(name).read_text(encoding="utf-8"))


def _address(picture: Picture) -> str:
    """The picture itself, where a page wants an address."""
    kind = "png" if picture.data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture.data).decode()}"
