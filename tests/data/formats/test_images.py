"""Reading images and masks as users have them: every kind of file, orientation, depth and damage."""

import io

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from samseg.common.errors import InputError
from samseg.data.classes import parse_classes
from samseg.data.formats import images
from samseg.data.formats.images import image_shape, read_label

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)


def read_image(path) -> np.ndarray:
    """(H, W, C), as arrays are looked at here."""
    return np.moveaxis(images.read_image(path).pixels, 0, -1)


def save(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.TIFF"])
def test_lossless_images_are_read_exactly(tmp_path, name):
    assert np.array_equal(read_image(save(tmp_path / name, RGB)), RGB)
    assert np.array_equal(read_image(save(tmp_path / name, GREY)), GREY[..., None])


def test_alpha_is_a_band_and_not_blended(tmp_path):
    rgba = np.dstack([RGB, np.zeros((5, 7), np.uint8)])
    assert np.array_equal(read_image(save(tmp_path / "a.png", rgba)), rgba)


def test_palettes_and_cmyk_become_rgb_and_one_bit_grey(tmp_path):
    black_white = (GREY > 127).astype(np.uint8)[..., None] * 255
    assert np.array_equal(read_image(save(tmp_path / "a.png", GREY > 127)), black_white)
    palette = Image.fromarray(RGB).quantize(8)
    palette.save(tmp_path / "p.png")
    assert np.array_equal(read_image(tmp_path / "p.png"), np.array(palette.convert("RGB")))
    assert read_image(save(tmp_path / "c.jpg", RGB, "CMYK")).shape == (5, 7, 3)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_upright_by_their_exif_tag(tmp_path, name, orientation):
    quadrants = np.zeros((32, 64, 3), np.uint8)
    quadrants[:16, :32], quadrants[:16, 32:], quadrants[16:, :32] = 200, 140, 80
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / name, quadrants, exif=exif)
    # EXIF 2.3, section 4.6.4: where row 0 and column 0 of the stored image lie on the upright one.
    upright = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a),
    }[orientation](quadrants)
    got = read_image(path)
    assert got.shape == upright.shape
    assert np.abs(got.astype(int) - upright).max() < 10
    assert image_shape(path) == upright.shape[:2]
    if not name.endswith("jpg"):
        assert np.array_equal(read_label(path), upright[..., 0])


