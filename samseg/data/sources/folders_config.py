"""What a configuration says of folders of images and masks, under the key `data.folders`."""

from dataclasses import dataclass

from samseg.data.sources.places import Pattern


@dataclass
class FoldersConfig:
    """Where a split's files lie under data.root, and what they are called.

    {split} stands for train, val or test; {name} for what an image and its mask share, and **/{name} includes folders
    inside the folder. Without an ending it is any of PNG, TIFF and JPEG, of masks also of BMP, GIF and NPY. Cityscapes
    is images: "leftImg8bit/{split}/**/{name}_leftImg8bit.png", masks: "gtFine/{split}/**/{name}_gtFine_labelIds.png".
    """

    images: str = "{split}/images/{name}"  # {name}: what an image and its mask share; **/{name}: also in folders inside
    masks: str | None = "{split}/masks/{name}"  # null: there are instances alone
    instances: str | None = "{split}/instances/{name}"  # files that number the objects; used where the folder is there
    names: str | None = None  # a text file of those names that are used, one a line; null: all are


def patterns_of(settings: FoldersConfig) -> dict[str, Pattern]:
    """The patterns of image, mask and instance, of those that there are; ConfigError for what is none."""
    keys = {"image": "images", "mask": "masks", "instance": "instances"}
    written = {kind: (f"data.folders.{key}", getattr(settings, key)) for kind, key in keys.items()}
    return {kind: Pattern(key, text) for kind, (key, text) in written.items() if text is not None}
