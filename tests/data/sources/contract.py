"""What every source owes: a class of tests for it inherits these, and gives a ``source`` of two images or more."""

import copy
import pickle
from pathlib import Path

import numpy as np

from samseg.data.config import DataConfig, complete_data
from samseg.data.raster import crop
from samseg.data.sources import Source
from samseg.data.sources.source import UNLABELLED


def windows(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """The whole, each corner's pixel, a row, a column and a part within."""
    inner = (height // 3, width // 4, max(1, height // 2), max(1, width // 3))
    corners = [(top, left, 1, 1) for top in (0, height - 1) for left in (0, width - 1)]
    return [(0, 0, height, width), (height // 2, 0, 1, width), (0, width // 2, height, 1), inner, *corners]


def config(source: str, root: Path, **settings) -> DataConfig:
    """Of cells on plates, as tests of annotations have them."""
    classes = {"nothing": None, "cell": "cell", "plate": "plate"}
    return complete_data(DataConfig(**{"source": source, "root": str(root), "classes": classes} | settings))


class SourceContract:
    def test_names_are_sorted_and_once(self, source: Source):
        assert len(source.names) >= 2 and source.names == sorted(set(source.names))

    def test_images_labels_and_objects_are_of_one_size(self, source):
        for name in source.names:
            height, width = source.shape(name)
            pixels, valid = source.image(name)
            assert pixels.ndim == 3 and pixels.shape[1:] == (height, width) and pixels.dtype.kind in "uif"
            assert valid is None or (valid.shape == (height, width) and valid.dtype == bool and not valid.all())
            assert source.label(name).shape == (height, width)
            objects = source.instances(name)
            assert objects is None or (objects.shape == (height, width) and objects.dtype == np.int32)

    def test_a_window_is_that_part_of_the_whole(self, source):
        for name in source.names:
            whole, label, objects = source.image(name), source.label(name), source.instances(name)
            for window in windows(*source.shape(name)):
                part = source.image(name, window)
                assert np.array_equal(part.pixels, crop(whole.pixels, window), equal_nan=whole.pixels.dtype.kind == "f")
                assert part.pixels.dtype == whole.pixels.dtype
                valid = np.ones(source.shape(name), bool) if whole.valid is None else whole.valid
                assert np.array_equal(np.bool_(True) if part.valid is None else part.valid, crop(valid, window)) or (
                    part.valid is None and crop(valid, window).all()
                )
                assert np.array_equal(source.label(name, window), crop(label, window))
                assert objects is None or np.array_equal(source.instances(name, window), crop(objects, window))

    def test_pixels_that_lack_data_are_foretold(self, source):
        for name in source.names:
            pixels, valid = source.image(name)
            if valid is not None or not np.isfinite(pixels).all():
                assert source.may_lack_data(name)

    def test_digests_tell_images_apart(self, source):
        digests = [source.digest(name) for name in source.names]
        assert all(len(digest) == 32 and int(digest, 16) >= 0 for digest in digests)
        assert digests == [source.digest(name) for name in source.names]
        pixels = [source.image(name).pixels for name in source.names]
        for i, one in enumerate(pixels):
            for j, other in enumerate(pixels[:i]):
                assert np.array_equal(one, other) or digests[i] != digests[j]

    def test_files_are_there_to_be_named(self, source):
        for name in source.names:
            assert source.image_file(name).is_file() and source.describe_label(name)

    def test_labels_hold_the_numbers_of_their_categories(self, source):
        if source.named:
            assert source.categories and all(count >= 0 for count in source.categories.values())
            for name in source.names:
                label = source.label(name)
                assert label[label != UNLABELLED].max(initial=0) <= len(source.categories)

    def test_a_copy_in_another_process_gives_the_same(self, source):
        for twin in (pickle.loads(pickle.dumps(source)), copy.deepcopy(source)):
            assert twin.names == source.names and twin.categories == source.categories
            for name in source.names:
                assert np.array_equal(twin.label(name), source.label(name))

    def test_its_images_are_found_without_labels(self, source, root):
        """``root``: where the source of the test lies, of the split ``train``."""
        found = type(source).images(root, "train", source.settings)
        assert {source.image_file(name).resolve() for name in source.names} <= {file.resolve() for file in found}