def test_the_first_page_of_a_tiff_counts(tmp_path):
    pages = [Image.fromarray(RGB), Image.fromarray(RGB // 2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert np.array_equal(read_image(tmp_path / "a.tif"), RGB)


def test_a_map_of_a_fifth_of_a_gigapixel_is_no_attack(tmp_path):
    path = tmp_path / "big.png"
    Image.new("1", (20000, 10000)).save(path)  # PIL alone refuses to open more than 180 megapixels
    assert image_shape(path) == (10000, 20000)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_images_of_16_bits_keep_all_of_them(tmp_path, name, shape):
    deep = RNG.integers(0, 65536, shape, dtype=np.uint16)
    stored = deep if len(shape) == 2 else deep[..., [2, 1, 0, 3][: shape[2]]]  # OpenCV writes BGR
    cv2.imwrite(str(tmp_path / name), stored, [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    got = read_image(tmp_path / name)
    assert got.dtype == np.uint16 and np.array_equal(got, deep.reshape(5, 7, -1))
    assert image_shape(tmp_path / name) == (5, 7)


DTYPES = ["uint8", "uint16", "int16", "float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bands, planar", [(1, "contig"), (2, "contig"), (4, "contig"), (4, "separate"), (7, "contig")])
@pytest.mark.parametrize("tile, compression", [(None, None), (None, "zlib"), ((16, 32), "zlib")])
def test_tiff_of_any_depth_and_bands_whole_and_in_windows(tmp_path, dtype, bands, planar, tile, compression):
    pixels = (RNG.random((bands, 41, 53)) * 250 - (100 if dtype == "int16" else 0)).astype(dtype)
    stored = pixels[0] if bands == 1 else pixels if planar == "separate" else np.moveaxis(pixels, 0, -1)
    layout = {"planarconfig": planar} if bands > 1 else {}
    layout |= {"tile": tile} if tile else {"rowsperstrip": 7}
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", compression=compression, **layout)
    got = images.read_image(tmp_path / "a.tif")
    assert got.pixels.dtype == dtype and np.array_equal(got.pixels, pixels) and got.valid is None
    assert image_shape(tmp_path / "a.tif") == (41, 53)
    for top, left, height, width in [(0, 0, 41, 53), (40, 52, 1, 1), (6, 15, 9, 18), (14, 31, 3, 2)]:
        part = images.read_image(tmp_path / "a.tif", (top, left, height, width)).pixels
        assert np.array_equal(part, pixels[:, top : top + height, left : left + width])


def test_a_window_reads_only_the_strips_it_touches(tmp_path):
    pixels = RNG.integers(0, 9999, (64, 50), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, rowsperstrip=8, compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offsets, counts = file.pages[0].dataoffsets, file.pages[0].databytecounts
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[offsets[5] : offsets[5] + counts[5]] = bytes(counts[5])  # rows 40 to 47 are damaged
    (tmp_path / "a.tif").write_bytes(content)
    assert np.array_equal(images.read_image(tmp_path / "a.tif", (30, 3, 10, 20)).pixels[0], pixels[30:40, 3:23])
    with pytest.raises(InputError, match="a.tif cannot be read"):
        images.read_image(tmp_path / "a.tif", (30, 3, 11, 20))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_tiff_stands_upright_as_a_shallow_one_does(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "shallow.tif", RGB, exif=exif)
    tag = [(274, "H", 1, orientation, False)]
    tifffile.imwrite(tmp_path / "deep.tif", RGB.astype(np.uint16), photometric="rgb", extratags=tag)
    upright = read_image(tmp_path / "shallow.tif")
    assert np.array_equal(read_image(tmp_path / "deep.tif"), upright)
    assert image_shape(tmp_path / "deep.tif") == upright.shape[:2]
    part = images.read_image(tmp_path / "deep.tif", (1, 2, 3, 2)).pixels
    assert np.array_equal(np.moveaxis(part, 0, -1), upright[1:4, 2:4])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_nodata_is_where_all_bands_hold_it_or_any_of_floating_point(tmp_path, dtype):
    pixels = RNG.integers(1, 99, (5, 7, 3)).astype(dtype)
    pixels[1, 2], pixels[3, 4, 0] = 0, 0
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extratags=[(42113, "s", 0, "0", False)])
    valid = images.read_image(tmp_path / "a.tif").valid
    assert np.argwhere(~valid).tolist() == [[1, 2]] + ([[3, 4]] if dtype == "float32" else [])
    assert images.read_image(tmp_path / "a.tif", (4, 0, 1, 7)).valid is None
    assert images.may_lack_data(tmp_path / "a.tif")


def test_a_compression_that_needs_more_names_it(tmp_path):
    cv2.imwrite(str(tmp_path / "a.tif"), RGB.astype(np.uint16), [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r"a.tif cannot be read: .*LZW.*samseg-smp\[tiff\]"):
            read_image(tmp_path / "a.tif")
    cv2.imwrite(str(tmp_path / "b.tif"), GREY.astype(np.uint16) * 257, [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    assert np.array_equal(read_label(tmp_path / "b.tif"), GREY.astype(np.uint16) * 257)


@pytest.mark.parametrize(
    "options",
    [
        {"format": "PNG"},
        {"format": "JPEG"},
        {"format": "TIFF"},
        {"format": "TIFF", "compression": "tiff_lzw"},
        {"format": "TIFF", "compression": "tiff_adobe_deflate"},
        {"format": "TIFF", "compression": "jpeg"},
    ],
    ids=lambda options: "-".join(options.values()),
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_truncated_image_is_named_wherever_it_was_cut(tmp_path, options):
    whole = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(whole, **options)
    whole, path = whole.getvalue(), tmp_path / "cut.png"
    path.write_bytes(whole)
    expected = read_image(path)
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        try:
            got = read_image(path)
        except InputError as error:
            assert "cut.png" in str(error) and "\n" not in str(error)
        else:  # only what decoders do not need may be missing
            assert np.array_equal(got, expected)


def test_files_that_are_no_images(tmp_path):
    for name, content in (("empty.png", b""), ("text.jpg", b"hello"), ("zeros.tif", bytes(100))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} (cannot be read|is empty|holds|begins)"):
            read_image(tmp_path / name)
    with pytest.raises(InputError, match="no such file: .*gone.png"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(InputError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_masks_keep_their_values(tmp_path, name):
    assert np.array_equal(read_label(save(tmp_path / name, GREY)), GREY)
    wide = RNG.integers(0, 2**16, (5, 7), dtype=np.uint16)
    got = read_label(save(tmp_path / name, wide))
    assert got.dtype == np.uint16 and np.array_equal(got, wide)
    assert np.array_equal(read_label(save(tmp_path / name, np.dstack([GREY] * 3))), GREY)
    assert np.array_equal(read_label(save(tmp_path / name, RGB)), RGB)


def test_a_palette_mask_gives_indices_or_its_colours(tmp_path):
    indices = RNG.integers(0, 3, (5, 7), dtype=np.uint8)
    palette = Image.fromarray(indices).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    palette.save(tmp_path / "a.png", transparency=0)
    assert np.array_equal(read_label(tmp_path / "a.png"), indices)
    table = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
    assert np.array_equal(read_label(tmp_path / "a.png", colours=True), table[indices])


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_white_is_255_in_a_mask_of_one_bit(tmp_path, name):
    assert np.array_equal(read_label(save(tmp_path / name, GREY > 127)), (GREY > 127) * 255)


def test_an_alpha_channel_is_dropped_where_it_hides_nothing(tmp_path):
    opaque = np.full((5, 7), 255, np.uint8)
    assert np.array_equal(read_label(save(tmp_path / "a.png", np.dstack([GREY, opaque]))), GREY)
    assert np.array_equal(read_label(save(tmp_path / "a.png", np.dstack([RGB, opaque]))), RGB)
    opaque[2, 3] = 254
    for layers in ([GREY, opaque], [RGB, opaque]):
        with pytest.raises(InputError, match="a.png has transparent pixels"):
            read_label(save(tmp_path / "a.png", np.dstack(layers)))


def test_masks_of_32_bits_are_read_if_their_values_are_whole_and_small(tmp_path):
    path = tmp_path / "a.tif"
    for values in (GREY.astype(np.int32) * 257, GREY.astype(np.float32)):
        assert np.array_equal(read_label(save(path, values)), values)
    for bad in (-1, 65536, 0.5, np.nan, np.inf):
        values = GREY.astype(np.float32)
        values[1, 1] = bad
        with pytest.raises(InputError, match="a.tif holds values that are not whole numbers from 0 to 65535"):
            parse_classes({"all": list(range(256))}, [])(read_label(save(path, values)), path)


def test_masks_that_cannot_be_masks(tmp_path):
    with pytest.raises(InputError, match="a.jpg is JPEG-compressed, which smooths labels"):
        read_label(save(tmp_path / "a.jpg", GREY))
    with pytest.raises(InputError, match="is JPEG-compressed"):
        read_label(save(tmp_path / "a.png", GREY, format="JPEG"))
    with pytest.raises(InputError, match="is JPEG-compressed"):
        read_label(save(tmp_path / "a.tif", np.dstack([GREY] * 3), compression="jpeg"))
    with pytest.raises(InputError, match="more than 8 bits a channel"):
        cv2.imwrite(str(tmp_path / "b.png"), RGB.astype(np.uint16))
        read_label(tmp_path / "b.png")
    with pytest.raises(InputError, match="more than 8 bits a channel"):
        read_label(save(tmp_path / "c.png", GREY.astype(np.uint16)), colours=True)


VALUES = np.array([[0, 1, 2, 0, 255], [3, 3, 0, 1, 1]], np.uint8)


@pytest.mark.parametrize("name", ["a.bmp", "a.GIF", "a.npy", "a.PNG"])
def test_labels_of_other_formats_hold_the_values_that_were_saved(tmp_path, name):
    path = tmp_path / name
    np.save(path, VALUES) if name.endswith("npy") else save(path, VALUES)
    assert np.array_equal(read_label(path), VALUES)
    assert np.array_equal(read_label(path, (1, 0, 1, 4)), VALUES[1:, :4])
    assert images.orientation(path) == 1


@pytest.mark.parametrize("name", ["a.bmp", "a.gif", "a.npy"])
def test_labels_of_other_formats_in_colours_and_of_two_values(tmp_path, name):
    red = np.zeros((4, 6, 3), np.uint8)
    red[1:3, 2:5, 0] = 255
    path = tmp_path / name
    np.save(path, red) if name.endswith("npy") else save(path, red)
    assert np.array_equal(read_label(path, colours=True), red)
    black_white = red[..., 0] > 0
    np.save(path, black_white) if name.endswith("npy") else save(path, black_white)
    expected = black_white * np.uint8(1 if name.endswith("npy") else 255)
    assert read_label(path).dtype == np.uint8 and np.array_equal(read_label(path), expected)


def test_a_gif_of_a_palette_of_colours_gives_its_indices(tmp_path):
    label = Image.fromarray(VALUES % 4, "P")
    label.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    label.save(tmp_path / "a.gif", optimize=False)
    assert np.array_equal(read_label(tmp_path / "a.gif"), VALUES % 4)


def test_npy_of_one_channel_and_of_wide_numbers(tmp_path):
    for array in (VALUES[None], VALUES[..., None], VALUES.astype(np.int64)):
        np.save(tmp_path / "a.npy", array)
        assert np.array_equal(read_label(tmp_path / "a.npy"), VALUES)


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros(5), r"is an array \(5,\) of float64; a mask is one of \(H, W\) numbers"),
        (np.zeros((2, 3, 4, 5)), "a mask is one of"),
        (np.zeros((4, 4, 3)), r"is an array \(4, 4, 3\) of float64"),
        (np.array([["a"]]), "of <U1"),
        (np.array({"masks": 1}), "is no array in NumPy's format"),
    ],
)
def test_npy_that_is_no_label_is_one_line(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=message) as error:
        read_label(tmp_path / "a.npy")
    assert "\n" not in str(error.value)


def test_damaged_npy_and_moving_gif_are_one_line(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-3])
    with pytest.raises(InputError, match="a.npy is no array in NumPy's format, or is damaged"):
        read_label(tmp_path / "a.npy")
    frames = [Image.fromarray(VALUES), Image.fromarray(VALUES[::-1].copy())]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="a.gif has 2 pages, and a mask has one"):
        read_label(tmp_path / "a.gif")
