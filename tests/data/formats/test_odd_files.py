"""Files that are no images, or not one: each is called what it is."""

import numpy as np
import pytest
import tifffile

from samseg.common.errors import InputError
from samseg.data.formats.images import read_image, read_label


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"no picture, but words\n", "holds text, not an image"),
        (bytes(600), "begins with zeros"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "is a WebP file; PNG, TIFF and JPEG images are read: convert it"),
        (b"BM\x36\0\0\0", "is a BMP file"),
        (b"\x89PNG\r\n\x1a\n" + b"\1" * 99, "is damaged"),
        (b"\x1f\x8b\x08" + b"\xfe" * 99, "is no PNG, TIFF or JPEG image"),
    ],
)
def test_what_is_no_image_is_called_what_it_is(tmp_path, content, words):
    (tmp_path / "a.png").write_bytes(content)
    for read in (read_image, read_label):
        with pytest.raises(InputError, match=f"a.png {words}"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("deep", [False, True])
def test_a_mask_of_several_pages(tmp_path, deep):
    mask = np.zeros((4, 5), np.uint16 if deep else np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(mask)
        file.write(mask[::2, ::2], subfiletype=1)  # an overview is no page of its own
    assert read_label(tmp_path / "a.tif").shape == (4, 5)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(mask)
        file.write(mask + 1)
    with pytest.raises(InputError, match="a.tif has 2 pages, and a mask has one"):
        read_label(tmp_path / "a.tif")
