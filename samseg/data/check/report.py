"""The table of what a data set holds."""

from dataclasses import dataclass, field

from samseg.common.text_table import text_table

Size = tuple[int, int]  # (H, W) in pixels


@dataclass
class SplitReport:
    """Counts over one split; the lists have an entry a class."""

    images: int
    pixels: list[int]
    occurs: list[int]  # images that hold the class
    ignored: int  # pixels
    sizes: tuple[Size, Size] | None  # of the smallest image and of the largest; None: there are none


@dataclass
class Report:
    """What a data set holds; ``print(report)`` shows the table of class shares by split, and what looks wrong.

    Of a data set of which no split can be read there is no table.
    """

    classes: list[str]
    splits: dict[str, SplitReport]
    contents: dict[str, str]  # "SPLIT/NAME": a digest of the image and its classes
    warnings: list[str] = field(default_factory=list)

    def class_pixels(self, split: str) -> list[int]:
        """Pixels of each class in ``split``."""
        return self.splits[split].pixels

    def images(self, split: str) -> int:
        return self.splits[split].images

    def rows(self) -> list[list[str]]:
        """The table's rows, each its name and a cell for each split."""
        splits = self.splits.values()
        rows = [
            [name, *(f"{_share(s.pixels[index], sum(s.pixels))} ({s.occurs[index]})" for s in splits)]
            for index, name in enumerate(self.classes)
        ]
        rows.append(["ignored, of all", *(_share(s.ignored, s.ignored + sum(s.pixels)) for s in splits)])
        rows.append(["images", *(str(s.images) for s in splits)])
        rows.append(["width x height", *(_sizes(s.sizes) for s in splits)])
        return rows

    def __str__(self) -> str:
        warnings = [f"warning: {warning}" for warning in dict.fromkeys(self.warnings)]  # splits may share a file
        if not self.splits:
            return "\n".join(warnings)
        shares = text_table([["share of pixels (in images)", *self.splits], *self.rows()])
        return "\n".join([shares, *warnings])


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "-"


def _sizes(sizes: tuple[Size, Size] | None) -> str:
    """ "64 x 40", or of different images "20 x 30 to 64 x 64"."""
    if sizes is None:
        return "-"
    return " to ".join(dict.fromkeys(f"{width} x {height}" for height, width in sizes))
