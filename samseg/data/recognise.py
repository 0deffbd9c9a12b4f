"""Which source the files under a root are for, and how they lie."""

from collections import Counter
from pathlib import Path

from samseg.common.errors import InputError
from samseg.data.config import DataConfig
from samseg.data.sources import SOURCES
from samseg.data.sources.source import Layout

LOOKED_AT = 10_000  # files that are counted to say what a folder holds


def recognise(data: DataConfig) -> Layout | None:
    """Fill in, in place, what is left out of ``data.source`` and its section by what lies under ``data.root``.

    A section that is given says the source. Returns the layout where one was looked for and found.
    """
    if data.source is not None:
        return None
    default = DataConfig()
    for name, source in SOURCES.items():
        if source.section is not None and getattr(data, source.section) != getattr(default, source.section):
            data.source = name
            return None
    root = Path(data.root).expanduser()
    for name, source in SOURCES.items() if root.is_dir() else ():
        if (layout := source.recognise(root)) is not None:
            data.source = name
            if source.section is not None:
                setattr(data, source.section, layout.settings)
            return layout
    return None


def unrecognised(root: Path) -> InputError:
    """The error for a folder in which nothing is recognised: what it holds, and what would be."""
    files = [file for file, _ in zip(root.rglob("[!.]*.*"), range(LOOKED_AT), strict=False) if file.is_file()]
    kinds = Counter((file.suffix.lower(), file.parent.relative_to(root).as_posix()) for file in files)
    held = ", ".join(f"{count} {ending} in {folder}" for (ending, folder), count in kinds.most_common(6))
    more = ", ..." if len(kinds) > 6 else ""
    return InputError(
        f"{root} holds {held or 'no files'}{more}, and no images with labels that are recognised: masks called as "
        "their images (train/images/a.jpg and train/masks/a.png, or a.jpg and a_mask.png), or annotations of COCO, "
        "labelme, YOLO or Label Studio; data.source and its keys say where others lie (samseg config --keys)"
    )
