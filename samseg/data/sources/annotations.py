"""What annotation files say of images and objects, checked, and what is remarked of it."""

import json
from typing import Any

from samseg.common.errors import InputError

NOTHING_DRAWN = "of which no pixel lies in the image, so nothing is drawn"  # a remark on an object


def as_side(value: Any, key: str, where: str) -> int | None:
    """The width or height in pixels that an annotation file says of an image; None where it says nothing (null)."""
    if value is None:
        return None
    if isinstance(value, (int, float)) and 1 <= value < 2**31 and value % 1 == 0:
        return int(value)
    raise InputError(f"{where} has {key} {json.dumps(value)}; write the image's, a number of pixels, or leave it out")


def as_name(value: Any, where: str) -> str:
    """A category's name; a whole number is its digits."""
    if isinstance(value, str) or type(value) is int:
        return str(value)
    raise InputError(f"{where} has the name {json.dumps(value)}; names are text")
