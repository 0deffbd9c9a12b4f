"""Sources: where images and labels come from. One more is one file, one row, and its keys in `DataConfig`."""

from pathlib import Path
from typing import TYPE_CHECKING

from samseg.data.sources.coco import CocoSource
from samseg.data.sources.folders import FolderSource
from samseg.data.sources.source import Source
from samseg.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from samseg.data.config import DataConfig

SOURCES: dict[str, type[Source]] = {"folders": FolderSource, "coco": CocoSource}


def source_class(name: str) -> type[Source]:
    """The source called ``name``; ConfigError for one that there is not."""
    if name not in SOURCES:
        raise ConfigError(f"data.source must be one of {', '.join(SOURCES)}, got {name!r}{did_you_mean(name, SOURCES)}")
    return SOURCES[name]


def open_source(data: "DataConfig", split: str) -> Source:
    """The images and labels of a split; InputError where they are not as the source needs them."""
    return source_class(data.source)(data.root, split, source_settings(data))


def split_images(data: "DataConfig", split: str) -> list[Path]:
    """The image files of a split, labelled or not; InputError where there are none to be had."""
    return source_class(data.source).images(data.root, split, source_settings(data))


def source_settings(data: "DataConfig") -> object | None:
    """The chosen source's own section of the configuration."""
    section = source_class(data.source).section
    return None if section is None else getattr(data, section)
