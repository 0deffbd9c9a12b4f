"""Sources: where images and labels come from. One more is one file, one row, and its keys in `DataConfig`."""

from samseg.common.errors import ConfigError, did_you_mean
from samseg.data.sources.coco import CocoSource
from samseg.data.sources.fiftyone import FiftyOneSource
from samseg.data.sources.folders import FolderSource
from samseg.data.sources.label_studio import LabelStudioSource
from samseg.data.sources.labelme import LabelmeSource
from samseg.data.sources.maps import MapsSource
from samseg.data.sources.source import Source
from samseg.data.sources.yolo import YoloSource

SOURCES: dict[str, type[Source]] = {
    "folders": FolderSource,
    "coco": CocoSource,
    "yolo": YoloSource,
    "label-studio": LabelStudioSource,
    "labelme": LabelmeSource,
    "maps": MapsSource,
    "fiftyone": FiftyOneSource,
}


def source_class(name: str | None) -> type[Source]:
    """The source called ``name``, folders for None; ConfigError for an unknown name."""
    name = name or next(iter(SOURCES))
    if name not in SOURCES:
        raise ConfigError(f"data.source must be one of {', '.join(SOURCES)}, got {name!r}{did_you_mean(name, SOURCES)}")
    return SOURCES[name]
