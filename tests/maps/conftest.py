"""Small rasters, and networks whose answers are known."""

import pytest

pytest.importorskip("rasterio")
